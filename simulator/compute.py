"""Profiles without a measurement: from a network's FLOPs and a device's rate, with every assumption in one place.

Forward of a tensor's share: flops x batch / (peak x efficiency) + launch. Backward is twice forward (one product for
the inputs' gradient, one for the weights'). Compression, merging and optimizing are bound by memory: passes over the
vector, and a cache line for each entry that is scattered.
"""

from __future__ import annotations

import csv
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from simulator.profile import Cost, Layer, Profile
from toolkit import registry
from toolkit.errors import UserError

NETWORKS = Path(__file__).resolve().parent.parent / "exp_configs" / "networks"
DEVICES = Path(__file__).with_name("devices.toml")
BACKWARD = 2.0  # times forward
LINE = 64.0  # bytes of a cache line, what a scattered access costs
WORD = 4.0  # bytes of a value

# Passes of 4 bytes over the vector, with error feedback (read the gradient, read and write the residual = 3).
COMPRESS_PASSES = {"none": 2.0, "fp16": 1.5, "topk": 10.0, "randomk": 3.0, "threshold": 4.0}
SIDCO_PASSES = {"sidco-e": 5.0, "sidco-p": 5.0, "sidco-gp": 9.0}  # gp: a logarithm an element
OTHER_PASSES = 6.0
OPTIMIZE_PASSES = {"sgd": 5.0, "adam": 7.0, "adamw": 7.0}  # all others touch listed entries only
EXAMPLES = {"digits": 1438, "mnist": 60_000, "cifar10": 50_000, "imagefolder": 1_281_167}
TOKENS = {"ptb": 929_589, "pysource": 1_600_000}  # characters or words of the training part


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


def inputs_of(model: str, folder: Path = NETWORKS) -> tuple[str, str]:
    """("cifar10", "3x32x32"): whose inputs a layer table was made for, as its first line says; "" where it does not."""
    words = (folder / f"{model}.csv").read_text(encoding="utf-8").partition("\n")[0].split()
    said = dict(word.split("=", 1) for word in words if "=" in word)
    return said.get("data", ""), said.get("input", "")


def examples_of(data: str, sequence: int) -> int:
    """Training examples of a data set: pictures, or windows of `sequence` characters or words."""
    return EXAMPLES[data] if data in EXAMPLES else max(1, TOKENS[data] // sequence)


def memory_costs(device: Device) -> tuple[dict[str, Cost], dict[str, Cost], dict[str, Cost]]:
    """compress, merge and optimize costs of a device whose memory is the limit."""
    word, line = WORD / device.memory_bandwidth, LINE / device.memory_bandwidth
    passes = COMPRESS_PASSES | SIDCO_PASSES
    compress = {
        name: Cost(device.launch_s, passes.get(name, OTHER_PASSES) * word, 0.0 if entry.wire == "dense" else 2 * word)
        for name, entry in registry.COMPRESSORS.items()
    }
    merge = {"dense": Cost(device.launch_s, 2 * word, 0.0), "sparse": Cost(device.launch_s, word, line)}
    optimize = {
        name: Cost(device.launch_s, OPTIMIZE_PASSES.get(name, 0.0) * word, 0.0 if name in OPTIMIZE_PASSES else 2 * line)
        for name in registry.OPTIMIZERS
    }
    return compress, merge, optimize


def derive(
    model: str, batch_size: int, examples: int, device: Device, folder: Path = NETWORKS, times: float = 1.0
) -> Profile:
    """A profile from the network's layer table and the device's rate; `times` multiplies the table's FLOPs."""
    rate = device.flops * device.efficiency / times
    layers = []
    for name, elements, flops in read_network(model, folder):
        forward = flops * batch_size / rate + (device.launch_s if flops > 0 else 0.0)
        layers.append(Layer(name, elements, forward, BACKWARD * forward))
    compress, merge, optimize = memory_costs(device)
    return Profile(
        model,
        batch_size,
        "derived",
        examples,
        tuple(layers),
        compress=compress,
        merge=merge,
        optimize=optimize,
        host={
            "device": device.name,
            "network": f"exp_configs/networks/{model}.csv",
            "data": inputs_of(model, folder)[0],
        },
    )
