"""The event engine: workers, Horovod's background thread and, where asked for, every message as a flow, in SimPy.

A worker costs two events a step: its launches are known as soon as its step begins, its end as soon as the last
exchange is complete. An exchange costs two more. Times are carried as numbers (worker.py, horovod.py); SimPy orders.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from simpy.events import AllOf, Event

from simulator.clock import LATE, Clock
from simulator.disturb import happen
from simulator.fold import Fold, Jitter, outcome
from simulator.network import Network
from simulator.plan import Plan
from simulator.spans import Sink, step_spans
from simulator.timing import play
from simulator.worker import finish, launch
from toolkit.trace import Span

Waiting = Generator[Event, object, None]


@dataclass
class Board:
    """One step's exchanges: who has launched them, and when each was complete, (buckets,)."""

    number: int
    ready: NDArray[np.float64]
    done: NDArray[np.float64]
    missing: int
    open: int
    complete: Event


class Engine:
    """One run. Create it, call `run` once. `sink` takes every span from step `since` on."""

    def __init__(self, plan: Plan, seed: int, *, sink: Sink | None = None, since: int = 0, flows: bool = False) -> None:
        self.plan, self.sink, self.since, self.flows = plan, sink, since, flows
        self.clock = Clock()
        self.network = Network(self.clock, plan.topology)
        self.jitter, self.fold = Jitter(plan, seed), Fold(plan, np.arange(plan.topology.workers))
        self.boards: dict[int, Board] = {}
        self.queue: list[tuple[float, int, int]] = []  # ready since, step, bucket
        self.wake = self.clock.event()
        self.barrier = self.clock.event()
        self.arrived: list[float] = []

    def run(self) -> Fold:
        """Simulate all steps; the fold of all workers."""
        workers = [self.clock.process(self._worker(rank)) for rank in range(self.plan.topology.workers)]
        self.clock.process(self._background())
        happen(self.clock, self.network, self.plan.scenario)
        self.clock.run(until=AllOf(self.clock, workers))
        return self.fold

    def _worker(self, rank: int) -> Waiting:
        plan, rows, start = self.plan, slice(rank, rank + 1), 0.0
        for number in range(plan.steps):
            step, factor = plan.step(number), self.jitter.factors(number)[rows]
            begin = np.array([start])
            launches = launch(plan, step, rows, begin, factor)
            board = self._board(number)
            self._post(board, launches.launched[0])
            yield board.complete
            end = finish(step, launches, board.ready, board.done)
            self.fold.add(outcome(plan, step, rows, factor, end), rows)
            self.fold.seconds[rank].append(float(end.end[0]) - start)
            if self.sink is not None and number >= self.since:
                times = (start, launches, end)
                for span in step_spans(plan, number, rank, times, float(factor[0]), board.done.tolist()):
                    self.sink(span)
            start = float(end.end[0])
            yield self.clock.at(max(start, self.clock.now))
            every = plan.experiment.checkpoint.every
            if every and (number + 1) % every == 0 and number + 1 < plan.steps:
                before, start = start, 0.0
                yield self._meet(before)
                start = max(self.arrived) + plan.checkpoint_seconds()
                self.fold.checkpoint[rank] += start - before
                yield self.clock.at(start)
                self.arrived = []
                if self.sink is not None and number >= self.since:
                    size = plan.checkpoint_bytes(rank)
                    self.sink(Span("checkpoint", "disk", size, before, start, number, rank))

    def _meet(self, time: float) -> Event:
        """A barrier of all workers; the event succeeds when the last one is here."""
        self.arrived.append(time)
        barrier = self.barrier
        if len(self.arrived) == self.plan.topology.workers:
            self.barrier = self.clock.event()
            barrier.succeed()
        return barrier

    def _board(self, number: int) -> Board:
        if number not in self.boards:
            buckets = len(self.plan.buckets)
            nothing, workers = np.full(buckets, -np.inf), self.plan.topology.workers
            self.boards[number] = Board(number, nothing, np.zeros(buckets), workers, buckets, self.clock.event())
            self.boards.pop(number - 2, None)
        return self.boards[number]

    def _post(self, board: Board, launched: NDArray[np.float64]) -> None:
        board.ready = np.maximum(board.ready, launched)
        board.missing -= 1
        if board.missing > 0:
            return
        self.fold.wire += self.plan.step(board.number).wire
        for bucket, time in enumerate(board.ready.tolist()):
            item = (time, board.number, bucket)
            event = self.clock.at(max(time, self.clock.now))
            event.callbacks.append(lambda _, item=item: self._enqueue(item))  # type: ignore[misc]

    def _enqueue(self, item: tuple[float, int, int]) -> None:
        self.queue.append(item)
        if not self.wake.triggered:
            self.wake.succeed()

    def _background(self) -> Waiting:
        """Horovod's thread, that of all ranks in step."""
        cycle, origin = self.plan.cycle, 0.0
        while True:
            if not self.queue:
                self.wake = self.clock.event()
                yield self.wake
            tick = cycle.tick(origin, min(self.queue)[0])
            yield self.clock.at(max(tick, self.clock.now), priority=LATE)
            batch, self.queue = sorted(self.queue), []
            cached = all(self.plan.step(number).cached for _, number, _ in batch)
            now = tick + cycle.coordination(cached)
            for _, number, bucket in batch:
                board, step = self.boards[number], self.plan.step(number)
                if self.flows:
                    now = yield from self._flow(number, bucket, now)
                else:
                    now = now + (cycle.call_s + step.seconds[bucket])
                    yield self.clock.at(max(now, self.clock.now))
                board.done[bucket] = now
                board.open -= 1
                if board.open == 0:
                    board.complete.succeed()
            origin = cycle.following(tick, now)

    def _flow(self, number: int, bucket: int, begin: float) -> Generator[Event, object, float]:
        plan, step = self.plan, self.plan.step(number)
        yield self.clock.at(max(begin + plan.cycle.call_s, self.clock.now))
        rounds = plan.timing.rounds(step.costs.kind, plan.sizes(step.costs, step.load, bucket))
        yield AllOf(self.clock, play(self.network, rounds))
        return float(self.clock.now)
