"""A schedule of messages played as flows on links, and who waits for whom where it cannot end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from simpy.events import AllOf, Event

from simulator.clock import Clock
from simulator.collectives import Schedule
from simulator.network import Network
from simulator.topology import Topology
from toolkit.errors import UserError


class Deadlock(UserError):
    """Nothing can happen any more, and not all is done: the message names who waits for whom."""


@dataclass(eq=False, slots=True)
class _Message:
    """One message of a played schedule: starts when both its ends have joined."""

    number: int
    source: int
    target: int
    size: float
    joined: list[int] = field(default_factory=list)
    arrived: bool = False


@dataclass(eq=False)
class Play:
    """A schedule under way. `done`: one event a rank, which succeeds when that rank is through.

    turns: the rounds in the order in which each rank takes them, where that is not the schedule's.
    """

    network: Network
    rounds: Schedule
    turns: Sequence[Sequence[int]] | None = None

    def __post_init__(self) -> None:
        workers = self.network.topology.workers
        self.done = [Event(self.network.clock) for _ in range(workers)]
        self._todo: list[list[list[_Message]]] = [[] for _ in range(workers)]  # of each rank and round, last first
        self._open = [0] * workers  # what a rank's round still lacks
        self._work = [0.0] * workers  # seconds of a rank after its round
        self._fill(workers)
        self._at: list[list[_Message]] = [[] for _ in range(workers)]
        for rank in range(workers):
            self._next(rank)

    def _fill(self, workers: int) -> None:
        by_round: list[dict[int, list[_Message]]] = []
        for number, messages in enumerate(self.rounds):
            of_rank: dict[int, list[_Message]] = {}
            rows = zip(messages.source.tolist(), messages.target.tolist(), messages.size.tolist(), strict=True)
            for source, target, size in rows:
                message = _Message(number, source, target, size)
                of_rank.setdefault(source, []).append(message)
                of_rank.setdefault(target, []).append(message)
            by_round.append(of_rank)
        for rank in range(workers):
            order = range(len(self.rounds)) if self.turns is None else self.turns[rank]
            self._todo[rank] = [by_round[number][rank] for number in reversed(order) if rank in by_round[number]]

    def _next(self, rank: int) -> None:
        """Let a rank enter its next round."""
        if not self._todo[rank]:
            self._at[rank] = []
            self.done[rank].succeed()
            return
        messages = self._at[rank] = self._todo[rank].pop()
        self._open[rank], self._work[rank] = len(messages), 0.0
        for message in messages:
            message.joined.append(rank)
            if len(message.joined) == 2:
                self._start(message)

    def _start(self, message: _Message) -> None:
        network, source, target = self.network, message.source, message.target

        def arrived() -> None:
            message.arrived = True
            self._work[target] = max(self._work[target], self.rounds[message.number].work)
            self._one_less(target)

        def sent() -> None:
            network.later(network.clock.now + network.latency_of(source, target), arrived)
            self._one_less(source)

        route, overhead = network.topology.route(source, target), network.topology.overhead
        if overhead > 0:
            network.later(network.clock.now + overhead, lambda: network.start(route, message.size, sent))
        else:
            network.start(route, message.size, sent)

    def _one_less(self, rank: int) -> None:
        self._open[rank] -= 1
        if self._open[rank]:
            return
        if self._work[rank] > 0:
            self.network.later(self.network.clock.now + self._work[rank], lambda: self._next(rank))
        else:
            self._next(rank)

    def waits(self) -> list[str]:
        """Who waits for whom: a line for each rank whose partner has not come to a message of theirs."""
        lines = []
        for rank, messages in enumerate(self._at):
            for m in messages:
                other = m.target if rank == m.source else m.source
                if len(m.joined) == 2 and not m.arrived and rank == m.target:
                    lines.append(f"rank {rank} waits for the message of rank {other} in round {m.number}, cut off")
                if m.joined == [rank]:
                    act = f"to send to rank {other}" if rank == m.source else f"for a message of rank {other}"
                    lines.append(f"rank {rank} waits {act} in round {m.number}")
        return lines


def run_until(clock: Clock, event: Event, waits: Callable[[], list[str]]) -> None:
    """Run until an event; Deadlock, with what `waits` tells, where it can never come."""
    try:
        clock.run(until=event)
    except RuntimeError as error:
        if event.triggered:
            raise
        raise Deadlock("deadlock: " + ("; ".join(waits()) or "nothing is left to happen")) from error


def flow_seconds(rounds: Schedule, topology: Topology, turns: Sequence[Sequence[int]] | None = None) -> float:
    """Seconds until the last rank is through, played as flows on links that are idle at first. Raises Deadlock."""
    clock = Clock()
    play = Play(Network(clock, topology), rounds, turns)
    run_until(clock, AllOf(clock, play.done), play.waits)
    return float(clock.now)
