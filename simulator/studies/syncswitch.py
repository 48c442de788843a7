"""Sync-Switch (ICDCS 2021): training time of BSP, ASP and the switch, paces, stragglers, online policies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from simulator.studies import syncswitch_replay as replay
from simulator.studies import syncswitch_runs as runs
from simulator.studies.base import Cell, Request
from toolkit.errors import UserError
from toolkit.sections.faults import AddedLatency, FaultsSection
from toolkit.units import render

TITLE = "Sync-Switch: BSP, ASP and the switch between them"
SOURCE = "Li, Mangoubi, Xu, Guo, ICDCS 2021"
Keys = runs.Keys

GROUPS = {
    "train_time_s": "Training time of a whole run, switching gaps left out as published",
    "bsp_step_s": "Plain pace of BSP, seconds a step",
    "asp_steps_per_s": "Plain pace of ASP, updates a second of the cluster",
    "slowdown": "Stragglers: an added latency at a host, all along",
    "time_to_accuracy_s": "Time to accuracy: published curves on simulated time (.88 in exp1, .70 in exp2)",
    "online": "Online policies against passing stragglers (the published times of theirs are not released)",
}
FOLLOWS = (
    *("study.", "cluster.workers", "data.batch_size", "run.steps", "run.seed", "checkpoint.every"),
    *("sync.policy", "sync.staleness", "sync.order", "sync.switch_at", "sync.phase_steps"),
    *("sync.phase_checkpoint_every", "sync.scale_batch", "sync.online", "sync.window", "sync.deviations"),
    *("sync.persistence", "faults.added_latency", "faults.slow_worker"),
)
SLOW_PACE = "one of the four ASP runs of exp1 was 11 % slower than the three whose pace is fitted"
ONE_RUN = "observed in one run each; the two BSP ones contradict each other and share one constant"
CURVES = "published curves are of BSP, ASP and order = '10' with the experiment's own workers, batch and steps"
MASTER = "observed from about 915 samples/s; 770-800 samples/s are also said of 4 workers, where this model says 654"

Settings = dict[str, Any]
Row = tuple[str, Settings, float | None, str, str]  # quantity, settings, observed, role, note
NOTHING = (None, "prediction", "")
PURE: dict[str, Settings] = {"bsp_step_s": {"sync.switch_at": 1.0}, "asp_steps_per_s": {"sync.switch_at": 0.0}}


def _share(experiment: str, share: float) -> Settings:
    return {"study.experiment": experiment, "sync.switch_at": share}


def _delayed(*hosts: int, latency: float) -> tuple[AddedLatency, ...]:
    return tuple(AddedLatency(host, latency) for host in hosts)


def _times() -> list[Row]:
    """Whole runs."""
    rows: list[Row] = []
    for experiment, share, observed, role in (
        ("exp1", 1.0, 10658.3, "calibration"),
        ("exp1", 0.0, 1603.0, "calibration"),
        ("exp1", 0.05, 2052.9, "held-out"),
        ("exp1", 0.25, 3860.0, "held-out"),
        ("exp1", 0.5, 6102.8, "held-out"),
        ("exp2", 1.0, 11288.7, "calibration"),
        ("exp2", 0.0, 6071.6, "calibration"),
        ("exp2", 0.05, None, "prediction"),
        ("exp2", 0.25, None, "prediction"),
        ("exp2", 0.5, None, "prediction"),
        ("exp3", 1.0, None, "prediction"),
        ("exp3", 0.0, None, "prediction"),
        ("exp3", 0.5, None, "prediction"),
    ):
        note = SLOW_PACE if (experiment, share) == ("exp1", 0.0) else ""
        rows.append(("train_time_s", _share(experiment, share), observed, role, note))
    return rows


def _paces() -> list[Row]:
    rows: list[Row] = [
        ("bsp_step_s", {**_share("exp1", 1.0), "data.batch_size": 16}, 0.2468, "calibration", ""),
        ("bsp_step_s", _share("exp1", 1.0), 1.2793, "calibration", ""),
        ("bsp_step_s", _share("exp2", 1.0), 0.6538, "calibration", ""),
        ("bsp_step_s", _share("exp3", 1.0), 2048 / 915, "held-out", MASTER),
        ("asp_steps_per_s", _share("exp1", 0.0), 1 / 0.02382, "calibration", ""),
        ("asp_steps_per_s", _share("exp2", 0.0), 1 / 0.04750, "calibration", ""),
        ("asp_steps_per_s", _share("exp3", 0.0), None, "prediction", ""),
    ]
    for experiment in ("exp1", "exp2", "exp3"):
        saving = {**_share(experiment, 0.0), "study.saving": True}
        rows.append(("asp_steps_per_s", saving, None, "prediction", ""))
    return rows


def _stragglers() -> list[Row]:
    rows: list[Row] = []
    one = _delayed(1, latency=0.010)
    for share, batch, observed in ((0.0, 128, 1.0403), (1.0, 128, 1.0546), (1.0, 32, 1.0074)):
        batches = {} if batch == 128 else {"data.batch_size": batch}
        settings = {**_share("legacy", share), **batches, "faults.added_latency": one}
        rows.append(("slowdown", settings, observed, "calibration", ONE_RUN))
    for delayed in (_delayed(1, latency=0.030), _delayed(1, 2, latency=0.010), _delayed(1, 2, latency=0.030)):
        for share in (0.0, 1.0):
            rows.append(("slowdown", {**_share("legacy", share), "faults.added_latency": delayed}, *NOTHING))
    return rows


def _accuracies() -> list[Row]:
    rows: list[Row] = []
    shares = {"exp1": (1.0, 0.0, 0.05, 0.25, 0.5), "exp2": (1.0, 0.0)}
    for experiment, share in ((name, share) for name in shares for share in shares[name]):
        points = replay.reached(experiment, share, replay.TARGETS[experiment])
        seconds = fmean(s for _, s in points)
        rows.append(("time_to_accuracy_s", _share(experiment, share), seconds, _replayed_role(share), ""))
    return rows


def _replayed_role(share: float) -> str:
    """A replay is as good as the training times: those of pure runs were fitted, of hybrids predicted."""
    return "held-out" if 0 < share < 1 else "calibration"


def _online() -> list[Row]:
    """The two published scenarios on exp1's hybrid of 50 %."""
    return [
        ("train_time_s", {**_share("exp1", 0.5), "study.scenario": scenario, "sync.online": online}, *NOTHING)
        for scenario in ("mild", "moderate")
        for online in ("baseline", "greedy", "elastic")
    ]


