"""The Triton passes against the C kernels: selections entry by entry, sums to rounding, whatever the vector."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.compression.passes import KernelPasses, Passes, Selection

SIZES = [0, 1, 2, 3, 15, 16, 17, 31, 33, 97, 128, 129, 200]
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # infinity less infinity
FEW = settings(deadline=None, max_examples=25)  # an interpreted pass takes tens of milliseconds
KERNELS = KernelPasses(1)


def triton_passes(tile: int, programs: int) -> Passes:
    from toolkit.compression.passes_triton import TritonPasses

    return TritonPasses(tile, programs)


@st.composite
def vectors(draw: st.DrawFn, finite: bool = False) -> np.ndarray:
    """Gradient and residual, float32 (2, n)."""
    n = draw(st.sampled_from(SIZES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kinds = ["normal", "heavy", "ties", "equal", "zeros", "sparse", "tiny", *([] if finite else ["broken"])]
    kind = draw(st.sampled_from(kinds))
    both = {
        "normal": lambda: rng.standard_normal((2, n)),
        "heavy": lambda: rng.standard_normal((2, n)) * np.exp(20 * rng.standard_normal((2, n))),
        "ties": lambda: rng.integers(-2, 3, (2, n)),
        "equal": lambda: np.full((2, n), draw(st.floats(-1e6, 1e6, width=32))),
        "zeros": lambda: np.zeros((2, n)) * rng.choice([-1, 1], (2, n)),
        "sparse": lambda: rng.standard_normal((2, n)) * (rng.random((2, n)) < 0.1),
        "tiny": lambda: rng.standard_normal((2, n)) * 1e-42,
        "broken": lambda: rng.choice([1.0, -1.5, np.nan, np.inf, -np.inf, 0.0, 1e-42], (2, n)),
    }[kind]()
    return both.astype(np.float32)


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, int]:
    """Elements of a tile, and programs: such that several of both have to work together."""
    return draw(st.sampled_from([(16, 2), (64, 3), (128, 1), (1024, 1024)]))


def on(device: torch.device, vector: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(vector.copy()).to(device)


def assert_same(a: torch.Tensor, b: torch.Tensor) -> None:
    """Bit for bit, but for the payload of a NaN."""
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a.cpu().numpy(), b.cpu().numpy())
    assert torch.equal(a.nan_to_num().signbit().cpu(), b.nan_to_num().signbit().cpu())


def assert_same_selection(a: Selection, b: Selection) -> None:
    assert a[0].dtype == torch.int32
    assert_same(a[0], b[0])
    assert_same(a[1], b[1])


def threshold_of(x: np.ndarray, kind: str) -> float:
    """Below, at or above the magnitudes that are in the vector."""
    finite = np.abs(x[np.isfinite(x)]).astype(np.float64)
    middle = float(np.sort(finite)[finite.size // 2]) if finite.size else 1.0
    around = {"middle": middle, "a hair above": middle * (1 + 1e-12), "a hair below": middle * (1 - 1e-12)}
    fixed = {"negative": -1.0, "zero": 0.0, "least": 1e-45, "beyond float32": 1e300, "infinity": math.inf}
    return (around | fixed)[kind]


kinds = st.sampled_from(
    ["middle", "a hair above", "a hair below", "negative", "zero", "least", "beyond float32", "infinity"]
)


@FEW
@given(both=vectors(), shape=shapes(), share=st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.99, 1.0]))
def test_exact_topk(device, both, shape, share) -> None:
    passes, k = triton_passes(*shape), math.ceil(share * both.shape[1])
    assert_same_selection(passes.topk(on(device, both[1]), k), KERNELS.topk(torch.from_numpy(both[1]), k))
    gradient, residual, expected = on(device, both[0]), on(device, both[1]), torch.from_numpy(both[1].copy())
    taken = passes.topk_feedback(gradient, residual, k)
    assert_same_selection(taken, KERNELS.topk_feedback(torch.from_numpy(both[0]), expected, k))
    assert_same(residual, expected)
    assert_same(gradient, torch.from_numpy(both[0]))


@FEW
@given(both=vectors(), shape=shapes(), kind=kinds)
def test_selection_above_a_threshold(device, both, shape, kind) -> None:
    passes, threshold, x = triton_passes(*shape), threshold_of(both[1], kind), torch.from_numpy(both[1])
    assert_same_selection(passes.above(on(device, both[1]), threshold), KERNELS.above(x, threshold))
    gradient, residual, expected = on(device, both[0]), on(device, both[1]), x.clone()
    taken = passes.above_feedback(gradient, residual, threshold)
    assert_same_selection(taken, KERNELS.above_feedback(torch.from_numpy(both[0]), expected, threshold))
    assert_same(residual, expected)


@FEW
@given(both=vectors(finite=True), shape=shapes(), kind=kinds)
def test_settling_takes_the_candidates_above_a_threshold(device, both, shape, kind) -> None:
    threshold, results = threshold_of(both[1], kind), []
    for passes, x in ((triton_passes(*shape), on(device, both[1])), (KERNELS, torch.from_numpy(both[1].copy()))):
        candidates = passes.above(x, 0.5 * threshold)
        results.append((*passes.settle(x, candidates, math.inf, threshold), x))
    for found, expected in zip(*results, strict=True):
        assert_same(found, expected)


def assert_close(found: float, expected: float, scale: float) -> None:
    """Equal to the rounding of float64 sums over numbers whose magnitudes add up to `scale`."""
    if math.isfinite(expected):
        assert abs(found - expected) <= 1e-12 * scale
    else:
        assert found == expected or (math.isnan(found) and math.isnan(expected))


@FEW
@given(both=vectors(), shape=shapes())
def test_moments(device, both, shape) -> None:
    passes = triton_passes(*shape)
    gradient, residual, expected = on(device, both[0]), on(device, both[1]), torch.from_numpy(both[1].copy())
    found, right = (
        passes.moments_feedback(gradient, residual),
        KERNELS.moments_feedback(torch.from_numpy(both[0]), expected),
    )
    assert_same(residual, expected)
    assert found == passes.moments(residual) or math.isnan(found.sum)
    assert (found.count, found.nonzero) == (right.count, right.nonzero)
    assert found.max_abs == right.max_abs or math.isnan(right.max_abs)
    assert math.isnan(found.max_abs) == math.isnan(right.max_abs) == math.isnan(passes.largest(residual))
    assert_close(found.sum, right.sum, right.sum_abs)
    assert_close(found.sum_abs, right.sum_abs, right.sum_abs)
    assert_close(found.sum_squares, right.sum_squares, right.sum_squares)
    assert_close(found.sum_log, right.sum_log, 100.0 * right.count)


@FEW
@given(both=vectors(), shape=shapes(), kind=kinds, reach=st.sampled_from([1.0, 1.5, math.inf]))
def test_tail_moments(device, both, shape, kind, reach) -> None:
    x, threshold = torch.from_numpy(both[1]), threshold_of(both[1], kind)
    limit = reach * threshold if threshold > 0.0 else math.inf
    found = triton_passes(*shape).tail_moments(on(device, both[1]), threshold, limit)
    right = KERNELS.tail_moments(x, threshold, limit)
    scale = float(x.abs().nan_to_num().max()) + abs(threshold) if right[0] else 0.0
    assert found[0] == right[0]
    assert_close(found[1], right[1], scale * right[0])
    assert_close(found[2], right[2], scale * scale * right[0])


def test_tiles_and_programs_do_not_matter(device) -> None:
    """5000 elements in 79 tiles for 2 programs, and in 5 tiles."""
    x = on(device, np.random.default_rng(3).standard_normal(5000).astype(np.float32))
    small, large = triton_passes(64, 2), triton_passes(1024, 1024)
    assert_same_selection(small.topk(x, 77), large.topk(x, 77))
    assert_same_selection(small.above(x, 2.0), large.above(x, 2.0))
    assert_close(small.moments(x).sum_log, large.moments(x).sum_log, 5000.0)
    assert large.moments(x) == large.moments(x)


def test_a_program_never_takes_more_tiles_than_its_products_bear(device) -> None:
    """One program is asked for, 513 tiles of mantissas just below 2 would overflow: it is given a second."""
    x = on(device, np.full(513 * 16, np.nextafter(np.float32(2), np.float32(0)), np.float32))
    found = triton_passes(16, 1).moments(x)
    assert_close(found.sum_log, x.numel() * math.log(2), 1e6 * x.numel() * math.log(2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("k", [25_600, 256_000, 2_560_000])
def test_large_vectors_on_a_gpu(device, k: int) -> None:
    """25.6 M elements, the size of ResNet-50."""
    x = torch.randn(25_600_001, generator=torch.Generator().manual_seed(k))
    passes = triton_passes(1024, 1024)
    assert_same_selection(passes.topk(x.to(device), k), KERNELS.topk(x, k))
    assert_same_selection(passes.above(x.to(device), 2.0), KERNELS.above(x, 2.0))
    found, right = passes.moments(x.to(device)), KERNELS.moments(x)
    assert found == passes.moments(x.to(device))
    assert_close(found.sum_abs, right.sum_abs, right.sum_abs)
    assert_close(found.sum_log, right.sum_log, 100.0 * right.count)


def test_a_threshold_that_is_no_number_is_refused(device) -> None:
    with pytest.raises(ValueError, match="threshold = nan: any number is allowed"):
        triton_passes(16, 2).above(on(device, np.ones(3, np.float32)), math.nan)
