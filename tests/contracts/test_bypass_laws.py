"""Break-even: dense exactly where the cost rules say so, alike on all workers, and the other way on the other side."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit import registry
from toolkit.experiment import parse
from toolkit.policies.bypass import SPARSE, Bypass, Network, allgather, dense, gtopk, oktopk


def bypass(workers: int = 8, **settings: object) -> Bypass:
    compression = {"name": "topk", "bypass": "auto", **settings}
    cluster = {"workers": workers, "latency": "0 us", "bandwidth": "1 Gbit/s"}
    return Bypass.of(parse({"compression": compression, "cluster": cluster}, "exp.toml"))


@pytest.mark.parametrize("workers", [2, 4, 8, 64])
def test_without_latency_an_allgather_pays_below_one_over_p(workers: int) -> None:
    policy = bypass(workers)
    assert policy.dense(10**6, 1.02 / workers)
    assert not policy.dense(10**6, 0.98 / workers)
    assert bypass(workers, wire_indices="delta", wire_values="bf16").dense(10**6, 1.9 / workers) is False


def test_latency_makes_small_buckets_travel_whole_only_where_lists_need_more_messages() -> None:
    slow = Network(4, 1e-3, 1e9)
    assert dense(slow, 10) == pytest.approx(6e-3, rel=1e-3)
    assert allgather(slow, 80) == pytest.approx(2e-3, rel=1e-3)
    assert oktopk(Network(2, 1e-3, 1e9), 80) > dense(Network(2, 1e-3, 1e9), 10)


def test_the_rules_by_hand() -> None:
    network = Network(8, 1e-4, 1e8)
    assert dense(network, 1000) == pytest.approx(14e-4 + 14 / 8 * 4000 / 1e8)
    assert allgather(network, 800) == pytest.approx(3e-4 + 7 * 800 / 1e8)
    assert gtopk(network, 800) == pytest.approx(3e-4 + 3 * 800 / 1e8)
    assert gtopk(Network(9, 1e-4, 1e8), 800) == pytest.approx(5e-4 + 5 * 800 / 1e8)
    assert oktopk(network, 800) == pytest.approx(4e-4 + 21 / 8 * 800 / 1e8)


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(sorted(SPARSE)), st.integers(1, 300), st.integers(1, 10**8), st.floats(1e-5, 0.99))
def test_what_is_dense_at_a_density_is_dense_above_it(way: str, workers: int, elements: int, density: float) -> None:
    policy = bypass(workers, exchange=way)
    if policy.dense(elements, density):
        assert policy.dense(elements, math.sqrt(density))
    assert policy.dense(elements, 1.0)


def test_off_never_goes_dense_below_1_and_alone_nothing_is_saved() -> None:
    assert not bypass(64, bypass="off").dense(10**6, 0.99)
    assert bypass(64, bypass="off").dense(10**6, 1.0)
    assert bypass(1).dense(10**6, 0.001)


def test_every_sparse_exchange_has_a_rule() -> None:
    assert set(SPARSE) == {name for name, entry in registry.EXCHANGES.items() if entry.wire == "sparse"}
