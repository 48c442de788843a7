"""Compile Triton launches to machine code, without a GPU: `python compile_launches.py LAUNCHES.json ARCHITECTURE`.

The file has lists of a kernel's name, its arguments in order and its constants by name; a tensor is its dtype's name.
Triton's own launcher decides what it compiles them as; only the question which GPU is there is answered here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget

from toolkit.compression import kernels_triton


class Absent:
    """What Triton asks of a driver before it compiles."""

    def __init__(self, architecture: int) -> None:
        self.architecture = architecture

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.architecture, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


triton.runtime.driver.set_active(Absent(int(sys.argv[2])))
for name, arguments, constants in json.loads(Path(sys.argv[1]).read_text()):
    mocked = [getattr(torch, value) if isinstance(value, str) else value for value in arguments]
    compiled = getattr(kernels_triton, name).warmup(*mocked, grid=(1,), **constants)
    print(name, len(compiled.asm["cubin"]))
