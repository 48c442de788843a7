"""What an interpreter cannot say: that Triton compiles every launch of the passes to a GPU's machine code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def launches(monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...]) -> list[tuple[str, list[Any], dict[str, int]]]:
    """Every launch that is made by all passes on vectors of these sizes."""
    from triton.runtime.interpreter import InterpretedFunction

    from toolkit.compression.passes_triton import TritonPasses

    seen: list[tuple[str, list[Any], dict[str, int]]] = []
    run = InterpretedFunction.run

    def recorded(self: Any, *arguments: Any, grid: Any, warmup: bool, **constants: int) -> None:
        values = [str(a.dtype).removeprefix("torch.") if isinstance(a, torch.Tensor) else a for a in arguments]
        if (self.__name__, values, constants) not in seen:
            seen.append((self.__name__, values, constants))
        run(self, *arguments, grid=grid, warmup=warmup, **constants)

    monkeypatch.setattr(InterpretedFunction, "run", recorded)
    passes = TritonPasses()
    for n in sizes:
        x = torch.randn(n, generator=torch.Generator().manual_seed(n))
        passes.topk(x, max(1, n // 10))
        passes.topk_feedback(x, x.clone(), max(1, n // 10))
        passes.above_feedback(x, x.clone(), 1.0)
        passes.settle(x.clone(), passes.above(x, 0.5), 9.0, 1.0)
        passes.moments(x)
        passes.moments_feedback(x, x.clone())
        passes.tail_moments(x, 1.0)
    return seen


@pytest.mark.parametrize(("architecture", "sizes"), [(80, (1, 1000)), (90, (1024,))])  # A100, H100
def test_every_launch_compiles(device, architecture: int, sizes: tuple[int, ...], tmp_path, monkeypatch) -> None:
    if device.type == "cuda":
        pytest.skip("the other tests run them compiled here")
    from toolkit.compression import kernels_triton

    made = launches(monkeypatch, sizes)
    every = {name for name, found in vars(kernels_triton).items() if isinstance(found, type(kernels_triton.take))}
    assert {name for name, _, _ in made} == {name for name in every if not name.startswith("_")}
    (tmp_path / "launches.json").write_text(json.dumps(made))
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    script = Path(__file__).with_name("compile_launches.py")
    command = [sys.executable, str(script), str(tmp_path / "launches.json"), str(architecture)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=250, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == len(made)
