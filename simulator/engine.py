"""The event engine: workers, Horovod's background thread and, where asked for, every message as a flow, in SimPy.

A worker costs two events a step: its launches are known as soon as its step begins, its end as soon as the last
exchange is complete. An exchange costs two more. Times are carried as numbers (worker.py, horovod.py); SimPy orders.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from simpy.events import AllOf, Event

from simulator.clock import LATE, Clock
from simulator.disturb import happen
from simulator.fold import Fold, Jitter, outcome
from simulator.network import Network
from simulator.plan import Plan
from simulator.play import Play, run_until
from simulator.spans import Sink, link_spans, step_spans
from simulator.worker import begin_in_wait, finish, launch
from toolkit.trace import Span

Waiting = Generator[Event, object, None]


@dataclass
class Board:
    """One step's exchanges: who has launched them, and when each was complete, (buckets,).

    own: when each worker had launched everything, (workers,). absent: who has not. finished: an event a bucket, where
    somebody waits for single ones.
    """

    number: int
    ready: NDArray[np.float64]
    done: NDArray[np.float64]
    own: NDArray[np.float64]
    absent: set[int]
    open: int
    complete: Event
    finished: list[Event]


class Engine:
    """One run. Create it, call `run` once. `sink` takes every span from step `since` on."""

    def __init__(self, plan: Plan, seed: int, *, sink: Sink | None = None, since: int = 0, flows: bool = False) -> None:
        self.plan, self.sink, self.since, self.flows = plan, sink, since, flows
        self.clock = Clock()
        self.network = Network(self.clock, plan.topology)
        self.jitter, self.fold = Jitter(plan, seed), Fold(plan, np.arange(plan.topology.workers))
        self.boards: dict[int, Board] = {}
        self.queue: list[tuple[float, int, int, int]] = []  # ready since, step, bucket, round
        self.wake = self.clock.event()
        self.barrier = self.clock.event()
        self.arrived: list[float] = []
        self.plays: list[Play] = []

    def run(self) -> Fold:
        """Simulate all steps; the fold of all workers. Raises Deadlock."""
        workers = [self.clock.process(self._worker(rank)) for rank in range(self.plan.topology.workers)]
        self.clock.process(self._background())
        happen(self.clock, self.network, self.plan.scenario)
        run_until(self.clock, AllOf(self.clock, workers), self._waits)
        if self.sink is not None:
            names = self.plan.topology.link_names()
            for span in link_spans(self.network.log or (), names):
                self.sink(span)
        return self.fold

    def _waits(self) -> list[str]:
        """Who waits for whom when nothing happens any more."""
        lines = [line for play in self.plays for line in play.waits()]
        for board in self.boards.values():
            if board.absent and len(board.absent) < self.plan.topology.workers:
                lines.append(f"step {board.number}: all others wait for workers {sorted(board.absent)}")
        return lines

    def _worker(self, rank: int) -> Waiting:
        plan, rows, start = self.plan, slice(rank, rank + 1), 0.0
        for number in range(plan.steps):
            step, pace = plan.step(number), self.jitter.pace(number).of(rows)
            if self.flows and self.sink is not None and number == self.since and self.network.log is None:
                self.network.log = []
            begin = np.array([start])
            launches = launch(plan, step, rows, begin, pace)
            board = self._board(number)
            self._post(board, rank, launches.launched[0])
            yield board.complete
            end = finish(step, launches, board.ready, board.done, pace.cores)
            self.fold.add(outcome(plan, step, rows, pace, end), rows)
            self.fold.lasted(number, rank, float(end.end[0]) - start)
            if self.sink is not None and number >= self.since:
                times = (start, launches, end)
                for span in step_spans(plan, number, rank, times, pace, board.done.tolist()):
                    self.sink(span)
            start = float(end.end[0])
            yield self.clock.at(max(start, self.clock.now))
            every = plan.experiment.checkpoint.every
            if every and (number + 1) % every == 0 and number + 1 < plan.steps:
                start = yield from self._checkpoint(rank, number, start)

    def _checkpoint(self, rank: int, number: int, before: float) -> Generator[Event, object, float]:
        """All workers meet, write, and go on together; returns when."""
        yield self._meet(before)
        start = max(self.arrived) + self.plan.checkpoint_seconds()
        self.fold.checkpoint[rank] += start - before
        yield self.clock.at(start)
        self.arrived = []
        if self.sink is not None and number >= self.since:
            size = self.plan.checkpoint_bytes(rank)
            self.sink(Span("checkpoint", "disk", size, before, start, number, rank))
        return start

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
            buckets, workers = len(self.plan.buckets), self.plan.topology.workers
            nothing, single = np.full(buckets, -np.inf), not self.plan.step(number).costs.simple
            finished = [self.clock.event() for _ in range(buckets)] if single else []
            everybody = set(range(workers))
            self.boards[number] = Board(
                number,
                nothing,
                np.zeros(buckets),
                np.zeros(workers),
                everybody,
                buckets,
                self.clock.event(),
                finished,
            )
            self.boards.pop(number - 2, None)
        return self.boards[number]

    def _post(self, board: Board, rank: int, launched: NDArray[np.float64]) -> None:
        board.ready = np.maximum(board.ready, launched)
        board.own[rank] = launched[-1]
        board.absent.discard(rank)
        if board.absent:
            return
        step = self.plan.step(board.number)
        self.fold.wire += step.wire
        for bucket, time in enumerate(board.ready.tolist()):
            if not step.costs.in_wait[bucket]:
                self._enqueue_at((time, board.number, bucket, 0))
        if not step.costs.simple or step.costs.in_wait.any():
            self.clock.process(self._in_waits(board))

    def _enqueue_at(self, item: tuple[float, int, int, int]) -> None:
        event = self.clock.at(max(item[0], self.clock.now))
        event.callbacks.append(lambda _: self._enqueue(item))

    def _enqueue(self, item: tuple[float, int, int, int]) -> None:
        self.queue.append(item)
        if not self.wake.triggered:
            self.wake.succeed()

    def _complete(self, board: Board, bucket: int, now: float) -> None:
        board.done[bucket] = now
        board.open -= 1
        if board.open == 0:
            board.complete.succeed()

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
            cached = all(self.plan.step(number).cached for _, number, _, _ in batch)
            now = tick + cycle.coordination(cached)
            for _, number, bucket, turn in batch:
                board, way = self.boards[number], self.plan.step(number).costs.ways[bucket]
                now = yield from self._carry(board, bucket, turn, now, cycle.call_s)
                if board.finished:
                    board.finished[bucket].succeed(now)
                if turn or not way.again:
                    self._complete(board, bucket, now)
            origin = cycle.following(tick, now)

    def _in_waits(self, board: Board) -> Waiting:
        """What begins only when all workers wait for it: bucket after bucket, as they come to them."""
        costs = self.plan.step(board.number).costs
        waits = begin_in_wait(board.own, self.jitter.pace(board.number).cores, costs.merged_before)
        for bucket, way in enumerate(costs.ways):
            if way.in_wait:
                begin = waits.reach(bucket)
                yield self.clock.at(max(begin, self.clock.now))
                now = yield from self._carry(board, bucket, 0, begin, 0.0)
                self._complete(board, bucket, now)
            else:
                yield board.finished[bucket]
                now = cast(float, board.finished[bucket].value)
                if way.again:
                    board.finished[bucket] = self.clock.event()
                    self._enqueue_at((max(now, waits.reach(bucket)), board.number, bucket, 1))
                    yield board.finished[bucket]
                    now = cast(float, board.finished[bucket].value)
            waits.met(bucket, now)

    def _carry(
        self, board: Board, bucket: int, turn: int, begin: float, call_s: float
    ) -> Generator[Event, object, float]:
        """One exchange, begun at `begin`; returns when it is complete."""
        step = self.plan.step(board.number)
        way = step.costs.ways[bucket]
        if not self.flows:
            now = begin + (call_s + (step.again if turn else step.seconds)[bucket])
            yield self.clock.at(max(now, self.clock.now))
            return now
        yield self.clock.at(max(begin + call_s, self.clock.now))
        kind, sizes = ("allreduce", way.again) if turn else (way.kind, way.sizes)
        play = Play(self.network, self.plan.timing.rounds(kind, sizes))
        self.plays.append(play)
        yield AllOf(self.clock, play.done)
        self.plays.remove(play)
        return float(self.clock.now)
