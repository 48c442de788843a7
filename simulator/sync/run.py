"""A run of phases of an experiment file: refused where it cannot be simulated, else folded into the result contract."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from simulator.plan import Plan
from simulator.spans import Sink
from simulator.sync.asynchronous import Updates
from simulator.sync.job import Job, Story
from simulator.sync.planned import PlannedCluster, Stretch
from simulator.sync.spans import update_spans
from toolkit.errors import UserError
from toolkit.policies.configuration import worker_batch
from toolkit.policies.protocol import Phase, plan_phases, total_units
from toolkit.trace import PhaseTimes, Result, joined
from toolkit.trace.result import SHARES

WHY = "every worker goes at its own pace in part of the run, or a policy changes who takes part"
LEFT_OUT = "asynchronous exchanges queue on the hosts' links; what racks and sites limit is left out"


def wanted(plan: Plan) -> bool:
    """Whether a run is more than BSP with everybody, so that it is simulated here."""
    sync = plan.experiment.sync
    return sync.policy != "bsp" or sync.online == "elastic" or sync.servers == "dedicated"


def refusal(plan: Plan) -> str | None:
    """Why phases cannot be simulated, or None where they can."""
    barriers = any(phase.protocol == "bsp" for phase in phases_of(plan))
    if plan.scenario.traces or plan.scenario.traffic:
        return "links that change their rate or carry other traffic are simulated under policy = 'bsp' alone"
    if plan.pooled:
        return "[cluster] cpu_sharing = 'processor' is simulated under policy = 'bsp' alone"
    if barriers and plan.contended:
        return "latencies that come and go are simulated under policy = 'bsp', 'asp' or 'ssp', not across a switch"
    if barriers and plan.mixed_step() is not None:
        return "exchanges that wait for each other are simulated under policy = 'bsp' alone"
    return None


def phases_of(plan: Plan) -> tuple[Phase, ...]:
    """The trainer's phases of this plan: its steps are those of the workers that compute."""
    experiment, servers = plan.experiment, plan.experiment.sync
    steps = plan.steps
    if servers.servers == "dedicated" and not experiment.run.steps:
        computing = experiment.cluster.workers - servers.server_ranks
        examples = worker_batch(experiment, "bsp") * experiment.pipeline.accumulation
        steps = experiment.run.epochs * max(1, math.ceil(math.ceil(plan.profile.examples / computing) / examples))
    return plan_phases(experiment, steps)


def run(plan: Plan, seed: int, sink: Sink | None = None, since: int = 0) -> tuple[Result, dict[str, Any]]:
    """Simulate all phases: the result, and what its `simulation` section says beside the plan's own lines."""
    why_not = refusal(plan)
    if why_not:
        raise UserError(f"[sync] policy = '{plan.experiment.sync.policy}': {why_not}")
    cluster = PlannedCluster(plan, seed)
    job = Job(cluster, phases_of(plan), plan.experiment.sync)
    if sink is not None:
        job.observe = update_spans(plan, sink, since)
    return folded(plan, seed, cluster, job.run())


def folded(plan: Plan, seed: int, cluster: PlannedCluster, story: Story) -> tuple[Result, dict[str, Any]]:
    """A finished run as `run` gives it."""
    phases = phases_of(plan)
    times = _phases(plan, cluster, story)
    result = joined(times, seed=seed, samples=_samples(plan, phases), workers=plan.topology.workers)
    result.phases = [
        {"name": segment.protocol, "steps": segment.steps, "time_s": segment.end - segment.begin}
        for segment in story.segments
    ]
    result.total_time_s = story.end  # with the checkpoints at switches, for which everybody meets
    result.samples_per_s = _samples(plan, phases) / story.end if story.end else 0.0
    result.events.extend(story.events)
    result.sections["sync"] = _sync(plan, story)
    notes = [] if plan.topology.plain else [LEFT_OUT]
    wire = sum(stretch.fold.wire for stretch in cluster.stretches)
    wire += sum(stretch.bytes_sent for stretch in cluster.stretches) / max(1, plan.topology.workers)
    return result, {"engine": "phases", "why": WHY, "wire_bytes_per_worker": round(wire), "notes": notes}


def _samples(plan: Plan, phases: tuple[Phase, ...]) -> int:
    """Examples of the whole run: the plan's where its work is the plan's, else whole batches."""
    experiment = plan.experiment
    units, batch = total_units(phases), experiment.data.batch_size * experiment.pipeline.accumulation
    same = units == plan.steps * plan.topology.workers
    return plan.samples() if same else units * batch


def _phases(plan: Plan, cluster: PlannedCluster, story: Story) -> list[PhaseTimes]:
    """One row a stretch: the order of the cluster's stretches is that of the phases as they came."""
    rows, updates = [], iter(story.updates)
    for number, stretch in enumerate(cluster.stretches):
        protocol = story.protocols[number]
        if protocol == "bsp":
            rows.append(stretch.fold.phase("bsp"))
        else:
            rows.append(_asynchronous(protocol, stretch, next(updates)))
    return rows


def _asynchronous(protocol: str, stretch: Stretch, updates: Updates) -> PhaseTimes:
    seconds = updates.end - updates.begin
    busy = dict.fromkeys(SHARES, 0.0)
    busy["compress"] = float(stretch.compress.sum())
    busy["compute"] = float(updates.computing.sum()) - busy["compress"]
    busy["communicate"] = float(updates.exchanging.sum())
    busy["checkpoint"] = float(updates.saving.sum())
    busy["idle"] = max(0.0, seconds * updates.workers - sum(busy.values()))
    return PhaseTimes(protocol, len(updates.who), seconds, updates.seconds.tolist(), busy, stretch.bytes_sent)


def _sync(plan: Plan, story: Story) -> dict[str, Any]:
    """As in the trainer's results: staleness over all updates; who did how many."""
    sync = plan.experiment.sync
    section: dict[str, Any] = {"policy": sync.policy}
    histogram = Counter(value for updates in story.updates for value in updates.staleness)
    if histogram:
        total = sum(histogram.values())
        section["servers"] = sync.servers
        section["staleness"] = {
            "histogram": {str(value): histogram[value] for value in sorted(histogram)},
            "mean": sum(value * count for value, count in histogram.items()) / total,
            "max": max(histogram),
            "clock_spread": max(updates.spread for updates in story.updates),
        }
    return section
