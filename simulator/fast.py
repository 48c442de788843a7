"""The fast path: a recurrence from step to step on arrays over all workers, for BSP on exclusive links.

It is exact, not an approximation: under the conditions that `refusal` checks, nothing happens inside a step that the
arithmetic of worker.py and horovod.serve does not cover. Tests hold it against the event engine to 1e-9.
"""

from __future__ import annotations

import numpy as np

from simulator.fold import Fold, Jitter
from simulator.horovod import serve
from simulator.plan import Plan
from simulator.worker import finish, launch


def refusal(plan: Plan, *, traced: bool, flows: bool) -> str | None:
    """Why the fast path cannot run this, or None where it is exact."""
    if traced:
        return "a trace is asked for, which only the event engine writes"
    if flows:
        return "exchanges are asked for as flows on links"
    if plan.experiment.sync.policy != "bsp":
        return f"[sync] policy = '{plan.experiment.sync.policy}' has no barrier behind which steps collapse"
    return None


def run(plan: Plan, seed: int) -> Fold:
    """Simulate all steps; the fold of all workers."""
    jitter, fold = Jitter(plan, seed), Fold(plan)
    rows = slice(0, plan.topology.workers)
    start, origin = np.zeros(plan.topology.workers), 0.0
    every = plan.experiment.checkpoint.every
    for number in range(plan.steps):
        step, factor = plan.step(number), jitter.factors(number)
        launches = launch(plan, step, rows, start, factor)
        ready = launches.launched.max(axis=0)
        _, done, origin = serve(plan.cycle, origin, ready, step.seconds, step.cached)
        end = finish(step, launches, done)
        fold.add(step, rows, (start, launches, end), factor, ready)
        fold.add_wire(step)
        start = end.end
        if every and (number + 1) % every == 0 and number + 1 < plan.steps:
            after = float(start.max()) + plan.checkpoint_seconds()
            fold.checkpoint += after - start
            start = np.full(len(start), after)
    return fold