def _table() -> list[Row]:
    return [*_times(), *_paces(), *_stragglers(), *_accuracies(), *_online()]


def published(request: Request) -> list[Cell]:
    """Every published cell, and the predictions that the issue of the publication asks for beside them."""
    return [
        _cell(runs.resolve(_with(request, settings)), quantity, settings, (observed, role, note))
        for quantity, settings, observed, role, note in _table()
    ]


def asked(request: Request) -> list[Cell]:
    """The cell that the overrides ask for: one quantity, or all that the setting has."""
    request.allow(*FOLLOWS)
    request = runs.resolve(request)
    phases = runs.phases_of(request.experiment, request.keys, request.given)
    if not phases:
        raise UserError(f"{request.source}: [sync] leaves no phase any work")
    settings = _settings(request)
    known = {(quantity, _identity(row)): (observed, role, note) for quantity, row, observed, role, note in _table()}
    cells = []
    for name in _quantities(request, {phase.protocol for phase in phases}):
        same = settings | PURE.get(name, {}) if "sync.switch_at" in settings else settings
        cells.append(_cell(request, name, settings, known.get((name, _identity(same)), NOTHING)))
    return cells


def _quantities(request: Request, protocols: set[str]) -> list[str]:
    wanted = request.keys.quantity
    faulty = runs.faults_of(request) != FaultsSection()
    has = {
        "train_time_s": not request.keys.saving,
        "bsp_step_s": "bsp" in protocols and not request.keys.saving,
        "asp_steps_per_s": bool(protocols & {"asp", "ssp"}),
        "slowdown": faulty,
        "time_to_accuracy_s": request.keys.accuracy > 0,
    }
    if wanted == "auto" and not any(has.values()):
        raise UserError(
            "--set [study] saving = true: the chief saves alone in an ASP or SSP phase, this course has none"
        )
    if wanted == "auto":
        return [name for name, there in has.items() if there]
    if not has[wanted] and wanted != "time_to_accuracy_s":
        raise UserError(f"--set study.quantity = '{wanted}': this setting has {', '.join(n for n in has if has[n])}")
    return [wanted]


def _settings(request: Request) -> Settings:
    """What asks for this cell: the experiment, the switch, and whatever else the user set."""
    sync, given = request.experiment.sync, set(request.given)
    alone = {"bsp": "1", "asp": "0"}.get(sync.policy, sync.order if sync.policy == "switch" else "")
    settings: Settings = {"study.experiment": request.keys.experiment}
    if alone in ("10", "1", "0") and not sync.phase_steps:  # "1" and "0" are the ends of "10"
        settings["sync.switch_at"] = {"1": 1.0, "0": 0.0}.get(alone, sync.switch_at)
        given -= {"sync.policy", "sync.order", "sync.switch_at"}
    for name in sorted(given - {"study.experiment", "study.quantity"}):
        section, _, option = name.partition(".")
        settings[name] = getattr(request.keys if section == "study" else getattr(request.experiment, section), option)
    return settings


