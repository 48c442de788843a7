"""STRONGHOLD (SC 2022): largest models, throughput, scaling and windows of five offloading methods on one V100.

Published values: the tables of the released artifact's README (throughput in samples/s, here as 4 / throughput), and
for the sizes and windows that it only plots the logs of its runs of 2 July 2022, mean of iterations 31 to 50.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from simulator.offload import calibration
from simulator.offload.case import Case
from simulator.offload.job import Settings
from simulator.offload.machine import load_machine
from simulator.offload.search import chosen, largest
from simulator.studies.base import Cell, Request
from toolkit.keys import key
from toolkit.sections.offload import IN_MEMORY

TITLE = "STRONGHOLD: offloading on one device"
SOURCE = "Sun et al., SC 2022, and its released artifact"
QUANTITIES = ("iteration_time_s", "largest_layers")

LARGEST = "case 1: largest trainable model, layers"
COUNTED = "case 1 from 32 layers and the releases' structure alone, where the published size settled a constant above"
EACH = "case 2: iteration time at each method's largest model"
SAME = "case 3: iteration time at Megatron-LM's largest model"
SCALING = "case 4: iteration time over the number of layers, window 15"
WINDOWS = "case 5: iteration time over the window, 32 layers"
BEYOND = "{} {}: its memory is predicted to end at {} layers; the time is predicted as if it did not"
UNEXPLAINED = (
    "counted bytes leave room for more layers than were published; why is not in the logs (docs/stronghold.md)"
)
MEMORIES = ("settled", "counted")


@dataclass(frozen=True)
class Keys:
    quantity: str = key("iteration_time_s", "what is asked for", choices=QUANTITIES)
    memory: str = key(
        "settled",
        "what bounds a model: counted bytes alone, or settled by the largest published ones",
        choices=MEMORIES,
    )


@dataclass(frozen=True)
class Published:
    """One published cell; window 0 where the method has none."""

    group: str
    method: str
    layers: int
    window: int
    value: float
    role: str = "held-out"

    @property
    def quantity(self) -> str:
        return "largest_layers" if self.group in (LARGEST, COUNTED) else "iteration_time_s"


def _throughput(group: str, method: str, layers: int, window: int, samples_per_s: float, role: str) -> Published:
    return Published(group, method, layers, window, calibration.MODEL.batch / samples_per_s, role)


FIT, HELD = "calibration", "held-out"
BOUND = "upper bound"  # what can be counted is not all that fills a host: no prediction, and in neither error
PUBLISHED = (
    Published(LARGEST, "megatron-lm", 32, 0, 32, HELD),
    Published(LARGEST, "l2l", 78, 0, 78, HELD),
    Published(LARGEST, "zero-offload", 48, 0, 48, HELD),
    Published(LARGEST, "zero-infinity", 48, 0, 48, FIT),
    Published(LARGEST, "stronghold", 100, 4, 100, FIT),
    Published(COUNTED, "zero-infinity", 48, 0, 48, BOUND),
    Published(COUNTED, "stronghold", 100, 4, 100, BOUND),
    _throughput(EACH, "megatron-lm", 32, 0, 0.7496, FIT),
    _throughput(EACH, "stronghold", 32, 15, 0.6647, FIT),
    _throughput(EACH, "zero-offload", 48, 0, 0.2523, HELD),
    _throughput(EACH, "zero-infinity", 48, 0, 0.2439, HELD),
    _throughput(EACH, "stronghold", 48, 15, 0.3999, HELD),
    _throughput(EACH, "l2l", 78, 0, 0.0529, HELD),
    _throughput(EACH, "stronghold", 78, 15, 0.2271, HELD),
    _throughput(SAME, "l2l", 32, 0, 0.1729, FIT),
    _throughput(SAME, "zero-offload", 32, 0, 0.3711, FIT),
    _throughput(SAME, "zero-infinity", 32, 0, 0.3587, FIT),
    *(
        Published(SCALING, "stronghold", layers, 15, seconds)
        for layers, seconds in ((16, 2.644), (24, 4.159), (40, 7.958), (56, 11.786), (64, 14.156), (92, 21.001))
    ),
    Published(SCALING, "stronghold", 100, 4, 25.447),
    *(
        Published(WINDOWS, "stronghold", 32, window, seconds)
        for window, seconds in ((2, 7.946), (4, 7.651), (6, 7.161), (8, 7.216), (10, 6.774), (12, 6.376), (14, 6.420))
    ),
)
UNSETTLED = {row.method for row in PUBLISHED if row.group == COUNTED}


def published(request: Request) -> list[Cell]:
    """Every cell of the five cases."""
    base = Case.of(request.experiment, request.source)
    cells = []
    for row in PUBLISHED:
        counted = row.group == COUNTED
        case = base.replace(layers=row.layers, method=row.method, window=row.window, counted=counted)
        settings: dict[str, Any] = {"offload.method": row.method}
        if row.quantity == "iteration_time_s":
            settings["model.layers"] = row.layers
        if row.window:
            settings["offload.window"] = row.window
        if row.quantity == "largest_layers":
            settings |= {"study.quantity": row.quantity} | ({"study.memory": "counted"} if counted else {})
        cells.append(_cell(case, row.quantity, settings, row))
    return cells


@cache
def residuals() -> dict[str, list[float]]:
    """|relative error| of the held-out iteration times, by method: the planner's error bars."""
    found: dict[str, list[float]] = {}
    base = Case(calibration.MODEL, load_machine(calibration.DEVICE), Settings("stronghold", calibration.WINDOW))
    for row in PUBLISHED:
        if row.role == HELD and row.quantity == "iteration_time_s":
            case = base.replace(layers=row.layers, method=row.method, window=row.window)
            found.setdefault(row.method, []).append(abs(case.run(anyway=True).seconds / row.value - 1))
    return found


