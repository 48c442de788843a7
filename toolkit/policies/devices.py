"""How long a device takes for each tensor of a network, from the network's FLOPs and the device's rate.

Forward of a tensor's share: flops x batch / (peak x efficiency) + launch. Backward is twice forward (one product for
the inputs' gradient, one for the weights'). The simulator derives profiles from this; a trainer whose compute is paced
takes these times for real.
"""

from __future__ import annotations

import csv
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from toolkit import registry
from toolkit.errors import UserError
from toolkit.sections.network import DataSection, ModelSection

NETWORKS = Path(__file__).resolve().parents[2] / "exp_configs" / "networks"
DEVICES = Path(__file__).with_name("devices.toml")
BACKWARD = 2.0  # times forward


@dataclass(frozen=True)
class Device:
    """Rates of one device; see devices.toml for units and sources."""

    name: str
    kind: str
    flops: float
    efficiency: float
    memory_bandwidth: float
    launch_s: float
    disk_bandwidth: float


@dataclass(frozen=True)
class LayerTime:
    """One parameter tensor: its elements, and seconds of its share of forward and backward of a batch."""

    name: str
    elements: int
    forward_s: float
    backward_s: float
    shape: tuple[int, ...] = ()


@cache
def _devices() -> dict[str, dict[str, Any]]:
    return tomllib.loads(DEVICES.read_text(encoding="utf-8"))


def load_device(name: str, where: str = "[cluster] device") -> Device:
    """A device of devices.toml; UserError names the known ones."""
    table = _devices()
    registry.check_name(where, name, table)
    return Device(name, **table[name])


def read_network(model: str, folder: Path = NETWORKS) -> list[tuple[str, int, float]]:
    """(tensor, elements, forward flops of one example) a row, in forward order; UserError where the file is damaged."""
    path = folder / f"{model}.csv"
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    except OSError:
        raise UserError(f"{path}: no layer table of '{model}'; give a measured profile with --profile") from None
    rows = []
    for number, row in enumerate(csv.DictReader(lines), start=1):
        try:
            rows.append((row["tensor"], int(row["elements"]), float(row["forward_flops"])))
        except (KeyError, TypeError, ValueError):
            raise UserError(
                f"{path}: row {number}: columns tensor, elements, forward_flops with numbers are wanted"
            ) from None
    if not rows:
        raise UserError(f"{path}: no rows")
    return rows


def read_shapes(model: str, folder: Path = NETWORKS) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a network's layer table."""
    lines = (folder / f"{model}.csv").read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return {row["tensor"]: tuple(int(size) for size in row["shape"].split("x")) for row in rows if row.get("shape")}


def inputs_of(model: str, folder: Path = NETWORKS) -> tuple[str, str]:
    """("cifar10", "3x32x32"): whose inputs a layer table was made for, as its first line says; "" where it does not."""
    words = (folder / f"{model}.csv").read_text(encoding="utf-8").partition("\n")[0].split()
    said = dict(word.split("=", 1) for word in words if "=" in word)
    return said.get("data", ""), said.get("input", "")


def table_scale(model: ModelSection, data: DataSection, source: str) -> float:
    """FLOPs of the experiment's example over those of the layer table's: windows count in proportion to their length.

    UserError where the experiment changes the network's size, which its table does not know.
    """
    for key in ("hidden", "layers", "heads", "vocabulary"):
        if getattr(model, key):
            raise UserError(
                f"{source}: [model] {key} = {getattr(model, key)}: the layer table of '{model.name}' has the network's "
                "own size; give a measured profile with --profile"
            )
    _, shape = inputs_of(model.name)
    return data.sequence / int(shape) if shape.isdigit() else 1.0


def layer_times(
    model: str, batch_size: float, device: Device, *, scale: float = 1.0, folder: Path = NETWORKS
) -> list[LayerTime]:
    """Seconds of each tensor, in forward order, on a device of its own; `scale` multiplies the table's FLOPs."""
    rate = device.flops * device.efficiency / scale
    rows, shapes = [], read_shapes(model, folder)
    for name, elements, flops in read_network(model, folder):
        forward = flops * batch_size / rate + (device.launch_s if flops > 0 else 0.0)
        rows.append(LayerTime(name, elements, forward, BACKWARD * forward, shapes.get(name, ())))
    return rows
