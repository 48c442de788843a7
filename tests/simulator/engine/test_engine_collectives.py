"""Collectives: every schedule does its job, takes its closed-form time on idle links, and moves the bytes it must."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import collectives as c
from simulator.network import Topology
from simulator.timing import Timing, closed_seconds, flow_seconds, idle_times

LATENCY, BANDWIDTH = 5e-5, 1.25e8


def flat(workers):
    return Topology(workers, 1, BANDWIDTH, LATENCY, 5e9, 5e-6)


@pytest.mark.parametrize("workers", [2, 3, 4, 7, 16])
def test_ring_allreduce_closed_form(workers):
    size = 1_000_000.0
    expected = 2 * (workers - 1) * (LATENCY + size / workers / BANDWIDTH)
    rounds = c.ring_allreduce(workers, size)
    assert flow_seconds(rounds, flat(workers)) == pytest.approx(expected, rel=1e-9)
    assert closed_seconds("allreduce", "ring", [size] * workers, flat(workers)) == pytest.approx(expected, rel=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=9))
def test_uneven_ring_allgather_takes_its_largest_block_over_every_hop(sizes):
    workers = len(sizes)
    expected = (workers - 1) * (LATENCY + max(sizes) / BANDWIDTH)
    assert flow_seconds(c.ring_allgather(sizes), flat(workers)) == pytest.approx(expected, rel=1e-9)
    assert closed_seconds("allgather", "ring", sizes, flat(workers)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("workers", [2, 4, 8, 16])
def test_tree_closed_forms_at_powers_of_two(workers):
    size, depth = 8192.0, workers.bit_length() - 1
    doubling = depth * (LATENCY + size / BANDWIDTH)
    assert flow_seconds(c.recursive_doubling_allreduce(workers, size), flat(workers)) == pytest.approx(doubling)
    halving = 2 * depth * LATENCY + 2 * (workers - 1) / workers * size / BANDWIDTH
    assert flow_seconds(c.rabenseifner_allreduce(workers, size), flat(workers)) == pytest.approx(halving)
    bruck = depth * LATENCY + (workers - 1) * size / BANDWIDTH
    assert flow_seconds(c.bruck_allgather([size] * workers), flat(workers)) == pytest.approx(bruck)
    assert flow_seconds(c.binomial_broadcast(workers, size), flat(workers)) == pytest.approx(doubling)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([("allreduce", a) for a in c.ALLREDUCE] + [("allgather", a) for a in c.ALLGATHER]),
    st.integers(1, 9),
    st.integers(1, 4),
    st.data(),
)
def test_closed_forms_agree_with_flows(which, workers, per_host, data):
    kind, algorithm = which
    size = st.floats(0, 1e6)
    if kind == "allreduce":
        sizes = [data.draw(size)] * workers
    else:
        sizes = data.draw(st.lists(size, min_size=workers, max_size=workers))
    topology = Topology(workers, min(workers, per_host), BANDWIDTH, LATENCY, 5e8, 5e-6)
    closed = closed_seconds(kind, algorithm, sizes, topology)
    if closed is not None:
        rounds = c.schedule(kind, algorithm, sizes)
        assert flow_seconds(rounds, topology) == pytest.approx(closed, rel=1e-9)


def test_no_closed_form_is_claimed_where_a_host_link_is_shared():
    topology = Topology(8, 4, BANDWIDTH, LATENCY, 5e9, 5e-6)
    assert closed_seconds("allreduce", "recursive-doubling", [1e4] * 8, topology) is None
    rounds = c.recursive_doubling_allreduce(8, 1e4)
    alone = float(idle_times(rounds, topology).max())
    shared = flow_seconds(rounds, topology)
    assert shared == pytest.approx(alone + 3 * 1e4 / BANDWIDTH, rel=1e-9)  # four flows on a link, not one
    assert Timing(topology, {"allreduce": "recursive-doubling"}).seconds("allreduce", (1e4,)) == shared


def spread(rounds, workers):
    """Which ranks' contributions each rank has seen, if every message carries all that its sender has seen."""
    seen = [{rank} for rank in range(workers)]
    for messages in rounds:
        before = [set(s) for s in seen]
        for source, target in zip(messages.source.tolist(), messages.target.tolist(), strict=True):
            seen[target] |= before[source]
    return seen


@pytest.mark.parametrize("workers", range(2, 18))
def test_everybody_hears_from_everybody(workers):
    size = 100.0
    everyone = set(range(workers))
    for algorithm in c.ALLREDUCE:
        rounds = c.schedule("allreduce", algorithm, [size] * workers)
        assert spread(rounds, workers) == [everyone] * workers, algorithm
    for algorithm in c.ALLGATHER:
        rounds = c.schedule("allgather", algorithm, [size] * workers)
        assert spread(rounds, workers) == [everyone] * workers, algorithm
    assert all(0 in seen for seen in spread(c.binomial_broadcast(workers, size), workers))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=20), st.sampled_from(c.ALLGATHER))
def test_an_allgather_receives_every_other_block_exactly_once(sizes, algorithm):
    received = np.zeros(len(sizes))
    for messages in c.schedule("allgather", algorithm, sizes):
        np.add.at(received, messages.target, messages.size)
    assert received == pytest.approx(sum(sizes) - np.array(sizes), abs=1e-3)


@pytest.mark.parametrize("workers", [2, 3, 4, 6, 8, 13])
@pytest.mark.parametrize("algorithm", c.ALLREDUCE)
def test_wire_bytes_of_allreduce(workers, algorithm):
    size, core = 4096.0, 1 << (workers.bit_length() - 1)
    total = c.wire_bytes(c.schedule("allreduce", algorithm, [size] * workers), workers).sum()
    folded = 2 * (workers - core) * size
    inner = {
        "ring": 2 * (workers - 1) * size,
        "rabenseifner": 2 * (core - 1) * size + folded,
        "recursive-doubling": core * (core.bit_length() - 1) * size + folded,
    }
    assert total == pytest.approx(inner[algorithm])
    assert Timing(flat(workers), {"allreduce": algorithm}).wire("allreduce", (size,)) == pytest.approx(total / workers)


def test_in_a_round_a_rank_sends_and_receives_at_most_once():
    for workers in range(2, 13):
        for kind, algorithms in (("allreduce", c.ALLREDUCE), ("allgather", c.ALLGATHER)):
            for algorithm in algorithms:
                for messages in c.schedule(kind, algorithm, [10.0] * workers):
                    assert len(set(messages.source.tolist())) == len(messages.source)
                    assert len(set(messages.target.tolist())) == len(messages.target)


def test_choice_by_size():
    assert c.choose("allreduce", 8, 9_999) == "recursive-doubling"
    assert c.choose("allreduce", 8, 10_000) == "ring"
    assert c.choose("allgather", 8, 49_999) == "bruck"
    assert c.choose("allgather", 8, 50_000) == "ring"


def test_one_worker_exchanges_nothing():
    timing = Timing(flat(1))
    for kind in ("allreduce", "allgather"):
        assert timing.seconds(kind, (1e9,)) == 0.0
        assert timing.wire(kind, (1e9,)) == 0.0
