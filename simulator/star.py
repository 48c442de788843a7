"""Many flows on one link, each with its other links to itself: a crowd at a server, say.

All have the link's even share, so one virtual clock counts the bytes that each of them has sent since it came: a flow's
end on it never changes, and whoever comes or goes costs a logarithm, not a visit to everybody else (the same trick as
in simulator/pool.py).
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.network import Flow

LEAST = 8  # flows from which this is worth its keeping
EXACT = 1e-12  # relative: flows whose ends differ by rounding alone end together


class Star:
    """Flows that share `link` of so many bytes/s evenly; others: the slowest of their other links, bytes/s."""

    def __init__(self, link: int, capacity: float, others: float, now: float) -> None:
        self.link, self.capacity, self.others = link, capacity, others
        self.flows: dict[Flow, float] = {}  # its end on the virtual clock
        self.version, self.ending = 0, False
        self._ends: list[tuple[float, int, Flow]] = []
        self._virtual, self._since = 0.0, now
        self._number = 0

    def fits(self, others: float) -> bool:
        """Whether one more flow would leave the link the only one that limits anybody."""
        return self.capacity / (len(self.flows) + 1) <= min(self.others, others)

    @property
    def holds(self) -> bool:
        """Whether the link limits everybody still, now that some have left."""
        return self.capacity / len(self.flows) <= self.others

    def join(self, flow: Flow, left: float, others: float, now: float) -> None:
        self._advance(now)
        end = self._virtual + left
        self.flows[flow] = end
        flow.star = self
        self._number += 1
        heappush(self._ends, (end, self._number, flow))
        self.others = min(self.others, others)

    def due(self, now: float) -> list[Flow]:
        """The flows that end now; they leave."""
        self._advance(now)
        self._virtual = max(self._virtual, self._ends[0][0])
        ended = []
        while self._ends and self._ends[0][0] <= self._virtual * (1 + EXACT):
            flow = heappop(self._ends)[2]
            del self.flows[flow]
            flow.star = None
            ended.append(flow)
        return ended

    def next_end(self, now: float) -> float:
        """When the next flow ends if nobody comes or goes; a new version, so that earlier answers are void."""
        self._advance(now)
        self.version += 1
        return now + max(0.0, self._ends[0][0] - self._virtual) * len(self.flows) / self.capacity

    def dissolve(self, now: float) -> list[Flow]:
        """Give every flow what it has left and its rate, and let it go."""
        self._advance(now)
        self.version += 1
        flows = list(self.flows)
        for flow in flows:
            flow.left, flow.since = max(0.0, self.flows[flow] - self._virtual), now
            flow.rate, flow.star = self.capacity / len(flows), None
        self.flows, self._ends = {}, []
        return flows

    def _advance(self, now: float) -> None:
        if self.flows:
            self._virtual += (now - self._since) * self.capacity / len(self.flows)
        self._since = now
