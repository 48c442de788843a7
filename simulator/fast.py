"""The fast path: a recurrence from step to step on arrays over all workers, for BSP on exclusive links.

It is exact, not an approximation: under the conditions that `refusal` checks, nothing happens inside a step that the
arithmetic of worker.py and horovod.serve does not cover. Tests hold it against the event engine to 1e-9.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.fold import Fold, Jitter, Outcome, outcome
from simulator.horovod import serve
from simulator.plan import Plan
from simulator.stepcosts import Step
from simulator.worker import Array, Pace, begin_in_wait, finish, launch


def refusal(plan: Plan, *, traced: bool, flows: bool) -> str | None:
    """Why the fast path cannot run this, or None where it is exact."""
    if traced:
        return "a trace is asked for, which only the event engine writes"
    if flows:
        return "exchanges are asked for as flows on links"
    if plan.scenario.contended:
        return "links change their rate or carry other traffic while exchanges are under way"
    if plan.pooled:
        return "workers share their host's cores as they come"
    mixed = plan.mixed_step()
    if mixed is not None:
        return f"in step {mixed} what one bucket's exchange does depends on when another's ends"
    if plan.experiment.sync.policy != "bsp":
        return f"[sync] policy = '{plan.experiment.sync.policy}' has no barrier behind which steps collapse"
    return None


FOLDED = 1024  # steps that are folded together
REMEMBERED = 4096  # step outcomes that are kept for when the same state returns


@dataclass(frozen=True)
class After:
    """A step that began in a known state: what it adds, its length, and the next state, relative to its own start."""

    outcome: Outcome
    seconds: Array
    start: Array
    origin: float


def run(plan: Plan, seed: int) -> Fold:
    """Simulate all steps; the fold of all workers.

    Times are relative to the step's first start, so a state that returns is the same to the last bit, and what followed
    it need not be computed again. Workers that do the same are one row.
    """
    jitter = Jitter(plan, seed)
    rows, row_of = _rows(plan)
    fold = Fold(plan, row_of)
    start, origin = np.zeros(len(rows)), 0.0
    history: list[After] = []
    everybody: Pace | None = None
    every, known = plan.experiment.checkpoint.every, dict[tuple[int, float, bytes, bytes], After]()
    varied = plan.compute_cv or plan.scenario.slowness.by_chance
    for number in range(plan.steps):
        step = plan.step(number)
        now = jitter.pace(number)
        if now is not everybody:
            everybody, pace = now, now.of(rows)
            paces = pace.compute.tobytes() + pace.cores.tobytes()
        key = (id(step), origin, start.tobytes(), paces)
        after = known.get(key)
        if after is None:
            after = advance(plan, step, rows, (start, origin), pace)
            if not varied and len(known) < REMEMBERED:
                known[key] = after
        history.append(after)
        if len(history) == FOLDED:
            _fold(fold, history)
            history = []
        fold.wire += step.wire
        start, origin = after.start, after.origin
        if every and (number + 1) % every == 0 and number + 1 < plan.steps:
            together = float(start.max()) + plan.checkpoint_seconds()
            fold.checkpoint += together - start
            start, origin = np.zeros(len(start)), origin - together
    _fold(fold, history)
    return fold


def _fold(fold: Fold, history: list[After]) -> None:
    """Add steps to a fold, those that are the same at once."""
    times, means = Counter(map(id, history)), dict[int, float]()
    for after in {id(after): after for after in history}.values():
        fold.add(after.outcome, slice(None), times[id(after)])
        fold.total += after.seconds * times[id(after)]
        means[id(after)] = fold.mean(after.seconds)
    fold.iterations.extend([means[id(after)] for after in history])


def advance(plan: Plan, step: Step, rows: NDArray[np.int64], state: tuple[Array, float], pace: Pace) -> After:
    """A step of `rows` from their starts and the origin of Horovod's ticks; whatever `refusal` lets pass."""
    start, origin = state
    launches = launch(plan, step, rows, start, pace)
    ready = launches.launched.max(axis=0)
    if step.costs.in_wait.any():
        done = _in_waits(step, launches.launched[:, -1], pace.cores)
    else:
        done, origin = serve(plan.cycle, origin, ready, step.seconds, step.cached)
    end = finish(step, launches, ready, done, pace.cores)
    first = float(end.end.min())
    added = outcome(plan, step, rows, pace, end)
    return After(added, end.end - start, end.end - first, origin - first)


def _in_waits(step: Step, own: Array, cores: Array) -> Array:
    """Completion of exchanges that the workers carry themselves, one after the other, (buckets,)."""
    waits, done = begin_in_wait(own, cores, step.costs.merged_before), np.zeros(len(step.seconds))
    for bucket, seconds in enumerate(step.seconds):
        done[bucket] = waits.reach(bucket) + seconds
        waits.met(bucket, float(done[bucket]))
    return done


def _rows(plan: Plan) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(a worker of each row, the row of each worker): workers of equal speed, data and messages are one."""
    workers = plan.topology.workers
    rank = np.arange(workers)
    faults = plan.scenario.faults
    if plan.compute_cv or any(row.rate > 0 and row.worker < 0 for row in faults.straggler):
        return rank, rank
    special, host, sends = np.zeros(workers), np.zeros(workers), plan.step(0).costs.sent
    for worker in plan.scenario.special_workers():  # a row of its own
        special[worker] = 1 + worker
    slow = {row.host for row in faults.slow_cpu}
    for number in range(plan.topology.hosts):
        if number in slow:
            host[rank // plan.topology.workers_per_host == number] = 1 + number
    beyond = rank & (1 << (workers.bit_length() - 1)) > 0  # gTop-k: ranks beyond a power of two, and their partners
    partner = rank + (1 << (workers.bit_length() - 1)) < workers
    kind = np.where(beyond, 2, partner) * bool(plan.experiment.exchange == "gtopk")
    traits = np.stack([plan.slowdown, special, host, kind, sends, rank < plan.profile.examples % workers], axis=1)
    _, first, row_of = np.unique(traits, axis=0, return_index=True, return_inverse=True)
    return first, row_of.reshape(workers)
