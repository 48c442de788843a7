"""Every compressor of the registry on the Triton passes: what it sends and leaves is what it does on the C kernels."""

from __future__ import annotations

import importlib.util
import platform

import numpy as np
import pytest
import torch

from toolkit.compression import Compressor, Context, Payload, SparsePayload, create
from toolkit.experiment import CompressionSection
from toolkit.registry import COMPRESSORS

SPARSE = [name for name in sorted(COMPRESSORS) if COMPRESSORS[name].wire == "sparse" or name == "randomk"]
DATA = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "ties": lambda rng, n: rng.integers(-2, 3, n),
    "sparse": lambda rng, n: rng.standard_normal(n) * (rng.random(n) < 0.05),
    "zeros": lambda rng, n: np.zeros(n),
    "tiny": lambda rng, n: rng.standard_normal(n) * 1e-42,
    "nan": lambda rng, n: np.where(np.arange(n) == n // 2, np.nan, rng.standard_normal(n)),
    "inf": lambda rng, n: np.where(np.arange(n) == n // 2, -np.inf, rng.standard_normal(n)),
}


def make(name: str, elements: int, device: torch.device | None) -> Compressor:
    """On the C kernels, or where a device is given on the Triton passes."""
    compressor = create(CompressionSection(name=name, threshold=1.5), elements)
    if device is not None and device.type == "cpu":  # on a GPU they are what it chooses by itself
        from toolkit.compression.passes_triton import TritonPasses

        compressor.passes = lambda vector: TritonPasses()  # type: ignore[attr-defined]
    return compressor


def assert_alike(found: Payload, expected: Payload, threshold: float | None) -> None:
    """Entry by entry. threshold: None, or one that rests on sums: entries a hair from it may fall on either side."""
    assert isinstance(found, SparsePayload)
    assert isinstance(expected, SparsePayload)
    if threshold is None or torch.equal(found.indices.cpu(), expected.indices):
        np.testing.assert_array_equal(found.indices.cpu().numpy(), expected.indices.numpy())
        np.testing.assert_array_equal(found.values.cpu().numpy(), expected.values.numpy())
        return
    sent, right = found.dense().cpu(), expected.dense()
    assert bool((torch.maximum(sent.abs(), right.abs())[sent != right] <= threshold * (1 + 1e-6)).all())


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("name", SPARSE)
def test_payload_and_residual_are_those_of_the_kernels(device, name: str, data: str) -> None:
    rng = np.random.default_rng(11)
    n = {"normal": 1100, "zeros": 1}.get(data, 200)
    ours, right = make(name, n, device), make(name, n, None)
    residual, expected = torch.zeros(n, device=device), torch.zeros(n)
    for step, density in enumerate((0.01, 0.1, 1.0)):
        gradient = torch.from_numpy(DATA[data](rng, n).astype(np.float32))
        context = Context("bucket", step, density)
        sent = ours.select_feedback(gradient.to(device), residual, context)
        wanted = right.select_feedback(gradient, expected, context)
        assert_alike(sent, wanted, None if COMPRESSORS[name].exact_count else right.telemetry.get("threshold"))
        np.testing.assert_array_equal(residual.cpu() + sent.dense().cpu(), expected + wanted.dense())


def test_triton_is_installed_where_the_requirements_want_it() -> None:
    """The tests of this room are skipped without it: not on Linux, where continuous integration runs."""
    if platform.system() == "Linux":
        assert importlib.util.find_spec("triton") is not None, "run ./run_scripts/setup.sh"


def test_the_kernels_run_as_this_machine_can(device) -> None:
    from toolkit.compression import kernels_triton

    assert type(kernels_triton.take).__name__ == ("JITFunction" if device.type == "cuda" else "InterpretedFunction")
