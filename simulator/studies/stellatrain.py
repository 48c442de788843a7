"""StellaTrain (SIGCOMM 2024): throughput and time to accuracy behind a WAN, the compression rate, the ablations."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from simulator.studies import stellatrain_model as model
from simulator.studies.base import Cell, Request

TITLE = "StellaTrain: eight unequal GPUs behind a WAN"
SOURCE = "Lim et al., SIGCOMM 2024"
Keys = model.Keys

RATES = (100, 500, 1000)  # Mbit/s
IMAGES = {  # images/s at RATES [F]
    ("ddp-hetero", "resnet152"): (18.6, 98.2, 196.0),
    ("ddp-hetero", "vit"): (15.3, 76.2, 152.0),
    ("ddp-hetero", "swin"): (10.2, 49.1, 98.0),
    ("stellatrain", "resnet152"): (1800.0, 1753.0, 1712.0),
    ("stellatrain", "vit"): (1854.0, 1805.0, 1810.0),
    ("stellatrain", "swin"): (1365.0, 1352.0, 1359.0),
}
TTA = {  # time to accuracy over DDP's at RATES [F]
    ("ddp-hetero", "resnet152"): (0.594, 0.573, 0.571),
    ("ddp-hetero", "vit"): (0.485, 0.486, 0.488),
    ("ddp-hetero", "swin"): (0.544, 0.537, 0.535),
    ("stellatrain", "resnet152"): (0.0067, 0.0339, 0.0698),
    ("stellatrain", "vit"): (0.0051, 0.0231, 0.0424),
    ("stellatrain", "swin"): (0.0048, 0.0217, 0.0424),
}
LINK_RATES = ((50, 189, 0.9979), (500, 137, 0.9848), (1000, 137, 0.9695))  # Mbit/s, batch, r [P]
SPEEDS = {  # iteration speed, Swin [P]
    "topk": (1 - 0.113, "calibration"),
    "dense-optimizer": (1 - 0.173, "calibration"),
    "both": (1 - 0.443, "calibration"),
    "first-come": (1 - 0.096, "held-out"),
    "no-staleness": (1 - 0.22, "held-out"),
}
GROUPS = {
    "samples_per_s": "images a second",
    "relative_tta": "time to accuracy over that of DDP with equal batches",
    "compression_rate": "the least compression rate that a link allows (ViT, two 4090 and two 2080Ti)",
    "relative_speed": "ablations: iteration speed over that of the whole system (Swin)",
}
FOLLOWS = {
    "samples_per_s": ("study.model", "study.system", "cluster.bandwidth", "study.trace", "study.off"),
    "relative_tta": ("study.model", "study.system", "cluster.bandwidth"),
    "compression_rate": ("study.model", "cluster.bandwidth", "study.samples"),
    "relative_speed": ("study.model", "study.off"),
}
WAN = "on the trace: predictions, none is published in figures"
LEFT_OUT = (
    "first come, first served costs nothing here as long as the exchange fits an iteration; on a WAN it often does not"
)


def _table() -> list[tuple[str, dict[str, Any], float | None, str]]:
    """Quantity, overrides, observed, role of every cell."""
    rows: list[tuple[str, dict[str, Any], float | None, str]] = []
    for quantity, content in (("samples_per_s", IMAGES), ("relative_tta", TTA)):
        for (system, name), values in content.items():
            for rate, value in zip(RATES, values, strict=True):
                keys = {"study.model": name, "study.system": system, "cluster.bandwidth": rate * 1.25e5}
                rows.append((quantity, keys, value, "calibration" if rate == 1000 else "held-out"))
    for name in model.WORKERS:
        for off in ("none", "no-adaptation"):
            rows.append(
                ("samples_per_s", {"study.model": name, "study.trace": True, "study.off": off}, None, "prediction")
            )
    for rate, samples, value in LINK_RATES:
        keys = {"study.model": "vit", "cluster.bandwidth": rate * 1.25e5, "study.samples": samples}
        rows.append(("compression_rate", keys, value, "held-out"))
    for off, (value, role) in SPEEDS.items():
        rows.append(("relative_speed", {"study.model": "swin", "study.off": off}, value, role))
    return rows


def published(request: Request) -> list[Cell]:
    """Every cell."""
    return [_cell(_with(request, changes), name, observed, role) for name, changes, observed, role in _table()]


def asked(request: Request) -> list[Cell]:
    """The one cell that the overrides ask for, with what was published of it."""
    request.allow("cluster.bandwidth", "control.", "study.")
    quantity = _quantity(request)
    mine = _settings(quantity, request)
    for name, changes, observed, role in _table():
        same = name == quantity and _settings(name, _with(request, changes)) == mine
        if same and not any(key.startswith("control.") for key in request.given):
            return [_cell(request, quantity, observed, role)]
    return [_cell(request, quantity, None, "prediction")]


def _quantity(request: Request) -> str:
    """As asked, or what the keys speak of."""
    if "study.quantity" in request.given:
        return str(request.keys.quantity)
    if "study.samples" in request.given:
        return "compression_rate"
    return "relative_speed" if "study.off" in request.given and not request.keys.trace else "samples_per_s"


def _cell(request: Request, quantity: str, observed: float | None, role: str) -> Cell:
    predicted = float(getattr(model, quantity)(request.experiment, request.keys))
    notes = [WAN if request.keys.trace else LEFT_OUT if request.keys.off == "first-come" else ""]
    settings = _settings(quantity, request)
    others = request.also(settings | {"study.quantity": quantity})
    notes += [f"{name} has no effect on {quantity}" for name in others if not name.startswith("control.")]
    own = {name: value for name, value in others.items() if name.startswith("control.")}
    return Cell(settings | own, quantity, predicted, observed, role, GROUPS[quantity], "; ".join(filter(None, notes)))


def _settings(quantity: str, request: Request) -> dict[str, Any]:
    settings = {name: request.value(name) for name in FOLLOWS[quantity]}
    if settings.get("study.trace"):
        del settings["cluster.bandwidth"]
    return settings


def _with(request: Request, changes: dict[str, Any]) -> Request:
    """The request with some settings replaced, in base units."""
    own = {name.partition(".")[2]: value for name, value in changes.items() if name.startswith("study.")}
    keys = dataclasses.replace(model.Keys(quantity=request.keys.quantity), **own)
    rate = changes.get("cluster.bandwidth", request.experiment.cluster.bandwidth)
    return dataclasses.replace(request, experiment=request.experiment.replace(cluster={"bandwidth": rate}), keys=keys)


def draw(cells: list[Cell], path: Path) -> None:
    """Published values as rings, predictions filled."""
    from simulator.studies.stellatrain_figure import draw as figure  # matplotlib is slow to import

    figure(cells, path)
