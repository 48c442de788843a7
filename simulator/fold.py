"""Simulated steps folded into the numbers of a result, without a span in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simulator.plan import Plan, Step
from simulator.worker import Finish, Launches, Rows
from toolkit.trace import RankSteps

Array = NDArray[np.float64]


class Jitter:
    """Each worker's compute factor in each step: lognormal with mean 1, one random stream a worker.

    Drawn in chunks of steps, so that memory does not grow with the length of a run.
    """

    CHUNK = 256

    def __init__(self, plan: Plan, seed: int) -> None:
        self.slowdown = plan.slowdown
        cv = plan.compute_cv
        self.sigma = float(np.sqrt(np.log1p(cv * cv)))
        workers = plan.topology.workers
        streams = np.random.SeedSequence(seed).spawn(workers) if cv > 0 else []
        self._streams = [np.random.default_rng(stream) for stream in streams]
        self._chunks: dict[int, Array] = {}

    def factors(self, step: int) -> Array:
        """Factors of all workers in `step`, (workers,); steps are asked for in nearly ascending order."""
        if not self._streams:
            return self.slowdown
        number, row = divmod(step, self.CHUNK)
        if number not in self._chunks:
            normal = np.stack([stream.standard_normal(self.CHUNK) for stream in self._streams], axis=1)
            self._chunks[number] = np.exp(self.sigma * normal - self.sigma**2 / 2) * self.slowdown
            self._chunks.pop(number - 2, None)
        return self._chunks[number][row]


@dataclass
class Fold:
    """Sums over steps, (workers,) each, and every worker's step times."""

    plan: Plan
    compute: Array = field(init=False)
    compress: Array = field(init=False)
    communicate: Array = field(init=False)
    optimize: Array = field(init=False)
    checkpoint: Array = field(init=False)
    sent: NDArray[np.int64] = field(init=False)
    wire: float = 0.0

    def __post_init__(self) -> None:
        workers = self.plan.topology.workers
        self.compute, self.compress = np.zeros(workers), np.zeros(workers)
        self.communicate, self.optimize = np.zeros(workers), np.zeros(workers)
        self.checkpoint, self.sent = np.zeros(workers), np.zeros(workers, dtype=np.int64)
        self.starts: list[list[float]] = [[] for _ in range(workers)]
        self.ends: list[list[float]] = [[] for _ in range(workers)]

    def add(self, step: Step, rows: Rows, times: tuple[Array, Launches, Finish], factor: Array, ready: Array) -> None:
        """Add one step of the workers `rows`. times: start, launches, finish; ready: last launch of each bucket."""
        plan, costs, load = self.plan, step.costs, step.load
        start, _, done = times
        batches = load.batches[rows]
        whole = (plan.forward_s + plan.backward_s) * batches
        self.compute[rows] += plan.data_s * batches + factor * whole
        self.compress[rows] += load.busy[rows] * float(costs.compress.sum()) + float(costs.merge.sum())
        blocked = done.met - np.minimum(np.maximum(ready, done.waits), done.met)
        self.communicate[rows] += blocked.sum(axis=1)
        self.optimize[rows] += costs.optimize
        self.sent[rows] += np.where(load.busy[rows], sum(costs.payload), plan.empty_bytes(costs))
        for rank, begin, end in zip(
            range(*rows.indices(len(self.sent))), start.tolist(), done.end.tolist(), strict=True
        ):
            self.starts[rank].append(begin)
            self.ends[rank].append(end)

    def add_wire(self, step: Step) -> None:
        """Count the bytes that a step's exchanges put on the wire, mean over workers."""
        timing = self.plan.timing
        for bucket in range(len(self.plan.buckets)):
            sizes = self.plan.sizes(step.costs, step.load, bucket)
            self.wire += timing.wire(step.costs.kind, sizes)

    def ranks(self) -> list[RankSteps]:
        """One RankSteps a worker for toolkit.trace.summarize; waiting is already split."""
        rows = []
        for rank in range(len(self.sent)):
            steps = RankSteps(bytes_sent=int(self.sent[rank]), step_start=self.starts[rank], step_end=self.ends[rank])
            for share in ("compute", "compress", "communicate", "optimize", "checkpoint"):
                steps.seconds[share] = float(getattr(self, share)[rank])
            rows.append(steps)
        return rows
