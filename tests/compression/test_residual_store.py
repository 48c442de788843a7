"""The bfloat16 residual: a bounded error a step, none on average, and none at all where there is nothing to round."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.compression import Context, create
from toolkit.compression.residual import opened, rounded
from toolkit.experiment import CompressionSection


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.floats(-(2.0**127), 2.0**127, width=32), min_size=1, max_size=50), st.integers(0, 100))
def test_the_error_of_a_value_is_below_a_128th_of_it(values: list[float], seed: int) -> None:
    x = torch.tensor(values)
    stored = rounded(x, generator(seed)).float()
    assert bool(stored.isfinite().all())
    ulp = torch.maximum(x.abs().double() / 128, torch.tensor(2.0**-133, dtype=torch.float64))
    assert bool(((stored.double() - x.double()).abs() < ulp).all())


def test_the_ends_of_the_range() -> None:
    largest = torch.finfo(torch.float32).max
    for seed in range(20):
        stored = rounded(torch.tensor([largest, -largest, torch.inf, -torch.inf, torch.nan]), generator(seed)).float()
        assert bool(stored[:2].isfinite().all())
        assert stored[2] == torch.inf
        assert stored[3] == -torch.inf
        assert bool(stored[4].isnan())


def test_what_bfloat16_holds_is_not_touched() -> None:
    x = torch.randn(10_000, generator=generator()).bfloat16().float()
    x[:100] = 0.0
    assert torch.equal(rounded(x, generator(5)).float(), x)


def test_the_error_is_zero_on_average() -> None:
    x = torch.full((400_000,), 1.0 + 0.3 / 128)
    stored = rounded(x, generator()).float()
    assert set(stored.unique().tolist()) == {1.0, 1.0 + 1 / 128}
    assert float((stored - x).mean()) == pytest.approx(0.0, abs=5 * 0.46 / 128 / np.sqrt(x.numel()))


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
