"""Runs of the Sync-Switch study: an experiment's phases on the published cluster, and the quantities read off them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.studies.base import Request
from simulator.studies.syncswitch_cluster import PublishedCluster
from simulator.studies.syncswitch_fit import EXPERIMENTS, SAMPLES, WORKERS, constants, gap, stall
from simulator.sync.asynchronous import Updates
from simulator.sync.job import Job, Story
from toolkit.errors import UserError
from toolkit.experiment import Experiment
from toolkit.keys import key
from toolkit.policies.protocol import Phase, plan_phases
from toolkit.sections.faults import AddedLatency, FaultsSection

QUANTITIES = ("train_time_s", "bsp_step_s", "asp_steps_per_s", "slowdown", "time_to_accuracy_s")
PACE_STEPS = {"bsp": 8000, "asp": 400, "ssp": 400}  # steps, or updates a worker, over which a plain pace is taken
SPELL = 300.0  # seconds that a passing straggler lasts; how long it did is not published
# Published scenarios of passing stragglers: (hosts, how often, added latency in s)
SCENARIOS = {"none": ((), 0, 0.0), "mild": ((1,), 1, 0.010), "moderate": ((1, 2), 4, 0.030)}


@dataclass(frozen=True)
class Keys:
    """[study] of syncswitch."""

    experiment: str = key("exp1", "published experiment whose measured paces are taken", choices=EXPERIMENTS)
    quantity: str = key("auto", "what to predict; auto: all that the setting has", choices=("auto", *QUANTITIES))
    scenario: str = key(
        "none", "passing stragglers: mild is 1 x 10 ms once, moderate 2 x 30 ms four", choices=SCENARIOS
    )
    saving: bool = key(False, "asp_steps_per_s: while the chief writes a checkpoint")
    gaps: bool = key(False, "train_time_s: with the restarts of switches and membership changes")
    accuracy: float = key(0.0, "time_to_accuracy_s: the accuracy; 0: .88 for exp1, .70 for exp2", low=0.0, high=1.0)


def resolve(request: Request) -> Request:
    """The request with the experiment's own workers, batch and steps wherever the user set none."""
    name, given = request.keys.experiment, request.given
    runs = EXPERIMENTS[name]
    experiment = request.experiment
    workers = experiment.cluster.workers if "cluster.workers" in given else WORKERS[name]
    batch = experiment.data.batch_size if "data.batch_size" in given else runs.batch
    changes: dict[str, dict[str, Any]] = {"cluster": {"workers": workers}, "data": {"batch_size": batch}}
    if "run.steps" not in given:
        steps = round(SAMPLES / (workers * batch))
        changes["run"] = {"steps": 0 if experiment.sync.phase_steps else max(1, steps)}
    try:
        return dataclasses.replace(request, experiment=experiment.replace(**changes))
    except UserError as error:
        raise UserError(str(error).replace("experiment:", f"{request.source}:", 1)) from None


def phases_of(experiment: Experiment, keys: Keys, given: frozenset[str]) -> tuple[Phase, ...]:
    """The trainer's phases; checkpoints as published unless the user says when."""
    phases = plan_phases(experiment, experiment.run.steps)
    if given & {"checkpoint.every", "sync.phase_checkpoint_every"}:
        return phases
    bsp, asp = EXPERIMENTS[keys.experiment].every
    return tuple(dataclasses.replace(p, checkpoint_every=bsp if p.protocol == "bsp" else asp) for p in phases)


def faults_of(request: Request) -> FaultsSection:
    """The request's [faults], those of study.scenario with them: every 600 s a spell begins."""
    hosts, times, latency = SCENARIOS[request.keys.scenario]
    spells = tuple(
        AddedLatency(host, latency, 2 * SPELL * (number + 1), 2 * SPELL * (number + 1) + SPELL)
        for number in range(times)
        for host in hosts
    )
    faults = request.experiment.faults
    return dataclasses.replace(faults, added_latency=(*faults.added_latency, *spells))


def simulate(request: Request, phases: Sequence[Phase], faults: FaultsSection | None = None) -> Story:
    """A run of `phases`, under the request's [faults] or others."""
    experiment = request.experiment
    workers = experiment.cluster.workers
    faults = faults_of(request) if faults is None else faults
    runs = EXPERIMENTS[request.keys.experiment]
    laws, batch = constants(runs), experiment.data.batch_size
    cluster = PublishedCluster(laws, workers, batch, stall(runs, workers), faults, request.seed)
    return Job(cluster, phases, experiment.sync).run()


def train_time(request: Request) -> float:
    """Seconds of training, without the restarts of switches unless study.gaps."""
    story = simulate(request, phases_of(request.experiment, request.keys, request.given))
    if not request.keys.gaps:
        return story.end
    restarts = sum(event["kind"] in ("switch", "membership") for event in story.events)
    return story.end + restarts * gap(request.experiment.cluster.workers)


def pace(request: Request, protocol: str, faults: FaultsSection | None = None) -> float:
    """Plain pace, without ramp and checkpoints: seconds of a BSP step, or of an update of the whole cluster."""
    steps = PACE_STEPS[protocol] * (1 if protocol == "bsp" else request.experiment.cluster.workers)
    phase = dataclasses.replace(_alone(request, protocol), steps=steps, checkpoint_every=0)
    story = simulate(_without_policy(request), [phase], faults)
    if protocol == "bsp":
        return float(np.mean(story.barrier))
    when = np.array(story.updates[0].when)
    half = len(when) // 4  # the workers start together; they are spread evenly after some rounds
    return float((when[-half] - when[half]) / (len(when) - 2 * half))


def saving_rate(request: Request) -> float:
    """Updates a second while the chief writes a checkpoint."""
    workers = request.experiment.cluster.workers
    every = EXPERIMENTS[request.keys.experiment].every[1]
    phase = dataclasses.replace(_alone(request, "asp"), steps=12 * every, checkpoint_every=every)
    updates = simulate(_without_policy(request), [phase]).updates[0]
    return _rate_in_saves(updates, stall(EXPERIMENTS[request.keys.experiment], workers)[1])


def _rate_in_saves(updates: Updates, seconds: float) -> float:
    """The chief stops at the end of the iteration in which a checkpoint falls due."""
    when, who = np.array(updates.when), np.array(updates.who)
    own = when[who == 0]
    made, total = 0, 0.0
    for due in updates.saves[:-1]:
        at = np.searchsorted(own, due, side="right")
        stop = own[at - 1] if due in own else own[at]
        made += int(np.count_nonzero((when > stop) & (when <= stop + seconds)))
        total += seconds
    return made / total


def slowdown(request: Request) -> float:
    """How many times as long with the request's [faults]: whole runs of several phases, the plain pace of one."""
    phases = phases_of(request.experiment, request.keys, request.given)
    if len(phases) == 1 and request.experiment.sync.online in ("none", "baseline"):
        protocol = phases[0].protocol
        return pace(request, protocol) / pace(request, protocol, FaultsSection())
    return simulate(request, phases).end / simulate(_without_policy(request), phases, FaultsSection()).end


def _alone(request: Request, protocol: str) -> Phase:
    return plan_phases(request.experiment.replace(sync={"policy": protocol, "online": "none", "phase_steps": ()}), 1)[0]


def _without_policy(request: Request) -> Request:
    return dataclasses.replace(request, experiment=request.experiment.replace(sync={"online": "none"}))
