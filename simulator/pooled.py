"""The event engine where workers share their host's cores as they come ([cluster] cpu_sharing = "processor").

A worker that waits for an exchange leaves its core to others. Its step is played task by task: what runs on cores
(compression, merging, the optimizer, data; forward and backward where there is no device) in the host's pool, the rest
beside it. Where no host has more tasks than cores, it takes the time of the other engines (tests).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np
from simpy.events import AllOf, Event

from simulator.engine import Board, Engine, Waiting
from simulator.fold import Outcome
from simulator.plan import Plan
from simulator.pool import Pool
from simulator.spans import Sink
from simulator.stepcosts import Step
from simulator.worker import Pace
from toolkit.trace import Span


@dataclass
class Shared(Board):
    """A board whose launches and waits are counted bucket by bucket.

    unlaunched, unreached: workers that have not launched a bucket, or come to its wait. reached: all have. met: its
    exchange is complete.
    """

    unlaunched: list[int] = field(default_factory=list)
    unreached: list[int] = field(default_factory=list)
    reached: list[Event] = field(default_factory=list)
    met: list[Event] = field(default_factory=list)


class PooledEngine(Engine):
    """One run; see Engine."""

    def __init__(self, plan: Plan, seed: int, *, sink: Sink | None = None, since: int = 0, flows: bool = False) -> None:
        super().__init__(plan, seed, sink=sink, since=since, flows=flows)
        cores = plan.experiment.cluster.cores_per_host
        self.pools = [Pool(self.clock, cores) for _ in range(plan.topology.hosts)]
        self.shared: dict[int, Shared] = {}
        self.width = float(plan.experiment.compression.threads)

    def _board(self, number: int) -> Shared:
        if number not in self.shared:
            plain, buckets = super()._board(number), len(self.plan.buckets)
            plain.finished = plain.finished or [self.clock.event() for _ in range(buckets)]
            values = {name: getattr(plain, name) for name in Board.__dataclass_fields__}
            counts = [[self.plan.topology.workers] * buckets for _ in range(2)]
            events = [[self.clock.event() for _ in range(buckets)] for _ in range(2)]
            self.boards[number] = self.shared[number] = Shared(**values, unlaunched=counts[0], unreached=counts[1])
            self.shared[number].reached, self.shared[number].met = events
            self.shared.pop(number - 2, None)
        return self.shared[number]

    def _worker(self, rank: int) -> Waiting:
        plan, every = self.plan, self.plan.experiment.checkpoint.every
        for number in range(plan.steps):
            board, start = self._board(number), float(self.clock.now)
            player = _Player(self, board, rank, self.jitter.pace(number).of(slice(rank, rank + 1)))
            yield from player.step()
            self.fold.add(player.outcome(), slice(rank, rank + 1))
            end = float(self.clock.now)
            self.fold.lasted(number, rank, end - start)
            player.span("step", "", start, end)
            if every and (number + 1) % every == 0 and number + 1 < plan.steps:
                yield from self._checkpoint(rank, number, end)

    def launched(self, board: Shared, rank: int, bucket: int) -> None:
        """Note that a worker has launched a bucket's exchange, now."""
        now, step = float(self.clock.now), self.plan.step(board.number)
        board.unlaunched[bucket] -= 1
        if board.unlaunched[bucket] == 0:
            board.ready[bucket] = now
            if not step.costs.in_wait[bucket]:
                self._enqueue_at((now, board.number, bucket, 0))
        if bucket == len(self.plan.buckets) - 1:
            board.own[rank] = now
            board.absent.discard(rank)
            if not board.absent:
                self.fold.wire += step.wire
                self.clock.process(self._in_waits(board))

    def waited(self, board: Shared, bucket: int) -> Event:
        """Note that a worker waits for a bucket; the event succeeds when its exchange is complete."""
        board.unreached[bucket] -= 1
        if board.unreached[bucket] == 0:
            board.reached[bucket].succeed()
        return board.met[bucket]

    def _complete(self, board: Board, bucket: int, now: float) -> None:
        super()._complete(board, bucket, now)
        assert isinstance(board, Shared)
        board.met[bucket].succeed(now)

    def _in_waits(self, board: Board) -> Waiting:
        assert isinstance(board, Shared)
        for bucket, way in enumerate(self.plan.step(board.number).costs.ways):
            if way.in_wait:
                yield board.reached[bucket]
                now = yield from self._carry(board, bucket, 0, float(self.clock.now), 0.0)
                self._complete(board, bucket, now)
            elif way.again:
                yield AllOf(self.clock, [board.reached[bucket], board.finished[bucket]])
                board.finished[bucket] = self.clock.event()
                self._enqueue_at((float(self.clock.now), board.number, bucket, 1))


