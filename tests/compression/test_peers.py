"""The peers of SIDCo: DGC, RedSync, GaussianK and StellaTrain's thresholds keep the bounds that their papers give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.compression import Compressor, Context, SparsePayload, create, thresholdv
from toolkit.compression.passes import KernelPasses
from toolkit.compression.passes_torch import TorchPasses
from toolkit.compression.tail import Tail, nth_largest, strided_sample
from toolkit.compression.thresholdv import BLOCK, ThresholdV
from toolkit.experiment import CompressionSection

N = 100_000
DATA = {
    "laplace": lambda rng, n: rng.laplace(size=n),
    "normal": lambda rng, n: rng.standard_normal(n),
    "student": lambda rng, n: rng.standard_t(3, size=n),
    "mostly zero": lambda rng, n: rng.standard_normal(n) * (rng.random(n) < 0.4),
    "two scales": lambda rng, n: rng.standard_normal(n) * np.where(np.arange(n) < n // 4, 100.0, 1.0),
}
CASES = [(data, density) for data in DATA for density in (0.1, 0.01, 0.001)]


def sample(data: str, seed: int = 0, n: int = N) -> torch.Tensor:
    return torch.from_numpy(DATA[data](np.random.default_rng(seed), n).astype(np.float32))


def make(name: str, elements: int = N, **keys: object) -> Compressor:
    return create(CompressionSection(name=name, **keys), elements)  # type: ignore[arg-type]


def sent(compressor: Compressor, x: torch.Tensor, density: float, step: int = 0) -> SparsePayload:
    payload = compressor.select(x, Context("bucket", step, density))
    assert isinstance(payload, SparsePayload)
    return payload


@pytest.mark.parametrize(("data", "density"), CASES)
def test_dgc_stays_within_its_bounds(data: str, density: float) -> None:
    k, x = int(density * N), sample(data)
    exact = sent(make("topk"), x, density)
    for step in range(5):
        payload = sent(make("dgc"), x, density, step)
        count = payload.indices.numel()
        assert 0.8 * k <= count <= 1.3 * k
        if count == k:
            assert torch.equal(payload.indices, exact.indices)


def test_dgc_draws_another_sample_every_step_and_the_same_on_every_rank() -> None:
    x = sample("laplace")
    estimates = []
    for step in range(6):
        first, second = make("dgc"), make("dgc")
        sent(first, x, 0.01, step)
        sent(second, x, 0.01, step)
        assert first.telemetry == second.telemetry
        estimates.append(first.telemetry["estimated"])
    assert len(set(estimates)) > 3


@pytest.mark.parametrize(("data", "density"), CASES)
def test_redsync_sends_from_k_to_twice_k(data: str, density: float) -> None:
    k = int(density * N)
    assert k <= sent(make("redsync"), sample(data), density).indices.numel() <= 2 * k


@pytest.mark.parametrize("density", [0.3, 0.5, 0.7, 0.95])
@pytest.mark.parametrize("name", ["redsync", "dgc", "gaussiank"])
def test_high_densities_find_their_threshold_too(name: str, density: float) -> None:
    count = sent(make(name), sample("normal"), density).indices.numel()
    assert 0.66 * density * N <= count <= min(N, 2 * density * N)


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=200),
    density=st.sampled_from([0.001, 0.05, 0.3, 0.9, 1.0]),
)
def test_trimmed_redsync_is_the_exact_top_k(values: list[float], density: float) -> None:
    x = torch.tensor(values)
    trimmed, exact = sent(make("redsync-trimmed", len(x)), x, density), sent(make("topk", len(x)), x, density)
    assert torch.equal(trimmed.indices, exact.indices)
    assert torch.equal(trimmed.values, exact.values)


@pytest.mark.parametrize("density", [0.1, 0.01, 0.001])
def test_gaussiank_hits_normal_data(density: float) -> None:
    compressor = make("gaussiank", 1_000_000)
    sent(compressor, sample("normal", 0, 1_000_000), density)
    assert compressor.telemetry["estimated"] == pytest.approx(density, rel=0.15)
    assert compressor.telemetry["selected"] == pytest.approx(1e6 * density, rel=0.15)


@pytest.mark.parametrize("name", ["dgc", "redsync", "gaussiank", "sidco-e", "sidco-p", "sidco-gp", "threshold"])
@pytest.mark.parametrize("data", list(DATA))
def test_what_is_sent_is_what_lies_above_the_threshold_told(name: str, data: str) -> None:
    compressor, x = make(name, threshold=2.5), sample(data)
    payload = sent(compressor, x, 0.05)
    above = torch.nonzero(x.abs() > np.float32(compressor.telemetry["threshold"])).flatten()
    if name == "dgc" and payload.indices.numel() < above.numel():
        assert payload.indices.numel() == int(0.05 * N), "cut to exactly k"
    else:
        assert torch.equal(payload.indices.long(), above)


def test_threshold_v_moves_as_its_controller_says() -> None:
    x = sample("normal")
    compressor = make("threshold-v")
    assert isinstance(compressor, ThresholdV)
    exact = sent(make("topk"), x, 0.01)
    first = sent(compressor, x, 0.01)
    assert torch.equal(first.indices, exact.indices)
    start = compressor.threshold
    assert start == float(exact.values.abs().min())
    full = sent(compressor, x, 0.01, 1)  # the same data fill the output exactly
    assert torch.equal(full.indices, exact.indices)
    assert compressor.threshold == pytest.approx(start + 0.01 * float(x.abs().max()))
    raised = compressor.threshold
    short = sent(compressor, x, 0.01, 2)  # now there are too few: the best of the others fill up
    assert torch.equal(short.indices, exact.indices)
    assert compressor.threshold == pytest.approx(0.99 * raised)


def test_threshold_v_holds_about_the_largest_on_data_that_do_not_change_their_law() -> None:
    compressor = make("threshold-v")
    captured = []
    for step in range(60):
        x = sample("laplace", step)
        payload = sent(compressor, x, 0.01, step)
        captured.append(float(payload.values.abs().sum() / sent(make("topk"), x, 0.01).values.abs().sum()))
        assert payload.indices.numel() == 1000
    assert min(captured) > 0.9
    assert np.mean(captured) > 0.97


@pytest.mark.parametrize("name", ["threshold-v", "thresholdv16"])
def test_a_threshold_too_low_does_not_favour_low_indices(name: str) -> None:
    """A twentieth is wanted, a little more lies above the threshold, evenly spread: all of it gets its turn."""
    n = 8 * 12 * BLOCK
    hits = torch.zeros(n)
    x = torch.zeros(8, 12 * BLOCK)
    x[:, :BLOCK] = 1.0  # 8 blocks, of which 7 may be sent
    x = x.flatten()
    compressor = make(name, n)
    sent(compressor, x, 7 / 96 + 1e-9)
    for step in range(400):
        compressor.threshold = 0.5  # type: ignore[attr-defined]
        hits[sent(compressor, x, 7 / 96 + 1e-9, step).indices.long()] += 1
    parts = hits.view(8, -1).sum(1)
    assert float(parts.sum()) == 400 * 7 * BLOCK
    assert float(parts.min()) > 0.8 * float(parts.max())


@pytest.mark.parametrize("name", ["threshold-v", "thresholdv16"])
def test_a_threshold_that_has_lost_touch_is_set_anew(name: str) -> None:
    compressor = make(name)
    sent(compressor, sample("laplace"), 0.01)
    low = compressor.threshold  # type: ignore[attr-defined]
    grown = 50.0 * sample("laplace", 1)
    payload = sent(compressor, grown, 0.01, 1)
    assert compressor.threshold > 20 * low  # type: ignore[attr-defined]
    assert torch.equal(payload.indices, sent(make(name), grown, 0.01).indices), "that call sends the best"


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 200), density=st.sampled_from([0.01, 0.1, 0.5, 1.0]), seed=st.integers(0, 2**20))
def test_thresholdv16_sends_the_best_whole_blocks(n: int, density: float, seed: int) -> None:
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal(n).astype(np.float32))
    payload = sent(make("thresholdv16", n), x, density)
    blocks = payload.indices.long() // BLOCK
    chosen = blocks.unique()
    wanted = max(1, min(n, max(1, int(n * density))) // BLOCK) if density < 1 else -(-n // BLOCK)
    assert chosen.numel() == wanted
    whole = torch.cat([torch.arange(b * BLOCK, min(n, (b + 1) * BLOCK)) for b in chosen.tolist()])
    assert torch.equal(payload.indices.long(), whole)
    scores = torch.stack([x[b * BLOCK : (b + 1) * BLOCK].abs().sum() for b in range(-(-n // BLOCK))])
    others = scores[[b for b in range(len(scores)) if b not in set(chosen.tolist())]]
    assert others.numel() == 0 or float(scores[chosen].min()) >= float(others.max()) - 1e-5


@given(
    numbers=st.lists(st.integers(0, 30), min_size=1, max_size=20, unique=True), first=st.integers(0), k=st.integers(0)
)
def test_what_a_rotated_scan_leaves_out(numbers: list[int], first: int, k: int) -> None:
    places = torch.tensor(sorted(numbers), dtype=torch.int32)
    first, k = first % (len(numbers) + 1), 1 + k % len(numbers)
    left_out = torch.zeros(31, dtype=torch.bool)
    for part in thresholdv._others(places, first, k):
        left_out[part] = True
    in_turn = [sorted(numbers)[number % len(numbers)] for number in range(first, first + k)]
    assert thresholdv._rotated(places, first, k).tolist() == sorted(in_turn)
    assert [number for number in sorted(numbers) if not left_out[number]] == sorted(in_turn)


@pytest.mark.parametrize("name", ["threshold-v", "thresholdv16"])
def test_another_density_sets_the_threshold_up_anew(name: str) -> None:
    compressor, x = make(name), sample("laplace")
    sent(compressor, x, 0.01)
    low = compressor.threshold  # type: ignore[attr-defined]
    sent(compressor, x, 0.001)
    assert compressor.threshold > low  # type: ignore[attr-defined]
    zeros = make(name)
    sent(zeros, torch.zeros(N), 0.01)
    sent(zeros, x, 0.01)
    assert zeros.threshold == low, "zeros teach nothing"  # type: ignore[attr-defined]


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=100),
    thresholds=st.lists(st.floats(0, 10, width=32), min_size=1, max_size=10),
)
def test_tail_counts_are_those_of_the_whole_vector(values: list[float], thresholds: list[float]) -> None:
    x = torch.tensor(values)
    tail = Tail(KernelPasses(1), x)
    for threshold in thresholds:
        above = torch.nonzero(x.abs() > threshold).flatten()
        assert tail.count(threshold) == above.numel()
        assert torch.equal(Tail(KernelPasses(1), x).take(threshold)[0].long(), above)


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 500), size=st.integers(1, 600), seed=st.integers(0, 100))
def test_samples_are_parts_of_the_vector(n: int, size: int, seed: int) -> None:
    values = strided_sample(KernelPasses(1), -torch.arange(1.0, n + 1), size, seed)
    drawn = values.abs()
    assert 1 <= drawn.numel() <= size
    assert drawn.unique().numel() == drawn.numel()
    assert float(drawn.min()) >= 1
    assert float(drawn.max()) <= n
    assert nth_largest(KernelPasses(1), values, 1) == float(drawn.max())
    assert nth_largest(KernelPasses(1), values, 10**6) == float(drawn.min())


@pytest.mark.parametrize(
    ("name", "memory"), [("redsync", "_last_largest"), ("gaussiank", "_last_lowest")], ids=["redsync", "gaussiank"]
)
@pytest.mark.parametrize("value", [1e-3, 0.4, 1.0, 7.0])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_what_only_saves_passes_changes_nothing(name: str, memory: str, value: float, kind: torch.dtype) -> None:
    for elements in (3000, 60_000, 900_000):
        if (name, kind, elements) == ("redsync", torch.bfloat16, 900_000):
            continue  # how much it zeroes in advance is rounded when it is put back
        gradient = sample("student", n=elements)
        plain, odd = make(name, elements), make(name, elements)
        residuals = torch.zeros(elements, dtype=kind), torch.zeros(elements, dtype=kind)
        for step in range(3):
            setattr(odd, memory, value)
            one, other = (
                compressor.select_feedback(gradient, residual, Context("bucket", step, 0.01))
                for compressor, residual in zip((plain, odd), residuals, strict=True)
            )
            assert torch.equal(one.indices, other.indices)
            assert torch.equal(one.values, other.values)
            assert torch.equal(*residuals)


@pytest.mark.parametrize("name", ["redsync", "redsync-trimmed", "sidco-e", "sidco-p", "gaussiank", "dgc"])
@pytest.mark.parametrize("elements", [3000, 1_300_000])
def test_large_numbers_whose_sums_leave_float32_are_told_by_right_ones(name: str, elements: int) -> None:
    gradient = sample("normal", n=elements) * 1e35
    gradient[0:64:16] = 3e38
    compressor, residual = make(name, elements), torch.zeros(elements)
    payload = compressor.select_feedback(gradient, residual, Context("bucket", 0, 0.01))
    other = make(name, elements)
    other.passes = lambda vector: TorchPasses()  # type: ignore[attr-defined]
    wanted = other.select_feedback(gradient, torch.zeros(elements), Context("bucket", 0, 0.01))
    assert torch.equal(payload.dense() + residual, gradient)
    if name != "sidco-p":  # the squares of excesses leave float32 as well: then the k largest are sent
        assert torch.equal(payload.indices, wanted.indices)
