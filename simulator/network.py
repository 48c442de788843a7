"""Flows on links, max-min fairly shared, in simulated time.

A message occupies every link of its way at the rate that max-min fairness gives it (Bertsekas and Gallager, Data
Networks, section 6.5.2: progressive filling), and arrives a latency after its last byte was sent.

What costs time in such a simulation is the number of SimPy's events, so the network keeps an agenda of its own and
wakes once for all that happens at one time: ends of flows, arrivals, and one settling of the rates that changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray
from simpy.events import Event

from simulator.clock import LATE, Clock
from simulator.fairness import few_max_min, max_min
from simulator.star import LEAST, Star
from simulator.topology import Route, Topology

__all__ = ["Carried", "Flow", "Network", "Route", "Topology"]

FEW = 40  # flows up to which plain numbers are faster than arrays
INFINITE = float("inf")
Carried = tuple[Route, float, float, float]  # links, began, ended, bytes


@dataclass(eq=False, slots=True)
class Flow:
    """A message under way: bytes still to be sent as of `since`, at `rate`; `version` counts its rates."""

    route: Route
    left: float
    sent: Callable[[], None]
    began: float
    since: float
    size: float
    rate: float = -1.0
    version: int = 0
    star: Star | None = None


class Network:
    """Flows on a topology in simulated time. `bytes_moved` counts what was sent, per link.

    log: where a caller sets a list, (links, began, ended, bytes) of each flow that was sent.
    """

    def __init__(self, clock: Clock, topology: Topology) -> None:
        self.clock = clock
        self.topology = topology
        self.added = [0.0] * topology.hosts  # seconds of latency, at present, beside the topology's
        self.log: list[Carried] | None = None
        self.least = LEAST  # flows of which a star is formed
        self._plain = topology.capacities().tolist()
        self._moved = [0.0] * len(self._plain)
        self._on: list[dict[Flow, None]] = [{} for _ in self._plain]  # in order of arrival, so that runs repeat
        self._stars: dict[int, Star] = {}  # by link, of all links that their flows use
        self._changed: dict[int, None] = {}
        self._agenda: list[tuple[float, int, Any, int]] = []  # what ends or arrives when, oldest first
        self._number = count()
        self._awake = INFINITE  # when the next waking is due
        self._busy = False  # whether this is a waking

    @property
    def capacity(self) -> NDArray[np.float64]:
        """bytes/s of every link at present."""
        return np.array(self._plain)

    @property
    def bytes_moved(self) -> NDArray[np.float64]:
        """Bytes that were sent over every link."""
        return np.array(self._moved)

    def send(self, source: int, target: int, size: float) -> Event:
        """Start a message of `size` bytes now; the event succeeds when its last byte was sent."""
        return self.send_over(self.topology.route(source, target), size)

    def send_over(self, route: Route, size: float) -> Event:
        """Start a message over given links."""
        sent = Event(self.clock)
        self.start(route, size, sent.succeed)
        return sent

    def start(self, route: Route, size: float, sent: Callable[[], Any]) -> Flow:
        """Start a message over given links and call `sent` when its last byte was sent.

        With size inf it lasts until `cancel`.
        """
        now, alone = self.clock.now, True
        flow = Flow(route, size, sent, now, now, size)
        if size <= 0:
            self.later(now, sent)
            return flow
        for link in route:
            on = self._on[link]
            if on:
                alone = False
            on[flow] = None
            if size < INFINITE:
                self._moved[link] += size
        if alone:  # nobody else's rate changes
            self._wake_at(self._run_at(flow, min([self._plain[link] for link in route]), now))
        elif not self._stars or not self._join(flow, now):
            self._settle_later(route)
        return flow

    def _join(self, flow: Flow, now: float) -> bool:
        """Let a flow join the only star on its way, if it has all other links to itself; else stars are dissolved."""
        star, others, fits = None, INFINITE, True
        for link in flow.route:
            found = self._stars.get(link)
            if found is not None and found.link == link and star is None:
                star = found
            elif found is not None or len(self._on[link]) > 1:
                fits = False
            elif self._plain[link] < others:
                others = self._plain[link]
        if star is not None and fits and star.fits(others):
            star.join(flow, flow.left, others, now)
            for link in flow.route:
                self._stars[link] = star
            if not star.ending:
                self._arm(star, now)
            return True
        for crowd in {self._stars[link] for link in flow.route if link in self._stars}:
            self._dissolve(crowd)
        return False

    def _arm(self, star: Star, now: float) -> None:
        end = star.next_end(now)
        heappush(self._agenda, (end, next(self._number), star, star.version))
        self._wake_at(end)

    def _dissolve(self, star: Star) -> None:
        """Back to rates of their own, which are settled anew."""
        links = [link for flow in star.flows for link in flow.route]
        for flow in star.dissolve(self.clock.now):
            flow.version += 1
            flow.rate = -flow.rate  # so that it is settled even if the rate stays
        for link in links:
            self._stars.pop(link, None)
        self._settle_later(links)

    def _star_due(self, star: Star) -> None:
        star.ending = True  # whoever joins now is counted in below
        for flow in star.due(self.clock.now):
            for link in flow.route:
                if link != star.link:
                    self._stars.pop(link, None)
            self._leave(flow)
        star.ending = False
        if len(star.flows) >= max(1, self.least // 2) and star.holds:
            self._arm(star, self.clock.now)
        elif star.flows:
            self._dissolve(star)
        else:
            self._stars.pop(star.link, None)
            star.version += 1

    def _form(self, flows: list[Flow], now: float) -> None:
        """Make a star of flows that were settled, if they are one."""
        common = set(flows[0].route)
        for flow in flows:
            common.intersection_update(flow.route)
            if not common or flow.left == INFINITE:
                return
        for link in common:
            rest = [other for flow in flows for other in flow.route if other != link]
            others, capacity = min((self._plain[other] for other in rest), default=INFINITE), self._plain[link]
            if all(len(self._on[other]) == 1 for other in rest) and 0 < capacity / len(flows) <= others:
                star = Star(link, capacity, others, now)
                for flow in flows:
                    flow.version += 1
                    star.join(flow, flow.left - flow.rate * (now - flow.since), others, now)
                self._stars.update(dict.fromkeys([link, *rest], star))
                self._arm(star, now)
                return

    def _run_at(self, flow: Flow, rate: float, now: float) -> float:
        """Give a flow another rate; returns when it ends."""
        if flow.rate > 0:
            flow.left -= flow.rate * (now - flow.since)
        flow.rate, flow.since = rate, now
        flow.version += 1
        if flow.left == INFINITE or rate <= 0:
            return INFINITE
        end = now + flow.left / rate if flow.left > 0 else now
        heappush(self._agenda, (end, next(self._number), flow, flow.version))
        return end

    def later(self, time: float, what: Callable[[], Any]) -> None:
        """Call `what` at `time`."""
        heappush(self._agenda, (time, next(self._number), what, -1))
        self._wake_at(time)

    def latency_of(self, source: int, target: int) -> float:
        """Seconds from a message's last byte sent to its arrival, if that is sent now."""
        latency = self.topology.latency_of(source, target)
        here, there = source // self.topology.workers_per_host, target // self.topology.workers_per_host
        return latency if here == there else latency + self.added[here] + self.added[there]

    def add_link(self, capacity: float) -> int:
        """One more link, bytes/s, beside those of the topology: a limit of its own for some stream."""
        self._plain.append(capacity)
        self._moved.append(0.0)
        self._on.append({})
        return len(self._plain) - 1

    def set_capacity(self, links: Sequence[int], capacity: float) -> None:
        """Change the rate of links, bytes/s, from now on; flows under way go on at their new share."""
        for star in {self._stars[link] for link in links if link in self._stars}:
            self._dissolve(star)
        for link in links:
            self._plain[link] = capacity
        self._settle_later(links)

    def cancel(self, flow: Flow) -> None:
        """End a message now, as if it were sent."""
        if flow.star is not None:
            self._dissolve(flow.star)
        flow.version += 1
        self._leave(flow)

    def _wake_at(self, time: float) -> None:
        if time < self._awake and not self._busy:
            self._awake = time
            self.clock.call(time, self._happen)

    def _happen(self, _: object) -> None:
        """All that is due: flows end, messages arrive."""
        now, agenda = self.clock.now, self._agenda
        if self._awake > now:
            return  # what this waking was for has been dealt with
        self._busy = True
        while agenda and agenda[0][0] <= now:
            what, version = heappop(agenda)[2:]
            if version < 0:
                what()
            elif version == what.version:  # else its rate has changed since
                self._leave(what) if isinstance(what, Flow) else self._star_due(what)
        if self._changed:
            if self.clock.peek() > now:  # nobody else starts or ends anything now
                self._settle()
            else:
                self._settle_when_all_is_said()
        while agenda and agenda[0][3] >= 0 and agenda[0][2].version != agenda[0][3]:
            heappop(agenda)
        self._busy, self._awake = False, INFINITE
        if agenda:
            self._wake_at(agenda[0][0])

    def _settle_later(self, links: Sequence[int]) -> None:
        # all flows that start or end at one time are settled together, once
        if not self._changed and not self._busy:
            self._settle_when_all_is_said()
        for link in links:
            self._changed[link] = None

    def _settle_when_all_is_said(self) -> None:
        self.clock.call(self.clock.now, self._settle_now, LATE)

    def _settle_now(self, _: object) -> None:
        self._settle()

    def _leave(self, flow: Flow) -> None:
        shared = False
        for link in flow.route:
            on = self._on[link]
            del on[flow]
            shared = shared or bool(on)
        if self.log is not None:
            self.log.append((flow.route, flow.began, float(self.clock.now), flow.size))
        flow.sent()
        if shared and not (self._stars and any(link in self._stars for link in flow.route)):
            self._settle_later(flow.route)  # else nobody takes its place, or all of a star do

    def _settle(self) -> None:
        flows = self._touched()
        self._changed = {}
        now, first = self.clock.now, INFINITE
        for flow, rate in zip(flows, self._rates(flows), strict=True):
            if rate != flow.rate:  # an unchanged rate keeps its end, so that no rounding piles up
                first = min(first, self._run_at(flow, rate, now))
        self._wake_at(first)
        if len(flows) >= self.least:
            self._form(flows, now)

    def _rates(self, flows: list[Flow]) -> list[float]:
        if len(flows) == 1:
            return [min([self._plain[link] for link in flows[0].route])]
        if len(flows) <= FEW:
            return few_max_min([flow.route for flow in flows], self._plain)
        routes = [flow.route for flow in flows]
        longest = max(map(len, routes))
        padded = np.array([route + (-1,) * (longest - len(route)) for route in routes])
        rates: list[float] = max_min(padded, self.capacity).tolist()
        return rates

    def _touched(self) -> list[Flow]:
        """Flows whose rate the changed links can have changed: those joined to them by shared links."""
        links, flows = list(self._changed), dict[Flow, None]()
        seen = set(links)
        while links:
            for flow in self._on[links.pop()]:
                if flow not in flows:
                    flows[flow] = None
                    for link in flow.route:
                        if link not in seen:
                            seen.add(link)
                            links.append(link)
        return list(flows)
