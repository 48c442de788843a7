"""A scenario's links and traffic as events in simulated time."""

from __future__ import annotations

import math
from collections.abc import Generator

from simpy.events import Event

from simulator.clock import Clock
from simulator.network import Network, Route
from simulator.scenario import LinkTrace, Scenario, Traffic

Waiting = Generator[Event, object, None]


def happen(clock: Clock, network: Network, scenario: Scenario) -> None:
    """Start what a scenario does to a network; slow workers and links that are slow all along are not its concern."""
    for trace in scenario.link_traces:
        clock.process(_follow(clock, network, trace))
    for traffic in scenario.traffic:
        clock.process(_stream(clock, network, traffic))


def _follow(clock: Clock, network: Network, trace: LinkTrace) -> Waiting:
    links = (trace.host, network.topology.hosts + trace.host)
    for time, bandwidth in trace.points:
        yield clock.at(time)
        network.set_capacity(links, bandwidth)


def _stream(clock: Clock, network: Network, traffic: Traffic) -> Waiting:
    route: Route = (traffic.source, network.topology.hosts + traffic.target)
    if traffic.rate < math.inf:
        route = (*route, network.add_link(traffic.rate))
    yield clock.at(traffic.start)
    sent = network.send_over(route, math.inf)
    if traffic.end < math.inf:
        yield clock.at(traffic.end)
        network.cancel(sent)
