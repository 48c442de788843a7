"""GEMINI (SOSP 2023): recovery probability, checkpoint time, iteration time, effective training-time ratio."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from simulator.studies import gemini_model as model
from simulator.studies.base import Cell, Request
from toolkit.policies.placement import Placement

TITLE = "GEMINI: in-memory checkpoints"
SOURCE = "Wang et al., SOSP 2023"
Keys = model.Keys

GROUPS = {
    "recovery_probability": "Figure 9: probability that k failed machines leave every shard in memory",
    "iteration_time_s": "Figures 7 and 8: iteration time by how checkpoint traffic travels",
    "checkpoint_reduction": "Figure 11: checkpoint time to storage over that to the peers' memory",
    "effective_ratio": "Figure 14: effective training-time ratio, by event simulation",
    "effective_ratio_linear": "Figure 14: effective training-time ratio, by the published closed form",
}
FOLLOWS = {
    "recovery_probability": (
        *("checkpoint.placement", "cluster.workers", "checkpoint.replicas", "faults.machines", "study.bound"),
        "study.rack",
        "study.spread",
    ),
    "checkpoint_reduction": ("cluster.workers", "cluster.bandwidth", "checkpoint.replicas", "study.model"),
    "iteration_time_s": (
        *("study.model", "checkpoint.traffic", "cluster.workers", "cluster.bandwidth", "checkpoint.replicas"),
    ),
    "effective_ratio": ("study.system", "faults.failures_per_day", "faults.machines", "cluster.workers"),
    "effective_ratio_linear": ("study.system", "faults.failures_per_day", "cluster.workers"),
}
PUBLISHED: dict[str, Any] = {  # what every published cell has unless its row says otherwise
    "cluster.workers": 16,
    "cluster.bandwidth": 400 * 1.25e8,
    "checkpoint.placement": "group",
    "checkpoint.replicas": 2,
    "faults.machines": 1,
    "study.model": "100B",
    "study.bound": False,
    "study.rack": 1,
    "study.spread": False,
}
BOUND = "the published curve is a bound, exact below twice the copies; the prediction is the exact value"
LINEAR = "the published ratio is linear in the failures; the simulated one counts those during recoveries too"
ASSUMED = "no iteration time is published with its machine's rates: device rate, tokens and prefetch are assumptions"


def _table() -> list[tuple[str, dict[str, Any], float | None, str]]:
    """Quantity, overrides, observed and role of every cell of the figures."""
    rows: list[tuple[str, dict[str, Any], float | None, str]] = []
    for k, bound in zip(range(2, 6), (0.9333, 0.8, 0.6, 0.3333), strict=True):
        place = {"checkpoint.placement": "group", "cluster.workers": 16, "faults.machines": k}
        rows.append(("recovery_probability", place, bound, "held-out"))
    for kind, machines, last in (("ring", 16, 5), ("mixed", 17, 3)):
        for k in range(2, last + 1):
            place = {"checkpoint.placement": kind, "cluster.workers": machines, "faults.machines": k}
            rows.append(("recovery_probability", place, None, "prediction"))
    for name in ("100B", "40B"):
        for traffic in ("none", "interleaved", "blocking"):
            rows.append(("iteration_time_s", {"study.model": name, "checkpoint.traffic": traffic}, None, "prediction"))
    for gbit, factors in ((100, (17, 34, 51, 68)), (400, (68, 136, 204, 272))):
        for machines, factor in zip((4, 8, 12, 16), factors, strict=True):
            net = {"cluster.workers": machines, "cluster.bandwidth": gbit * 1.25e8}
            rows.append(("checkpoint_reduction", net, float(factor), "held-out"))
    for system, role, at_1, at_8, at_15 in (
        ("strawman", "calibration", 1 - 112 / 1440, 1 - 8 * 112 / 1440, 0.0),
        ("highfreq", "calibration", 480 / 560 - 26 / 1440, 480 / 560 - 8 * 26 / 1440, 480 / 560 - 15 * 26 / 1440),
        ("gemini", "calibration", 1 - 9 / 1440, 1 - 8 * 9 / 1440, 1 - 15 * 9 / 1440),
    ):
        for failures, machines, value in ((1, 16, at_1), (8, 16, at_8), (15, 1000, at_15)):
            jobs = {"study.system": system, "faults.failures_per_day": float(failures), "cluster.workers": machines}
            jobs["faults.machines"] = 1
            for quantity in ("effective_ratio_linear", "effective_ratio"):
                rows.append((quantity, jobs, value, role if failures == 1 else "held-out"))
    return sorted(rows, key=lambda row: list(GROUPS).index(row[0]))


def published(request: Request) -> list[Cell]:
    """Every cell of the figures."""
    return [_cell(_with(request, changes), name, observed, role) for name, changes, observed, role in _table()]


def asked(request: Request) -> list[Cell]:
    """The one cell that the overrides ask for, with what was published of it."""
    request.allow("cluster.workers", "cluster.bandwidth", "checkpoint.", "faults.", "study.")
    quantity = request.keys.quantity
    if quantity == "auto":
        quantity = _quantity(request.given)
    mine = _identity(quantity, request)
    for name, changes, observed, role in _table():
        row = _with(request, PUBLISHED | changes)
        if name == quantity and _identity(name, row) == mine and _same_machine(request):
            return [_cell(request, quantity, observed, role)]
    return [_cell(request, quantity, None, "prediction")]


def _quantity(given: frozenset[str]) -> str:
    """The quantity that the keys speak of."""
    if given & {"faults.machines", "checkpoint.placement", "study.bound"}:
        return "recovery_probability"
    if "study.system" in given or any(name.startswith("faults.") for name in given):
        return "effective_ratio"
    if given & {"study.model", "checkpoint.traffic", "study.flops", "study.tokens", "checkpoint.span_share"}:
        return "iteration_time_s"
    return "checkpoint_reduction" if "cluster.bandwidth" in given else "recovery_probability"


def _same_machine(request: Request) -> bool:
    """Whether all but what a cell follows is the published setting."""
    free = {"study.quantity"} | {name for names in FOLLOWS.values() for name in names}
    return request.given <= free


def _cell(request: Request, quantity: str, observed: float | None, role: str) -> Cell:
    note = ""
    if observed is not None and quantity == "recovery_probability" and not request.keys.bound:
        note = BOUND
    elif observed is not None and quantity == "effective_ratio":
        note = LINEAR
    elif quantity == "iteration_time_s":
        note = ASSUMED
    predicted = getattr(model, quantity)(request.experiment, request.keys, request.seed)
    settings = _settings(quantity, request)
    if request.given:
        settings |= request.also(settings)
    return Cell(settings, quantity, float(predicted), observed, role, GROUPS[quantity], note)


def _settings(quantity: str, request: Request) -> dict[str, Any]:
    return {name: request.value(name) for name in FOLLOWS[quantity]}


def _identity(quantity: str, request: Request) -> dict[str, Any]:
    """What makes two cells one: 'mixed' is 'group' where it is the same, and the published curve is the bound."""
    settings = _settings(quantity, request)
    settings.pop("study.bound", None)
    if "checkpoint.placement" in settings:
        section, hosts = request.experiment.checkpoint, request.experiment.cluster.hosts
        whole = Placement(section.placement, hosts, section.replicas).ring == 0
        settings["checkpoint.placement"] = "group" if whole else section.placement
    return settings


def _with(request: Request, changes: dict[str, Any]) -> Request:
    """The request with some settings replaced, in base units."""
    sections: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        section, _, option = name.partition(".")
        sections.setdefault(section, {})[option] = value
    keys = dataclasses.replace(request.keys, **sections.pop("study", {}))
    return dataclasses.replace(request, experiment=request.experiment.replace(**sections), keys=keys)


def sections(request: Request) -> dict[str, Any]:
    """What the JSON holds beside the cells."""
    return {"assumptions": [ASSUMED]}


def draw(cells: list[Cell], path: Path) -> None:
    """A panel a figure: published values as rings, predictions filled."""
    from simulator.studies.gemini_figure import draw as figure  # matplotlib is slow to import

    figure(cells, path)
