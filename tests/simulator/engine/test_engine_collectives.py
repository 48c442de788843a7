"""Collectives: every schedule does its job, takes its closed-form time on idle links, and moves the bytes it must."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import collectives as c
from simulator.play import Deadlock, flow_seconds
from simulator.timing import Timing, closed_seconds, exclusive, idle_times
from simulator.topology import Fabric, Topology

LATENCY, BANDWIDTH = 5e-5, 1.25e8
FABRICS = [
    Fabric(),
    Fabric(hosts_per_rack=2, uplink=BANDWIDTH / 3),
    Fabric(hosts_per_rack=2, uplink=BANDWIDTH, racks_per_site=1, site=BANDWIDTH / 10, site_latency=0.01),
    Fabric(switch=1.5 * BANDWIDTH),
]


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
    fabric = data.draw(st.sampled_from(FABRICS))
    slow = data.draw(st.sampled_from([(), (0,), (0, 2)]))
    topology = Topology(workers, min(workers, per_host), BANDWIDTH, LATENCY, 5e8, 5e-6, fabric=fabric)
    topology = dataclasses.replace(topology, overhead=data.draw(st.sampled_from([0.0, 2e-5])))
    if slow and max(slow) < topology.hosts:
        rates = tuple(BANDWIDTH / (3 if host in slow else 1) for host in range(topology.hosts))
        topology = dataclasses.replace(topology, host_bandwidths=rates)
    closed = closed_seconds(kind, algorithm, sizes, topology)
    if closed is not None:
        rounds = c.schedule(kind, algorithm, sizes, topology.workers_per_host)
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
        rounds = c.schedule("allreduce", algorithm, [size] * workers, 3)
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
        "hierarchical": 2 * (workers - 1) * size,
        "parameter-server": 2 * (workers - 1) * size,
    }
    assert total == pytest.approx(inner[algorithm])
    assert Timing(flat(workers), {"allreduce": algorithm}).wire("allreduce", (size,)) == pytest.approx(total / workers)


def test_in_a_round_a_rank_sends_and_receives_at_most_once():
    for workers in range(2, 13):
        for kind, algorithms in (("allreduce", c.ALLREDUCE), ("allgather", c.ALLGATHER)):
            for algorithm in algorithms:
                for messages in c.schedule(kind, algorithm, [10.0] * workers, 3):
                    if algorithm == "parameter-server":
                        continue
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


@pytest.mark.parametrize(("workers", "per_host"), [(4, 1), (6, 1), (8, 4), (6, 6)])
def test_a_parameter_server_on_every_worker_closed_form(workers, per_host):
    """All push a P-th part to each other and pull one: a host's link carries what its workers send to other hosts."""
    size, topology = 1e6, Topology(workers, per_host, BANDWIDTH, LATENCY, 5e9, 5e-6)
    far = per_host * (workers - per_host) * size / workers / BANDWIDTH + LATENCY
    near = (per_host - 1) * size / workers / 5e9 + 5e-6
    expected = 2 * (far if topology.hosts > 1 else near)
    rounds = c.parameter_server(workers, size)
    assert flow_seconds(rounds, topology) == pytest.approx(expected, rel=1e-9)
    assert Timing(topology, {"allreduce": "parameter-server"}).seconds("allreduce", (size,)) == pytest.approx(expected)


def test_hierarchical_allreduce_closed_form():
    size, topology = 1e6, Topology(16, 4, BANDWIDTH, LATENCY, 5e9, 5e-6)
    expected = 2 * 2 * (5e-6 + size / 5e9) + 2 * 3 * (LATENCY + size / 4 / BANDWIDTH)
    rounds = c.hierarchical_allreduce(16, 4, size)
    assert exclusive(rounds, topology)
    assert flow_seconds(rounds, topology) == pytest.approx(expected, rel=1e-9)
    assert Timing(topology, {"allreduce": "hierarchical"}).seconds("allreduce", (size,)) == pytest.approx(expected)


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_gtopk_closed_form_at_powers_of_two(workers):
    size, work, depth = 8004.0, 1e-4, workers.bit_length() - 1
    expected = depth * (LATENCY + size / BANDWIDTH + work)
    sizes = (work, *[size] * workers)
    assert flow_seconds(c.lists("gtopk", workers, sizes), flat(workers)) == pytest.approx(expected, rel=1e-9)
    assert Timing(flat(workers)).seconds("gtopk", sizes) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_oktopk_closed_form(workers):
    told, quotas, share, part, work = 4.0 * workers, 516.0, 804.0, 1604.0, 1e-4
    expected = 4 * LATENCY + (workers - 1) * (told + quotas + share + part) / BANDWIDTH + work
    sizes = (work, told, quotas, share, *[part] * workers)
    assert flow_seconds(c.lists("oktopk", workers, sizes), flat(workers)) == pytest.approx(expected, rel=1e-9)
    assert Timing(flat(workers)).seconds("oktopk", sizes) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("workers", range(2, 12))
@pytest.mark.parametrize("kind", ["gtopk", "oktopk"])
def test_in_the_exchanges_of_lists_everybody_hears_from_everybody(workers, kind):
    fixed = (0.0,) if kind == "gtopk" else (0.0, 4.0, 4.0, 4.0)
    rounds = c.lists(kind, workers, (*fixed, *[100.0] * workers))
    assert spread(rounds, workers) == [set(range(workers))] * workers


