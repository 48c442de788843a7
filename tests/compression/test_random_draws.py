"""Random-k draws uniform subsets: the same on every rank, or each rank its own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.compression import Context, SparsePayload, create
from toolkit.compression.base import run_alone
from toolkit.compression.randomk import SharedPayload, block_counts
from toolkit.experiment import CompressionSection


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))),
    st.integers(1, 100),
    st.integers(0, 2**64 - 1),
)
def test_blocks_share_k_among_them(sizes: tuple[int, int], block: int, seed: int) -> None:
    n, k = sizes
    counts = block_counts(n, k, seed, block)
    lengths = np.minimum(block, n - block * np.arange(-(-n // block)))
    assert counts.dtype == np.int64
    assert counts.sum() == k
    assert (counts >= 0).all()
    assert (counts <= lengths).all()


@pytest.mark.parametrize(("n", "k", "block"), [(10, 5, 4), (9, 3, 3), (12, 10, 5)])
def test_how_many_lie_in_each_block_is_as_of_a_uniform_subset(n: int, k: int, block: int) -> None:
    lengths = np.minimum(block, n - block * np.arange(-(-n // block)))
    seen: dict[tuple[int, ...], int] = {}
    for seed in range(6000):
        counts = tuple(block_counts(n, k, seed, block).tolist())
        seen[counts] = seen.get(counts, 0) + 1
    law = {counts: math.prod(map(math.comb, lengths, counts)) / math.comb(n, k) for counts in seen}
    assert sum(law.values()) > 0.995
    squared = sum((seen[each] - 6000 * law[each]) ** 2 / (6000 * law[each]) for each in seen)
    assert squared < len(seen) + 4 * math.sqrt(2 * len(seen))


@pytest.mark.parametrize("compressor", ["randomk", "randomk-independent"])
def test_exactly_k_are_sent_and_the_kernels_draw_what_torch_operations_do(compressor: str) -> None:
    for elements, density in ((1, 0.5), (1000, 1.0), (70_000, 0.7), (200_000, 0.01)):
        made = create(CompressionSection(name=compressor), elements)
        gradient, residual = torch.randn(2, elements, generator=torch.Generator().manual_seed(3))
        context, before = Context("bucket0", 4, density), gradient + residual
        payload = made.select_feedback(gradient, residual, context)
        again = made.select(before[::1], context)
        strided = made.select(torch.stack((before, before), 1)[:, 0], context)  # no kernel reads this
        assert isinstance(payload, SparsePayload)
        assert payload.indices.numel() == max(1, int(elements * density))
        assert torch.equal(residual + payload.dense(), before)
        for other in (again, strided):
            assert isinstance(other, SparsePayload)
            assert torch.equal(other.indices, payload.indices)
            assert torch.equal(other.values, payload.values)


@pytest.mark.parametrize("compressor", ["randomk", "randomk-independent"])
def test_an_empty_vector_sends_nothing(compressor: str) -> None:
    made, context = create(CompressionSection(name=compressor), 0), Context("bucket0", 0, 0.1)
    nothing = made.nothing(context), made.select(torch.zeros(0), context)
    for payload in (*nothing, made.select_feedback(torch.zeros(0), torch.zeros(0), context)):
        assert isinstance(payload, SparsePayload)
        assert payload.indices.numel() == payload.values.numel() == 0


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
