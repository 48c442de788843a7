"""One experiment simulated: choose the engine, run it, and fold the outcome into the result contract."""

from __future__ import annotations

from typing import Any

import numpy as np

from simulator import fast
from simulator.engine import Engine
from simulator.fold import Fold
from simulator.plan import Plan, build
from simulator.pooled import PooledEngine
from simulator.profile import Profile
from simulator.recovery import Course, with_failures
from simulator.scenario import under
from simulator.spans import Sink
from simulator.sync import run as phases
from toolkit.errors import UserError
from toolkit.experiment import Experiment
from toolkit.trace import Result, joined

ENGINES = ("auto", "fast", "events", "flows")


def simulate(
    experiment: Experiment,
    profile: Profile | None = None,
    *,
    seed: int | None = None,
    engine: str = "auto",
    sink: Sink | None = None,
    host_network: bool = False,
    scenario: str | None = None,
    source: str = "experiment",
) -> Result:
    """Simulate an experiment.

    profile: measured costs; without one they are derived from FLOPs and [cluster] device. seed: [run] seed if None.
    engine: "fast" (recurrence), "events" (SimPy), "flows" (SimPy, every message of every exchange a flow on links) or
    "auto": fast where it is exact, else events. sink: takes every span. host_network: on the network of the host that
    the profile was measured on. scenario: file of what goes wrong besides [faults]. Raises UserError.
    """
    plan = build(under(experiment, scenario), profile, host_network=host_network, source=source)
    return run_plan(plan, experiment.run.seed if seed is None else seed, engine=engine, sink=sink)


def run_plan(plan: Plan, seed: int, *, engine: str = "auto", sink: Sink | None = None, since: int = 0) -> Result:
    """Simulate a resolved run (see `simulate`); `sink` takes the spans from step `since` on."""
    if engine not in ENGINES:
        raise UserError(f"--engine {engine}: allowed are {', '.join(ENGINES)}")
    if phases.wanted(plan):
        return _run_phases(plan, seed, engine, sink, since)
    flows = engine == "flows" or (engine in ("auto", "events") and plan.contended)
    why_not = fast.refusal(plan, traced=sink is not None, flows=engine == "flows")
    if engine == "fast" and why_not:
        raise UserError(f"--engine fast: {why_not}")
    if engine in ("auto", "fast") and why_not is None:
        fold, used, why = fast.run(plan, seed), "fast", "exact here: BSP, exchanges one at a time on idle links"
    else:
        kind = PooledEngine if plan.pooled else Engine
        fold = kind(plan, seed, sink=sink, since=since, flows=flows).run()
        used, why = ("flows" if flows else "events"), why_not or "asked for"
    phase = fold.phase(plan.experiment.sync.policy)
    result = joined([phase], seed=seed, samples=plan.samples(), workers=plan.topology.workers)
    result.events.extend(plan.scenario.events())
    result.sections["simulation"] = {"engine": used, "why": why, **_section(plan, fold, result)}
    if plan.scenario.faults.fails:
        with_failures(result, _course(plan, fold), plan.scenario.faults, plan.checkpoint_seconds())
    return result


def _course(plan: Plan, fold: Fold) -> Course:
    """The steps and checkpoints of the worker that takes longest: its steps are as those of all, but for the sum."""
    row, every = fold.slowest(), plan.experiment.checkpoint.every
    steps, stops = np.array(fold.iterations), (plan.steps - 1) // every if every else 0
    scale = float(fold.total[row]) / float(steps.sum())
    return Course.of(steps * scale, every, float(fold.checkpoint[row]) / stops if stops else 0.0)


def _run_phases(plan: Plan, seed: int, engine: str, sink: Sink | None, since: int) -> Result:
    """A run that is not BSP with everybody from the first step to the last."""
    if engine != "auto":
        raise UserError(f"--engine {engine}: [sync] policy = '{plan.experiment.sync.policy}' has an engine of its own")
    if plan.scenario.faults.fails:
        raise UserError("[faults] failure, failures_per_day: simulated with [sync] policy = 'bsp' only")
    result, said = phases.run(plan, seed, sink, since)
    result.events.extend(plan.scenario.events())
    share = result.time_share
    busy = share["compute"] + share["compress"] + share["optimize"]
    result.sections["simulation"] = {
        "engine": said["engine"],
        "why": said["why"],
        "profile": _profile(plan),
        "collectives": _collectives(plan) if any(row["name"] == "bsp" for row in result.phases) else ["push and pull"],
        "buckets": len(plan.buckets),
        "wire_bytes_per_worker": said["wire_bytes_per_worker"],
        "exposed_communication_s": share["communicate"] * result.total_time_s,
        "ideal_time_s": busy * result.total_time_s,
        "compute_stretch": plan.stretch,
        "assumptions": [*plan.assumptions, *said["notes"]],
    }
    return result


def _profile(plan: Plan) -> dict[str, Any]:
    profile = plan.profile
    return {
        "source": profile.source,
        "model": profile.model,
        "batch_size": profile.batch_size,
        "host": profile.host,
    }


def _section(plan: Plan, fold: Fold, result: Result) -> dict[str, Any]:
    busy = fold.compute + fold.compress + fold.optimize + plan.step_s * plan.steps
    return {
        "profile": _profile(plan),
        "collectives": _collectives(plan),
        "buckets": len(plan.buckets),
        "wire_bytes_per_worker": round(fold.wire),
        "exposed_communication_s": fold.mean(fold.communicate),
        "ideal_time_s": fold.mean(busy),
        "compute_stretch": plan.stretch,
        "assumptions": plan.assumptions,
    }


def _collectives(plan: Plan) -> list[str]:
    """The algorithms in use, "allreduce: ring", in the order of the buckets that first use them."""
    names: list[str] = []
    for number in {0, plan.steps - 1}:
        for way in plan.step(number).costs.ways:
            for kind, sizes in ((way.kind, way.sizes), ("allreduce", way.again)):
                name = plan.timing.name(kind, sizes) if sizes else ""
                if name and name not in names:
                    names.append(name)
    return names
