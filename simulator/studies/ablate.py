"""`study ablate FILE`: turn one mechanism off at a time and say what it was worth, with paired random numbers.

The baseline is the experiment file itself (`--set` changes it). What is measured is the throughput, samples/s: of a
training run; of an offloaded iteration where [offload] has a method; of an iteration with in-memory checkpoints, on the
machines of `study gemini`, where [checkpoint] has replicas; of `study stellatrain` on its trace where [control] is on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import mean
from typing import Any

from rich.table import Table

from simulator.job import simulate
from simulator.points import interval
from simulator.studies.base import FOLDER, Cell, Outcome, Request
from simulator.studies.mechanisms import CONTROL, MECHANISMS, MEMORY, OFFLOAD, Mechanism, room_of
from simulator.terminal import console
from toolkit.errors import UserError
from toolkit.experiment import Experiment
from toolkit.keys import key
from toolkit.registry import check_name

TITLE = "Ablation: one mechanism off at a time"
SOURCE = "throughput without it over throughput with everything"
FILE = FOLDER.parent / "quickstart.toml"
NO_EFFECT = 1e-9


@dataclass(frozen=True)
class Keys:
    seeds: int = key(5, "seeds that every variant is simulated with", low=1, high=1000)
    only: str = key("", "mechanisms to turn off, separated by commas; empty: all that are on")


@dataclass(frozen=True)
class Effect:
    """One mechanism: throughput without it over throughput with it, mean over paired seeds, and half its 95 % range."""

    mechanism: str
    settings: dict[str, Any]
    factor: float | None
    ci95: float
    note: str = ""


def published(request: Request) -> list[Cell]:
    """The baseline and a cell for each mechanism that is on."""
    baseline, effects = ablate(request)
    cells = [Cell({}, "samples_per_s", mean(baseline), group="baseline: the file as it is")]
    for effect in effects:
        settings = {"study.only": effect.mechanism, **effect.settings}
        note = f"{effect.mechanism}: {effect.note}" if effect.note else ""
        cells.append(Cell(settings, "throughput_factor", effect.factor, group="without one mechanism", note=note))
    return cells


asked = published  # overrides change the baseline


def sections(request: Request) -> dict[str, Any]:
    """The effects with their intervals."""
    baseline, effects = ablate(request)
    rows = [vars(effect) for effect in effects]
    return {"baseline": {"samples_per_s": mean(baseline), "seeds": len(baseline)}, "effects": rows}


@lru_cache(maxsize=1)
def ablate(request: Request) -> tuple[list[float], list[Effect]]:
    """The baseline's throughput for each seed, and every effect, the largest first."""
    experiment, seeds = request.experiment, range(request.seed, request.seed + request.keys.seeds)
    chosen = _chosen(request)
    room = room_of(experiment)
    baseline = [throughput(experiment, seed, request.source, room) for seed in seeds]
    effects = [_effect(mechanism, experiment, baseline, seeds, request.source) for mechanism in chosen]
    return baseline, sorted(effects, key=lambda e: abs((e.factor or 1.0) - 1.0), reverse=True)


def _chosen(request: Request) -> list[Mechanism]:
    room = room_of(request.experiment)
    on = [mechanism for mechanism in MECHANISMS if mechanism.room == room and mechanism.on(request.experiment)]
    names = [name.strip() for name in request.keys.only.split(",") if name.strip()]
    for name in names:
        check_name("--set study.only", name, [mechanism.name for mechanism in on])
    return [mechanism for mechanism in on if not names or mechanism.name in names]


def _effect(mechanism: Mechanism, experiment: Experiment, baseline: list[float], seeds: range, source: str) -> Effect:
    changes = mechanism.off(experiment)
    settings = {f"{section}.{name}": value for section, keys in changes.items() for name, value in keys.items()}
    settings = {name: value for name, value in settings.items() if value != _now(experiment, name)}
    try:
        without = experiment.replace(**changes)
        pairs = zip([throughput(without, seed, source, room_of(experiment)) for seed in seeds], baseline, strict=True)
    except UserError as error:
        return Effect(mechanism.name, settings, None, 0.0, f"cannot be turned off here: {error}")
    ratios = [off / on for off, on in pairs]
    note = ""
    if abs(mean(ratios) - 1) < NO_EFFECT:
        note = mechanism.note or "no effect on this experiment's time"
    return Effect(mechanism.name, settings, mean(ratios), interval(ratios), note)


def _now(experiment: Experiment, name: str) -> Any:
    section, _, option = name.partition(".")
    value = getattr(getattr(experiment, section), option)
    return list(value) if isinstance(value, tuple) else value


def throughput(experiment: Experiment, seed: int, source: str, room: str) -> float:
    """Samples a second of what the experiment file describes."""
    if room == OFFLOAD:
        from simulator.offload.case import Case
        from simulator.offload.search import chosen

        return experiment.data.batch_size / chosen(Case.of(experiment, source)).run().seconds
    if room == MEMORY:
        from simulator.studies.gemini_model import Keys as Machine
        from simulator.studies.gemini_model import iteration_time_s

        machine = Machine()
        tokens = machine.tokens * machine.devices * experiment.cluster.hosts
        return tokens / iteration_time_s(experiment, machine, seed)
    if room == CONTROL:
        return _on_trace(experiment)
    return simulate(experiment, seed=seed, source=source).samples_per_s


def _on_trace(experiment: Experiment) -> float:
    """StellaTrain's cluster on the published trace of a WAN; its CPU's times as `study stellatrain` fits them."""
    from simulator.pipeline import Rules
    from simulator.studies.stellatrain_model import on_trace, pipeline_s

    slow = pipeline_s(
        experiment.compression.name == "topk", not experiment.optimizer.name.startswith("sparse-"), Rules()
    )
    return on_trace(experiment, "swin", adapt=experiment.control.name != "none") / slow


def show(outcome: Outcome) -> None:
    """The table: a mechanism, what takes it away, the factor with its interval."""
    out, baseline = console(), outcome.sections["baseline"]
    seeds = f"{baseline['seeds']} seeds, paired"
    table = Table(title=f"{TITLE}: {baseline['samples_per_s']:.5g} samples/s with everything, {seeds}")
    table.add_column("without")
    table.add_column("so with")
    for column in ("throughput", "±, 95 %"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("note")
    for row in outcome.sections["effects"]:
        factor = "-" if row["factor"] is None else f"x{row['factor']:.4f}"
        settings = ", ".join(f"{name.partition('.')[2]} = {value}" for name, value in row["settings"].items())
        table.add_row(row["mechanism"], settings, factor, f"{row['ci95']:.4f}", row["note"])
    out.print(table)


def draw(cells: list[Cell], path: Path) -> None:
    """The tornado."""
    from simulator.studies.tornado import draw as tornado  # matplotlib is slow to import

    tornado([cell for cell in cells if cell.quantity == "throughput_factor"], path)
