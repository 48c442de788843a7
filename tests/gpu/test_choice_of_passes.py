"""Which passes a tensor gets, and that nobody without CUDA tensors pays for Triton."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from toolkit.compression.passes import TRITON_LIMIT, KernelPasses, passes_for

WITHOUT_CUDA_TENSORS = """
import sys, torch
import toolkit.compression as c
from toolkit.experiment import CompressionSection
c.create(CompressionSection(name="sidco-gp"), 1000).select(torch.randn(1000), c.Context("b", 0, 0.1))
print([name for name in sys.modules if "triton" in name and not name.startswith("torch")])
"""
WITHOUT_TRITON = """
import sys
sys.modules["triton"] = None  # as good as not installed
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from toolkit.compression.passes import KernelPasses, passes_for
with FakeTensorMode():
    print(type(passes_for(torch.empty(9, device="cuda"), KernelPasses(1))).__name__)
"""


def chosen(**how: object) -> str:
    """Of a CUDA tensor without memory, which needs no GPU."""
    with FakeTensorMode():
        x = torch.empty(9, device="cuda", **how)  # type: ignore[call-overload]
        return type(passes_for(x, KernelPasses(1))).__name__


def test_cuda_tensors_run_in_triton(device) -> None:
    assert chosen() == "TritonPasses"


def test_what_the_kernels_cannot_read_in_place_runs_in_torch_operations(device) -> None:
    assert chosen(dtype=torch.float64) == "TorchPasses"
    with FakeTensorMode():
        strided = torch.empty_strided((9,), (2,), device="cuda")
        assert type(passes_for(strided, KernelPasses(1))).__name__ == "TorchPasses"
        assert type(passes_for(torch.empty(TRITON_LIMIT + 1, device="cuda"), KernelPasses(1))).__name__ == "TorchPasses"


def test_cpu_tensors_run_in_the_c_kernels() -> None:
    kernels = KernelPasses(1)
    assert passes_for(torch.zeros(9), kernels) is kernels


@pytest.mark.parametrize(("program", "said"), [(WITHOUT_CUDA_TENSORS, "[]"), (WITHOUT_TRITON, "TorchPasses")])
def test_triton_is_imported_for_cuda_tensors_only_and_may_be_absent(program: str, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, said), done.stderr[-2000:]
