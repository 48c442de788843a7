"""Links are shared max-min fairly, flows take the time that their rates give, and bytes are conserved."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simpy.events import AllOf

from simulator.clock import Clock
from simulator.fairness import few_max_min, max_min
from simulator.network import FEW, Network
from simulator.star import LEAST
from simulator.topology import Topology


def topology(workers=4, per_host=1, bandwidth=1000.0, latency=0.5):
    return Topology(workers, per_host, bandwidth, latency, 1e4, 0.01)


def finish_times(topo, messages):
    """When each (start, source, target, size) message was sent."""
    clock = Clock()
    network = Network(clock, topo)
    times = [0.0] * len(messages)

    def sender(i, start, source, target, size):
        yield clock.timeout(start)
        yield network.send(source, target, size)
        times[i] = clock.now

    clock.run(until=AllOf(clock, [clock.process(sender(i, *message)) for i, message in enumerate(messages)]))
    return times, network


def test_textbook_max_min():
    # the link of 10 is full first and holds two flows at 5; the third takes what is left of the link of 20
    rates = max_min(np.array([[0, 1], [0, 2], [1, 2]]), np.array([10.0, 20.0, 30.0]))
    assert rates == pytest.approx([5, 5, 15])


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(5, 9)), min_size=1, max_size=12),
    st.lists(st.floats(1.0, 100.0), min_size=10, max_size=10),
)
def test_max_min_law(pairs, capacity):
    """No link is overloaded, and every flow has a full link on which nobody is faster than it."""
    routes, capacity = np.array(pairs), np.array(capacity)
    rates = max_min(routes, capacity)
    load = np.zeros(10)
    for route, rate in zip(routes, rates, strict=True):
        load[route] += rate
    assert (load <= capacity * (1 + 1e-9)).all()
    for route, rate in zip(routes, rates, strict=True):
        others = [max(rates[(routes == link).any(axis=1)]) for link in route]
        full = load[route] >= capacity[route] * (1 - 1e-9)
        assert any(full[i] and rate >= others[i] * (1 - 1e-9) for i in range(2))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(5, 9)), min_size=1, max_size=12),
    st.lists(st.floats(1.0, 100.0), min_size=10, max_size=10),
)
def test_plain_numbers_and_arrays_give_the_same_rates(pairs, capacity):
    rates = max_min(np.array(pairs), np.array(capacity))
    assert few_max_min(pairs, capacity) == pytest.approx(rates.tolist(), rel=1e-9)


def test_a_flow_alone_takes_size_over_bandwidth():
    times, _ = finish_times(topology(), [(0.0, 0, 1, 500.0)])
    assert times == [0.5]


def test_two_flows_share_a_link():
    times, _ = finish_times(topology(), [(0.0, 0, 1, 500.0), (0.0, 0, 2, 1000.0)])
    assert times == pytest.approx([1.0, 1.5], rel=1e-12)  # half the link each, then the whole link


def test_a_late_flow_slows_an_early_one():
    # alone until 0.5 s, shared until the first is through at 1.5 s, then the second alone
    times, _ = finish_times(topology(), [(0.0, 0, 1, 1000.0), (0.5, 2, 1, 1000.0)])
    assert times == pytest.approx([1.5, 2.0], rel=1e-12)


def test_many_flows_on_one_link_share_it():
    senders = 2 * FEW
    times, _ = finish_times(topology(senders + 1), [(0.0, 1 + i, 0, 1000.0) for i in range(senders)])
    assert times == pytest.approx([float(senders)] * senders, rel=1e-9)


def test_full_duplex():
    times, _ = finish_times(topology(), [(0.0, 0, 1, 1000.0), (0.0, 1, 0, 1000.0)])
    assert times == [1.0, 1.0]


def test_workers_of_a_host_share_its_link_but_not_their_local_ports():
    times, _ = finish_times(topology(per_host=2), [(0.0, 0, 2, 1000.0), (0.0, 1, 3, 1000.0)])
    assert times == pytest.approx([2.0, 2.0], rel=1e-12)
    times, _ = finish_times(topology(per_host=2), [(0.0, 0, 1, 1000.0), (0.0, 2, 3, 1000.0)])
    assert times == pytest.approx([0.1, 0.1], rel=1e-12)


def test_an_empty_message_takes_no_time():
    times, _ = finish_times(topology(), [(0.25, 0, 1, 0.0)])
    assert times == [0.25]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.floats(0, 3), st.integers(0, 5), st.integers(0, 5), st.floats(1, 5000)).filter(
            lambda m: m[1] != m[2]
        ),
        min_size=1,
        max_size=10,
    ),
    st.integers(1, 3),
)
def test_bytes_are_conserved_and_no_link_beats_its_rate(messages, per_host):
    topo = topology(6, per_host)
    times, network = finish_times(topo, messages)
    total = sum(size for *_, size in messages)
    assert network.bytes_moved.sum() == pytest.approx(2 * total)  # once going out, once coming in
    span = max(times) - min(start for start, *_ in messages)
    assert (network.bytes_moved <= topo.capacities() * span * (1 + 1e-9)).all()
    for (start, source, target, size), end in zip(messages, times, strict=True):
        alone = size / topo.capacities()[list(topo.route(source, target))].min()
        assert end - start >= alone * (1 - 1e-9)


def test_the_clock_refuses_the_past():
    clock = Clock()
    clock.run(until=1.0)
    with pytest.raises(ValueError, match="already shows"):
        clock.at(0.5)


def run_flows(messages, hosts, least, changes=()):
    """When each (start, source, target, size) was sent, stars being formed of `least` flows on."""
    clock, times = Clock(), [0.0] * len(messages)
    network = Network(clock, Topology(hosts, 1, 1000.0, 0.0, 1e4, 0.0))
    network.least = least

    def began(i, source, target, size):
        network.start(network.topology.route(source, target), size, lambda: ended(i))

    def ended(i):
        times[i] = clock.now

    for i, (start, source, target, size) in enumerate(messages):
        network.later(start, partial(began, i, source, target, size))
    for time, link, capacity in changes:
        network.later(time, partial(network.set_capacity, (link,), capacity))
    clock.run()
    return times, network


CROWDS = st.lists(
    st.tuples(
        st.floats(0, 3),
        st.integers(1, 9),
        st.sampled_from([0, 0, 0, 0, 10]),
        st.floats(1, 5000).map(lambda s: round(s, 3)),
    ),
    min_size=1,
    max_size=20,
)


@settings(deadline=None, max_examples=60)
@given(CROWDS, st.lists(st.tuples(st.floats(0, 5), st.integers(0, 21), st.floats(100, 2000)), max_size=3))
def test_a_crowd_on_one_link_is_served_as_flow_by_flow(messages, changes):
    """Flows that come and go, share senders, leave the star's shape and meet other rates: one answer either way."""
    one, plain = run_flows(messages, 11, 10**9, changes)
    two, starred = run_flows(messages, 11, 2, changes)
    assert two == pytest.approx(one, rel=1e-9)
    assert starred.bytes_moved.tolist() == pytest.approx(plain.bytes_moved.tolist())
    assert not starred._stars


def test_a_crowd_becomes_a_star_and_ends_in_its_closed_form():
    count = 3 * LEAST
    messages = [(0.0, 1 + i, 0, 100.0 * (i + 1)) for i in range(count)]
    times, _ = run_flows(messages, count + 1, LEAST)
    expected, now = [], 0.0
    for i in range(count):  # each hundred bytes are sent by those that have as much
        now += 100.0 * (count - i) / 1000.0
        expected.append(now)
    assert times == pytest.approx(expected, rel=1e-12)


def test_a_flow_of_a_crowd_is_cancelled():
    clock = Clock()
    network = Network(clock, Topology(20, 1, 1000.0, 0.0, 1e4, 0.0))
    ends = []
    flows = [network.start(network.topology.route(1 + i, 0), 1000.0, lambda: ends.append(clock.now)) for i in range(16)]
    network.later(8.0, lambda: network.cancel(flows[3]))  # each has sent half
    clock.run()
    assert ends == pytest.approx([8.0, *[8.0 + 15 * 500 / 1000] * 15])
