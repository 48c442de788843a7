"""Random-k draws uniform subsets: the same on every rank, or each rank its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.compression import Context, SparsePayload, create
from toolkit.compression.base import run_alone
from toolkit.compression.randomk import SharedPayload, draw_subset
from toolkit.experiment import CompressionSection


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), st.integers(0, 1000))
def test_exactly_k_distinct_ascending_places(sizes: tuple[int, int], seed: int) -> None:
    n, k = sizes
    drawn = draw_subset(np.random.default_rng(seed), n, k)
    assert drawn.dtype == np.int32
    assert drawn.size == k
    assert (np.diff(drawn) > 0).all()
    assert k == 0 or (drawn[0] >= 0 and drawn[-1] < n)


@pytest.mark.parametrize(("n", "k"), [(5, 2), (6, 3), (5, 4)])
def test_all_subsets_are_equally_likely(n: int, k: int) -> None:
    generator = np.random.default_rng(7)
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(6000):
        subset = tuple(draw_subset(generator, n, k).tolist())
        counts[subset] = counts.get(subset, 0) + 1
    subsets = {(5, 2): 10, (6, 3): 20, (5, 4): 5}[n, k]
    expected = 6000 / subsets
    assert len(counts) == subsets
    chi_squared = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_squared < subsets + 4 * np.sqrt(2 * subsets)


def places(
    seed: int = 1, name: str = "bucket0", step: int = 0, rank: int = 0, compressor: str = "randomk"
) -> torch.Tensor:
    made = create(CompressionSection(name=compressor), 10_000)
    payload = made.select(torch.zeros(10_000), Context(name, step, 0.01, seed, 4, rank))
    assert isinstance(payload, SparsePayload)
    return payload.indices


@pytest.mark.parametrize("compressor", ["randomk", "randomk-independent"])
def test_seed_name_and_step_decide(compressor: str) -> None:
    drawn = places(compressor=compressor)
    assert torch.equal(drawn, places(compressor=compressor))
    for other in ({"seed": 2}, {"name": "bucket1"}, {"step": 1}):
        assert not torch.equal(drawn, places(compressor=compressor, **other))


def test_the_rank_decides_only_where_draws_are_independent() -> None:
    assert torch.equal(places(rank=0), places(rank=3))
    apart = places(rank=0, compressor="randomk-independent"), places(rank=3, compressor="randomk-independent")
    assert not torch.equal(*apart)


def test_a_shared_draw_sends_values_only_and_an_idle_worker_sends_zeros_there() -> None:
    compressor, context = create(CompressionSection(name="randomk"), 1000), Context("bucket0", 5, 0.1)
    payload, idle = compressor.select(torch.ones(1000), context), compressor.nothing(context)
    assert isinstance(payload, SharedPayload)
    assert isinstance(idle, SharedPayload)
    assert payload.bytes == idle.bytes == 400
    assert torch.equal(payload.indices, idle.indices)
    assert not bool(idle.values.any())
    merged = run_alone(payload)
    assert torch.equal(merged[0], payload.indices)
    assert torch.equal(merged[1], payload.values)