def _identity(settings: Settings) -> str:
    """What makes two cells one: defaults and the experiment's own workers and batch need not be said."""
    name = settings["study.experiment"]
    own: Settings = {"cluster.workers": runs.WORKERS[name], "data.batch_size": runs.EXPERIMENTS[name].batch}
    own |= {"study.saving": False, "study.gaps": False, "study.scenario": "none", "sync.online": "none"}
    own |= {"study.accuracy": replay.TARGETS.get(name, 0.0)}
    return repr(sorted((own | settings).items()))


QUANTITIES: dict[str, Callable[[Request], float]] = {
    "train_time_s": runs.train_time,
    "bsp_step_s": lambda request: runs.pace(request, "bsp"),
    "asp_steps_per_s": lambda request: (
        runs.saving_rate(request)
        if request.keys.saving
        else 1 / runs.pace(request, "ssp" if request.experiment.sync.policy == "ssp" else "asp")
    ),
    "slowdown": runs.slowdown,
}


def _cell(request: Request, quantity: str, settings: Settings, known: tuple[float | None, str, str]) -> Cell:
    observed, role, note = known
    group = GROUPS["online" if quantity == "train_time_s" and "sync.online" in settings else quantity]
    if quantity == "time_to_accuracy_s":
        predicted, observed, role = _to_accuracy(request, settings)
    else:
        predicted = QUANTITIES[quantity](request)
    return Cell(_plain(settings), quantity, predicted, observed, role, group, note)


def _to_accuracy(request: Request, settings: Settings) -> tuple[float, float | None, str]:
    """Predicted and observed time to an accuracy, and the cell's role; observed where the published runs were alike."""
    name = request.keys.experiment
    own = {"cluster.workers": runs.WORKERS[name], "data.batch_size": runs.EXPERIMENTS[name].batch}
    other = [key for key, value in settings.items() if own.get(key, value) != value]
    if other or "sync.switch_at" not in settings or settings.keys() & {"sync.order", "run.steps"}:
        raise UserError(f"--set study.quantity = 'time_to_accuracy_s': {CURVES}")
    share = settings["sync.switch_at"]
    if name not in replay.TARGETS:
        raise UserError(f"--set study.quantity = 'time_to_accuracy_s': no curve of {name} is published")
    accuracy = request.keys.accuracy or replay.TARGETS[name]
    points = replay.reached(name, share, accuracy)
    if not points:
        text = f"no published run of {name} with switch_at = {share} reached {accuracy}"
        raise UserError(f"--set study.quantity = 'time_to_accuracy_s': {text}")
    story = runs.simulate(request, runs.phases_of(request.experiment, request.keys, request.given))
    predicted = replay.replayed(story, points)
    mine, run = (_identity(row | {"study.accuracy": accuracy}) for row in (settings, _share(name, share)))
    if mine != run:
        return predicted, None, "prediction"
    return predicted, fmean(s for _, s in points), _replayed_role(share)


def _plain(settings: Settings) -> Settings:
    """Settings as an experiment file writes them."""
    return {name: _rows(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def _rows(rows: tuple[Any, ...]) -> list[Any]:
    """Rows of a table as TOML has them, defaults left out."""
    plain = []
    for row in rows:
        if not dataclasses.is_dataclass(row):
            return list(rows)
        written = {}
        for spec in dataclasses.fields(row):
            value, unit = getattr(row, spec.name), spec.metadata["unit"]
            if spec.metadata["required"] or value != spec.default:
                written[spec.name] = render(unit, value) if unit else value
        plain.append(written)
    return plain


def _with(request: Request, settings: Settings) -> Request:
    """The request of a row of the table."""
    sections: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        section, _, option = name.partition(".")
        sections.setdefault(section, {})[option] = value
    keys = dataclasses.replace(request.keys, **sections.pop("study", {}))
    faults = sections.pop("faults", None)
    experiment = request.experiment.replace(**sections)
    if faults:
        experiment = dataclasses.replace(experiment, faults=dataclasses.replace(experiment.faults, **faults))
    return dataclasses.replace(request, experiment=experiment, keys=keys, given=frozenset(settings))


def draw(cells: list[Cell], path: Path) -> None:
    """Training time against the switching point, paces and slow-downs: published values as rings."""
    from simulator.studies.syncswitch_figure import draw as figure  # matplotlib is slow to import

    figure(cells, path)
