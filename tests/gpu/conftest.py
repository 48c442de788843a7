"""The Triton passes on what the machine has: its GPU, or Triton's interpreter, which runs the same kernels on the CPU.

Triton decides when it is imported, so this file has to be the first that does it.
"""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest
import torch

GPU = torch.cuda.is_available()
TRITON = importlib.util.find_spec("triton") is not None

if TRITON and not GPU:
    assert "triton" not in sys.modules, "triton is imported already, and not as an interpreter"
    os.environ["TRITON_INTERPRET"] = "1"
    import triton

    triton.knobs.runtime.interpret = True
    del os.environ["TRITON_INTERPRET"]  # it is not meant for the processes that tests start


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where the kernels run; the test is skipped where there is no Triton."""
    if not TRITON:
        pytest.skip("Triton is not installed")
    return torch.device("cuda" if GPU else "cpu")