def test_a_list_merged_with_a_longer_one_is_as_long():
    sizes = [4.0, 804.0, 4.0, 804.0, 4.0]  # ranks 0, 2 and 4 have no examples; rank 4 is beyond the power of two
    rounds = c.gtopk(sizes)
    assert [messages.size.tolist() for messages in rounds] == [[4.0], [4.0, 804.0, 4.0, 804.0], [804.0] * 4, [804.0]]


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(["gtopk", "oktopk"]), st.integers(2, 9), st.integers(1, 3), st.sampled_from(FABRICS), st.data())
def test_exchanges_of_lists_take_the_time_of_their_flows(kind, workers, per_host, fabric, data):
    lists = [data.draw(st.floats(4, 1e5))] * workers
    if data.draw(st.booleans()):
        lists[-1] = 4.0  # a worker without examples
    fixed = (1e-4,) if kind == "gtopk" else (1e-4, 4.0 * workers, 516.0, 900.0)
    topology = Topology(workers, min(workers, per_host), BANDWIDTH, LATENCY, 5e8, 5e-6, fabric=fabric)
    topology = dataclasses.replace(topology, overhead=data.draw(st.sampled_from([0.0, 2e-5])))
    sizes = (*fixed, *lists)
    expected = flow_seconds(c.lists(kind, workers, sizes), topology)
    assert Timing(topology).seconds(kind, sizes) == pytest.approx(expected, rel=1e-9)


def test_exclusive_knows_where_messages_can_meet():
    rounds = c.ring_allreduce(8, 1e6)
    assert exclusive(rounds, Topology(8, 4, BANDWIDTH, LATENCY, 5e9, 5e-6))  # one flow a host's link
    assert exclusive(rounds, Topology(8, 1, BANDWIDTH, LATENCY, 5e9, 5e-6, fabric=FABRICS[1]))
    assert not exclusive(rounds, Topology(8, 1, BANDWIDTH, LATENCY, 5e9, 5e-6, fabric=FABRICS[3]))
    assert not exclusive(c.bruck_allgather([1.0] * 8), Topology(8, 4, BANDWIDTH, LATENCY, 5e9, 5e-6))
    assert not exclusive([c.all_to_all([1.0] * 3)], flat(3))


def test_an_oversubscribed_core_and_a_wan_are_the_bottleneck_of_a_ring():
    size = 1e6
    core = dataclasses.replace(flat(8), fabric=FABRICS[1])
    assert Timing(core).seconds("allreduce", (size,)) == pytest.approx(14 * (LATENCY + size / 8 / (BANDWIDTH / 3)))
    wan = dataclasses.replace(flat(8), fabric=FABRICS[2])
    slow = 14 * (LATENCY + 0.01 + size / 8 / (BANDWIDTH / 10))
    assert Timing(wan).seconds("allreduce", (size,)) == pytest.approx(slow)


def test_a_full_switch_is_shared_by_all_that_goes_through_it():
    topology = dataclasses.replace(flat(4), fabric=Fabric(switch=1.5 * BANDWIDTH))
    expected = 6 * (LATENCY + 4 * 1e6 / 4 / (1.5 * BANDWIDTH))  # four flows a round, each a fourth of the vector
    assert Timing(topology).seconds("allreduce", (1e6,)) == pytest.approx(expected, rel=1e-9)


def test_a_deadlock_names_who_waits_for_whom():
    """Two ranks that both want to send first to each other, over links that hold nothing: each waits for the other."""
    rank = np.array([0]), np.array([1])
    rounds = [c.Round(rank[0], rank[1], np.array([10.0])), c.Round(rank[1], rank[0], np.array([10.0]))]
    assert flow_seconds(rounds, flat(2)) > 0
    with pytest.raises(Deadlock) as error:
        flow_seconds(rounds, flat(2), turns=[[0, 1], [1, 0]])
    said = "rank 0 waits to send to rank 1 in round 0; rank 1 waits to send to rank 0 in round 1"
    assert str(error.value) == f"deadlock: {said}"


@pytest.mark.parametrize("workers", [1, 2, 5, 8])
@pytest.mark.parametrize("kind", ["gtopk", "oktopk"])
def test_bytes_of_lists_are_those_of_their_messages(workers, kind):
    sizes = (0.0, *[1000.0 + rank for rank in range(workers)])
    if kind == "oktopk":
        sizes = (0.0, 4.0 * workers, 516.0, 900.0, *sizes[1:])
    expected = c.wire_bytes(c.lists(kind, workers, sizes), workers)
    assert c.lists_sent(kind, workers, sizes).tolist() == pytest.approx(expected.tolist())


def test_ten_thousand_workers_need_no_schedule_of_everybody_with_everybody():
    topology = Topology(10_000, 1, BANDWIDTH, LATENCY, 5e9, 5e-6)
    timing = Timing(topology, {"allreduce": "parameter-server"})
    assert timing.seconds("allreduce", (1e8,)) == pytest.approx(2 * (LATENCY + 9_999 * 1e4 / BANDWIDTH))
    sizes = (0.0, 4e4, 516.0, 900.0, *[900.0] * 10_000)
    assert timing.seconds("oktopk", sizes) == pytest.approx(4 * LATENCY + 9_999 * (4e4 + 516 + 1800) / BANDWIDTH)
    uneven = (*sizes[:-1], 4.0)  # a worker without examples
    assert timing.seconds("oktopk", uneven) == timing.seconds("oktopk", sizes)
    assert timing.wire("oktopk", sizes) == pytest.approx(9_999 * (4e4 + 516 + 1800))


def test_added_latency_of_two_hosts_meets_in_a_crowd():
    topology = dataclasses.replace(flat(4), host_latencies=(0.0, 0.01, 0.0, 0.03))
    rounds = c.parameter_server(4, 1e6)
    expected = flow_seconds(rounds, topology)
    assert closed_seconds("allreduce", "parameter-server", [1e6] * 4, topology) == pytest.approx(expected, rel=1e-9)
