"""A machine to offload on: one device, its host, the links between them, the disk. The catalogue is machines.toml."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit import units
from toolkit.errors import UserError
from toolkit.policies.devices import load_device
from toolkit.registry import check_name, nearest

CATALOGUE = Path(__file__).with_name("machines.toml")
HOST_USED = 3.16 * 2**30  # bytes of the host in use before a model is built: DeepSpeed's logs of 32 layers (3.15, 3.16)
HOST_SHARE = 7 / 8  # of the others that training gets; settled by STRONGHOLD's largest published model
QUANTITIES = {
    **dict.fromkeys(("memory", "reserved", "host_memory", "disk"), "size"),
    **dict.fromkeys(("to_device", "to_host", "host_memory_bandwidth", "disk_read", "disk_write"), "rate"),
}
NUMBERS = ("half_flops", "half_efficiency", "cores", "reached_flops")
OPTIONAL = ("reached_flops",)


@dataclass(frozen=True)
class Machine:
    """Sizes in bytes, rates in bytes/s; flops and half_flops: flop/s that training reaches in fp32 and bf16."""

    name: str
    flops: float
    half_flops: float
    memory: float
    reserved: float
    to_device: float
    to_host: float
    cores: int
    host_memory: float
    host_memory_bandwidth: float
    disk: float
    disk_read: float
    disk_write: float

    def budget(self, share: float = HOST_SHARE) -> dict[str, float]:
        """Bytes that training may use of each tier. share: of the host's that are free before a model is built."""
        host = max(0.0, self.host_memory - HOST_USED) * share
        return {"device": self.memory - self.reserved, "host": host, "disk": self.disk}

    def replace(self, **changes: Any) -> Machine:
        return dataclasses.replace(self, **changes)


def load_machine(name: str, where: str = "[cluster] device", file: Path | None = None) -> Machine:
    """The machine around a device, from the catalogue or a file of the same form; UserError names what is wrong."""
    path = file or CATALOGUE
    table = _read(path)
    check_name(where, name, table)
    row = _row(table[name], f"{path}: [{name}]")
    share, reached = row.pop("half_efficiency"), row.pop("reached_flops", 0.0)
    if not reached:
        device = load_device(name, where)
        reached = device.flops * device.efficiency
    return Machine(name, flops=reached, half_flops=row.pop("half_flops") * share, cores=int(row.pop("cores")), **row)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{path}: not a file of machines: {error}") from None


def _row(content: Any, where: str) -> dict[str, float]:
    if not isinstance(content, dict):
        raise UserError(f"{where}: a table is wanted, as in {CATALOGUE.name}")
    known = (*QUANTITIES, *NUMBERS)
    for key in content:
        if key not in known:
            raise UserError(f"{where} {key}: unknown key{nearest(key, known)}; known keys are {', '.join(known)}")
    row = {}
    for key in known:
        if key in OPTIONAL and key not in content:
            continue
        if key not in content:
            raise UserError(f"{where} {key}: this key is missing")
        row[key] = units.parse(QUANTITIES[key], content[key], f"{where} {key}") if key in QUANTITIES else content[key]
        if isinstance(row[key], bool) or not isinstance(row[key], (int, float)) or not row[key] > 0:
            raise UserError(f"{where} {key} = {content[key]!r}: a number > 0 is wanted")
    return row
