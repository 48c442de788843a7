"""The bfloat16 residual: a bounded error a step, none on average, and none at all where there is nothing to round."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from toolkit.compression import Context, create
from toolkit.compression import residual as residual_rooms
from toolkit.compression.passes import KernelPasses
from toolkit.compression.residual import KINDS, add_at, opened, store
from toolkit.experiment import CompressionSection
from toolkit.registry import COMPRESSORS, resolve


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_torch_rounds_to_the_bits_of_the_kernel(seed: int) -> None:
    """What runs on another device; random bits hold NaN and infinity, and the ends of the range are there as well."""
    bits = np.random.default_rng(seed).integers(0, 2**32, 100_003, dtype=np.uint32)
    bits[:6] = (0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7F800001, 0xFFFFFFFF)
    x, stored = torch.from_numpy(bits.view(np.float32)), torch.zeros(len(bits), dtype=torch.bfloat16)
    store(x, stored, seed)
    again = residual_rooms._rounded(x, torch.arange(len(bits)), seed)
    assert torch.equal(stored.view(torch.int16), again)
    assert bool(stored[:2].isfinite().all())
    assert torch.equal(stored.isnan(), x.isnan())


@pytest.mark.parametrize("kind", list(KINDS))
def test_adding_at_places(kind: str) -> None:
    """What opening, adding and storing leaves, at these places; nothing moves elsewhere."""
    context, places = Context("b", 4, 0.1), torch.arange(0, 5000, 7, dtype=torch.int32)
    error = torch.randn(len(places), generator=generator(1))
    residual = torch.randn(5000, generator=generator(2)).to(KINDS[kind])
    expected = residual.clone()
    with opened(expected, context, "wire") as values:
        values[places.long()] += error
    add_at(residual, places, error, context, "wire")
    assert torch.equal(residual, expected)


N = 100_003
FUSED = ("topk", "threshold", "sidco-e", "sidco-p", "sidco-gp", "dgc", "redsync", "redsync-trimmed", "gaussiank")


def steps_of(name: str, data: str, *, in_place: bool, n: int = N) -> Iterator[tuple[torch.Tensor, ...]]:
    """Payload, residual before and after, and gradient of some steps; opened where the compressor says it must be."""
    compressor = create(CompressionSection(name=name, threads=2, threshold=1.5), n)
    residual = torch.zeros(n, dtype=torch.bfloat16)
    for step in range(10):
        rng = np.random.default_rng(step)
        x = rng.laplace(size=n) if data == "laplace" else rng.standard_normal(n) * (rng.random(n) < 0.4)
        gradient, context = torch.from_numpy(x.astype(np.float32)), Context("bucket", step, 0.02)
        if data == "nan":
            gradient[777] = torch.nan
        before = residual.clone()
        if in_place:
            assert compressor.works_in_bfloat16(residual, context)
            payload = compressor.select_feedback(gradient, residual, context)
        else:
            with opened(residual, context, "compress") as values:
                payload = compressor.select_feedback(gradient, values, context)
        yield payload.indices, payload.values, before, residual.clone(), gradient


@pytest.mark.parametrize("data", ["laplace", "mostly zero", "nan"])
@pytest.mark.parametrize("name", FUSED)
def test_working_in_place_sends_and_leaves_what_opening_does(
    name: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as predictions hold. Where one misses (RedSync looks below the k-th, a NaN asks for the exact top-k,
    short vectors give DGC too small a sample) they part; then neither loses anything.
    """
    monkeypatch.setattr(resolve(COMPRESSORS[name].target), "predict_from", 1, raising=False)
    missed: list[bool] = []
    for pass_name in ("above", "topk", "tail_moments"):
        monkeypatch.setattr(KernelPasses, pass_name, watched(getattr(KernelPasses, pass_name), missed))
    same = 0
    for one, other in zip(steps_of(name, data, in_place=True), steps_of(name, data, in_place=False), strict=True):
        if not any(missed):
            assert torch.equal(one[0], other[0])
            assert one[1].numpy().tobytes() == other[1].numpy().tobytes()
            assert torch.equal(one[3].view(torch.int16), other[3].view(torch.int16))
            same += 1
        indices, values, before, after, gradient = one
        kept, given_ = after.double(), before.double() + gradient
        kept[indices.long()] += values
        finite = given_.isfinite()
        assert bool(((kept - given_).abs() < given_.abs().clamp(min=1e-30) / 128)[finite].all())
        assert bool((after[indices.long()] == 0).all())
    least = 10 if name in ("topk", "threshold") else 0 if data == "nan" or name in ("dgc", "redsync-trimmed") else 1
    assert same >= least, f"only {same} steps"


def watched(honest: Callable[..., object], missed: list[bool]) -> Callable[..., object]:
    """Notes passes over a whole vector."""

    def passing(self: KernelPasses, x: torch.Tensor, *rest: object) -> object:
        missed.append(x.numel() == N and x._base is None)
        return honest(self, x, *rest)

    return passing


def test_a_steady_gradient_is_not_swallowed() -> None:
    """4000 times 0.001: to nearest it would stop at 0.25 or so, and what then comes is lost."""
    residual, nearest = (torch.zeros(2000, dtype=torch.bfloat16) for _ in range(2))
    for step in range(4000):
        with opened(residual, Context("bucket", step, 0.01), "add") as values:
            values += 0.001
        nearest = (nearest.float() + 0.001).bfloat16()
    assert float(residual.float().mean()) == pytest.approx(4.0, rel=0.01)
    assert float(residual.float().std()) < 0.25
    assert float(nearest.float().max()) < 1.0


@pytest.mark.parametrize("name", ["topk", "sidco-e", "randomk"])
def test_what_arrives_over_many_steps_is_what_was_given(name: str) -> None:
    """Payloads and the last residual against all gradients: the error grows as a random walk, not in proportion."""
    n, steps = 4000, 300
    compressor = create(CompressionSection(name=name), n)
    residual = torch.zeros(n, dtype=torch.bfloat16)
    draws = generator(1)
    given_, arrived, largest = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64), 0.0
    for step in range(steps):
        gradient = torch.randn(n, generator=draws) + 0.2
        context = Context("bucket", step, 0.05)
        given_ += gradient
        with opened(residual, context, "compress") as values:
            arrived += compressor.select_feedback(gradient, values, context).dense()
            largest = max(largest, float(values.abs().max()))
    error = arrived + residual.double() - given_
    assert float(error.abs().max()) < largest / 128 * np.sqrt(steps)
    assert abs(float(error.mean())) < 5 * largest / 128 * np.sqrt(steps / n)
    assert float(given_.mean()) == pytest.approx(0.2 * steps, rel=0.02)


def test_float32_is_opened_as_it_is_and_draws_repeat() -> None:
    plain = torch.randn(100, generator=generator())
    with opened(plain, Context("b", 0, 0.1), "x") as values:
        assert values is plain
    stored = []
    for use in ("compress", "compress", "settle"):
        residual = torch.zeros(1000, dtype=torch.bfloat16)
        with opened(residual, Context("b", 3, 0.1), use) as values:
            values += 1.001
        stored.append(residual)
    assert torch.equal(stored[0], stored[1])
    assert not torch.equal(stored[0], stored[2])