def asked(request: Request) -> list[Cell]:
    """The one cell that the overrides ask for, with what was published of it."""
    sizes = ("model.layers", "model.hidden", "model.heads", "model.vocabulary", "data.batch_size", "data.sequence")
    request.allow("offload.", "cluster.device", "optimizer.clip_norm", *sizes, "study.")
    case = Case.of(request.experiment, request.source).replace(counted=request.keys.memory == "counted")
    quantity = request.keys.quantity
    if quantity == "iteration_time_s":
        case = chosen(case)
    if not case.method.windowed:
        case = case.replace(window=0)
    settings = {
        "offload.method": case.settings.method,
        "model.layers": case.model.layers,
        "model.hidden": case.model.hidden,
        "cluster.device": case.machine.name,
    }
    if case.method.windowed:
        settings["offload.window"] = case.settings.window
    if quantity != "iteration_time_s":
        del settings["model.layers"]
        settings["study.quantity"] = quantity
    cell = _cell(case, quantity, settings | request.also(settings), _row_of(case, quantity))
    idle = [f"{name} has no effect on {case.settings.method}" for name in _without_effect(case, request.given)]
    return [dataclasses.replace(cell, note="; ".join(filter(None, (cell.note, *idle))))]


def _without_effect(case: Case, given: frozenset[str]) -> list[str]:
    """Keys that the user set and the method does not have."""
    method, found = case.settings.method, set()
    if not case.method.windowed:
        found |= {"offload.window", "optimizer.clip_norm"}
    if not (case.method.windowed or case.settings.disk):
        found.add("offload.threads")
    if method == IN_MEMORY:
        found.add("offload.optimizer")
    return sorted(found & given)


def _row_of(case: Case, quantity: str) -> Published | None:
    """The published cell that a case is, if it is one; of two sizes the one by the same memory."""
    if dataclasses.replace(case.model, layers=calibration.LAYERS) != calibration.MODEL:
        return None
    settings = case.settings
    plain = Settings(settings.method, settings.window, counted=settings.counted)
    if case.machine.name != calibration.DEVICE or settings != plain:
        return None
    for row in reversed(PUBLISHED) if settings.counted else PUBLISHED:
        alike = (row.quantity, row.method) == (quantity, settings.method) and row.window in (0, settings.window)
        if alike and (quantity == "largest_layers" or row.layers == case.model.layers):
            return row
    return None


def _cell(case: Case, quantity: str, settings: dict[str, Any], row: Published | None) -> Cell:
    note, predicted = "", None
    if quantity == "largest_layers":
        predicted = float(largest(case)) or None
        note = UNEXPLAINED if row and case.settings.counted and case.settings.method in UNSETTLED else ""
    elif case.over and row is not None:
        predicted, note = case.run(anyway=True).seconds, _beyond(case)
    elif case.over:
        note = f"{case.settings.method}, {case.model.layers} layers: {case.why_not()}"
    else:
        predicted, note = case.run().seconds, case.note
    if row is None:
        return Cell(settings, quantity, predicted, note=note)
    return Cell(settings, quantity, predicted, row.value, row.role, row.group, note)


def _beyond(case: Case) -> str:
    """A published run that the predicted memory does not hold."""
    text = BEYOND.format(case.settings.method, case.model.layers, largest(case))
    return f"{text}; {case.note}" if case.note else text


def sections(request: Request) -> dict[str, Any]:
    """What the JSON holds beside the cells: the constants, each derived from a logged 32-layer run."""
    constants: dict[str, Any] = {
        "compute_flops": calibration.compute_rate(),
        "device_update_s_per_parameter": calibration.device_update_s(),
        "to_device_bytes_per_s": calibration.to_device_rate(),
        "to_host_bytes_per_s": calibration.to_host_rate(),
    }
    for method, release in calibration.RELEASES.items():
        constants[method] = dataclasses.asdict(release)
    constants["l2l, first ten iterations"] = dataclasses.asdict(calibration.FIRST_TEN)
    return {"constants": constants}


def draw(cells: list[Cell], path: Path) -> None:
    """A panel a case: published values as rings, predictions filled."""
    from simulator.studies.stronghold_figure import draw as figure  # matplotlib is slow to import

    figure(cells, path)
