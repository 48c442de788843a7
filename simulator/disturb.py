"""A scenario's links, latencies and traffic as events in simulated time."""

from __future__ import annotations

import math
from collections.abc import Generator

from simpy.events import Event

from simulator.clock import Clock
from simulator.network import Network
from simulator.scenario import Scenario
from toolkit.policies.linktrace import Points
from toolkit.sections.faults import AddedLatency, Traffic

Waiting = Generator[Event, object, None]


def happen(clock: Clock, network: Network, scenario: Scenario) -> None:
    """Start what a scenario does to a network as time goes on; what is slow all along is in the topology."""
    for host, points in scenario.traces.items():
        clock.process(_follow(clock, network, host, points))
    for traffic in scenario.traffic:
        clock.process(_stream(clock, network, traffic))
    for added in scenario.passing_latencies:
        clock.process(_delay(clock, network, added))


def _follow(clock: Clock, network: Network, host: int, points: Points) -> Waiting:
    links = (host, network.topology.hosts + host)
    for time, bandwidth in points:
        yield clock.at(time)
        network.set_capacity(links, bandwidth)


def _stream(clock: Clock, network: Network, traffic: Traffic) -> Waiting:
    route = network.topology.host_route(traffic.source, traffic.target)
    if traffic.rate > 0:
        route = (*route, network.add_link(traffic.rate))
    yield clock.at(traffic.start)
    flow = network.start(route, math.inf, lambda: None)
    if traffic.end > 0:
        yield clock.at(traffic.end)
        network.cancel(flow)


def _delay(clock: Clock, network: Network, row: AddedLatency) -> Waiting:
    yield clock.at(row.start)
    network.added[row.host] += row.latency
    if row.end > 0:
        yield clock.at(row.end)
        network.added[row.host] -= row.latency