class _Player:
    """One step of one worker, task by task."""

    def __init__(self, engine: PooledEngine, board: Shared, rank: int, pace: Pace) -> None:
        self.engine, self.board, self.rank = engine, board, rank
        self.plan = engine.plan
        self.factor, self.cores = float(pace.compute[0]), float(pace.cores[0])
        self.pool = engine.pools[rank // engine.plan.topology.workers_per_host]
        self.own: list[float] = []  # when it launched each bucket
        self.seconds = dict.fromkeys(("compute", "compress", "optimize", "communicate", "other"), 0.0)

    def span(self, what: str, name: str, start: float, end: float, size: int = 0) -> None:
        if self.engine.sink is not None and self.board.number >= self.engine.since:
            self.engine.sink(Span(what, name, size, start, end, self.board.number, self.rank))

    def _do(
        self, share: str, what: str, name: str, seconds: float, width: float = 1.0, size: int = 0
    ) -> Generator[Event, object, None]:
        """A task on the host's cores."""
        start = float(self.engine.clock.now)
        yield self.pool.work(seconds * self.cores, width)
        end = float(self.engine.clock.now)
        self.seconds[share] += end - start
        if what:
            self.span(what, name, start, end, size)

    def _compute(self, what: str, name: str, seconds: float) -> Generator[Event, object, None]:
        """Forward or backward, on the cores or on the worker's own device."""
        start = float(self.engine.clock.now)
        if self.plan.on_cores:
            yield self.pool.work(seconds * self.factor)
        else:
            yield self.engine.clock.at(start + seconds * self.factor)
        end = float(self.engine.clock.now)
        self.seconds["compute"] += end - start
        self.span(what, name, start, end)

    def step(self) -> Waiting:
        plan, step, rank = self.plan, self.plan.step(self.board.number), self.rank
        yield from self._do("other", "", "", plan.step_s)
        left, last = float(step.load.batches[rank]), float(step.load.last[rank])
        while left > 1e-12:
            part = min(1.0, left)
            left -= part
            yield from self._do("compute", "data", "", plan.data_s * part)
            yield from self._compute("forward", "", plan.forward_s * part)
            if left > 1e-12:
                yield from self._compute("backward", "", plan.backward_s * part)
        yield from self._launch(step, last)
        for bucket in range(len(plan.buckets)):
            yield from self._merge(step, bucket)
        yield from self._do("optimize", "optimize", "", step.costs.optimize)

    def _launch(self, step: Step, last: float) -> Waiting:
        """The last backward, which completes the buckets; a worker without examples launches at once."""
        overlap, before = self.plan.experiment.pipeline.overlap, 0.0
        if not overlap and last > 0:
            yield from self._compute("backward", "", self.plan.backward_s * last)
        for bucket, complete in enumerate(self.plan.ready_after.tolist()):
            name = f"bucket{bucket}"
            if step.load.busy[self.rank]:
                if overlap:
                    yield from self._compute("backward", name, (complete - before) * last)
                    before = complete
                seconds, size = float(step.costs.compress[bucket]), step.costs.payload[bucket]
                yield from self._do("compress", "compress", name, seconds, self.engine.width, size)
            self.own.append(float(self.engine.clock.now))
            self.engine.launched(self.board, self.rank, bucket)

    def _merge(self, step: Step, bucket: int) -> Waiting:
        clock, name = self.engine.clock, f"bucket{bucket}"
        start = float(clock.now)
        yield self.engine.waited(self.board, bucket)
        met, ready = float(clock.now), float(self.board.ready[bucket])
        self.seconds["communicate"] += met - min(max(ready, start), met)
        self.span("wait", name, start, met)
        self.span("communicate", name, self.own[bucket], met, int(step.costs.ways[bucket].sent[self.rank]))
        yield from self._do("compress", "merge", name, float(step.costs.merge[bucket]))

    def outcome(self) -> Outcome:
        """What the step adds to the fold."""
        values = [np.array([self.seconds[share]]) for share in ("compute", "compress", "communicate", "optimize")]
        sent = self.plan.step(self.board.number).costs.sent[self.rank : self.rank + 1]
        return Outcome(values[0], values[1], values[2], values[3], sent)
