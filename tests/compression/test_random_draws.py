"""Random-k draws uniform subsets, the same on every rank."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.compression import Context, SparsePayload, create
from toolkit.compression.randomk import draw_subset
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


def places(seed: int = 1, name: str = "bucket0", step: int = 0) -> torch.Tensor:
    compressor = create(CompressionSection(name="randomk"), 10_000)
    payload = compressor.select(torch.zeros(10_000), Context(name, step, 0.01, seed))
    assert isinstance(payload, SparsePayload)
    return payload.indices


def test_seed_name_and_step_alone_decide() -> None:
    assert torch.equal(places(), places())
    for other in (places(seed=2), places(name="bucket1"), places(step=1)):
        assert not torch.equal(places(), other)
