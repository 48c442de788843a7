"""A profile: what one worker's step costs, layer by layer, and where the figures come from.

`calibrate` writes measured profiles from traces; `simulator.compute.derive` makes one from FLOPs and a device's rate.
Times are seconds for `batch_size` examples on one worker, as measured (contended, if the host was oversubscribed:
`host["ranks"]` and `host["cores"]` say so, and the simulator divides that out).
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from toolkit import registry
from toolkit.errors import UserError

PROFILE_SCHEMA = "sandtable-profile/1"
SOURCES = ("measured", "derived")
WIRES = ("dense", "sparse")


@dataclass(frozen=True)
class Layer:
    """One parameter tensor, in forward order: its elements, seconds of its share of forward and backward, and its shape
    (empty: not known).
    """

    name: str
    elements: int
    forward_s: float
    backward_s: float
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Cost:
    """seconds = call_s + element_s * n + entry_s * k, for n elements of which k are selected or merged."""

    call_s: float = 0.0
    element_s: float = 0.0
    entry_s: float = 0.0

    def seconds(self, elements: float, entries: float) -> float:
        return self.call_s + self.element_s * elements + self.entry_s * entries


@dataclass(frozen=True)
class NetworkFit:
    """The measured host's own network, so that a run can be simulated where it was measured.

    latency_s: of one message between two workers; bandwidth: bytes/s of one worker's port, each direction;
    cycle_s: Horovod's cycle in force; call_s: fixed software cost of one exchange beside cycle and messages;
    coordinate_s: that of one cycle with exchanges in it, however many.
    """

    latency_s: float
    bandwidth: float
    cycle_s: float
    call_s: float = 0.0
    coordinate_s: float = 0.0


@dataclass(frozen=True)
class LinkFit:
    """What links between hosts come to, measured on several of them.

    latency_s: of one message, software included; efficiency: share of a link's rate that payloads get; byte_s: seconds
    that software adds a byte, whatever the rate; cycle_s, call_s, coordinate_s: as in NetworkFit. Software costs are
    brought to one rank a core.
    """

    latency_s: float
    efficiency: float
    cycle_s: float
    call_s: float = 0.0
    coordinate_s: float = 0.0
    byte_s: float = 0.0


@dataclass(frozen=True)
class Profile:
    """Everything the simulator knows about computation.

    examples: size of the training set (sets the steps of an epoch). data_s: loading a micro-batch. step_s: what a step
    needs beside its spans (Python, the loss, zeroing gradients), step_element_s: what it needs besides for each
    parameter, where runs of several networks tell the two apart. compute_cv: relative standard deviation of one
    worker's compute time from step to step, with a core to itself. slice_s: what sharing cores adds to that, in seconds
    whatever the step's length (the scheduler's time slices); it holds only where workers outnumber cores. fixed_share:
    part of forward and backward at `batch_size` that a smaller batch does not save (starting operators, reading
    weights). saturating_batch: examples below which the device is no faster, alpha of f(x) = min(beta x / alpha, beta).
    compress and optimize are keyed by the experiment's names, merge by wire ("dense", "sparse"; entry_s per entry
    received from all ranks together). achieved: achieved/wanted density of a compressor, achieved_by: [density, ratio]
    rows where runs of several densities tell more, densities ascending. network: of the measured host, its software
    costs brought to one rank a core. links: of the measured hosts to each other. fits: for each
    fitted constant its standard error, residual and number of observations.
    """

    model: str
    batch_size: int
    source: str
    examples: int
    layers: tuple[Layer, ...]
    data_s: float = 0.0
    step_s: float = 0.0
    step_element_s: float = 0.0
    compute_cv: float = 0.0
    slice_s: float = 0.0
    fixed_share: float = 0.0
    saturating_batch: float = 0.0
    compress: dict[str, Cost] = field(default_factory=dict)
    merge: dict[str, Cost] = field(default_factory=dict)
    optimize: dict[str, Cost] = field(default_factory=dict)
    achieved: dict[str, float] = field(default_factory=dict)
    achieved_by: dict[str, list[list[float]]] = field(default_factory=dict)
    network: NetworkFit | None = None
    links: LinkFit | None = None
    host: dict[str, Any] = field(default_factory=dict)
    fits: dict[str, Any] = field(default_factory=dict)

    def batch_factor(self, examples: Any) -> Any:
        """Time of forward and backward of a micro-batch of `examples` (a number or array) over that of `batch_size`."""
        worth = np.maximum(examples, self.saturating_batch) / max(self.batch_size, self.saturating_batch)
        return self.fixed_share + (1.0 - self.fixed_share) * worth

    def achieved_at(self, compressor: str, density: float) -> float:
        """Achieved over wanted density: linear in the density's logarithm between those seen, the nearest beyond."""
        rows = self.achieved_by.get(compressor)
        if not rows:
            return self.achieved.get(compressor, 1.0)
        logs = [math.log(row[0]) for row in rows]
        return float(np.interp(math.log(density), logs, [row[1] for row in rows]))

    @property
    def elements(self) -> int:
        """Parameters of the whole model."""
        return sum(layer.elements for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        return {"schema": PROFILE_SCHEMA, **dataclasses.asdict(self)}

    def save(self, path: str | Path) -> None:
        """Write the profile as JSON, atomically; UserError where the folder cannot be written."""
        path = Path(path)
        part = path.with_name(path.name + ".part")
        try:
            part.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")
            os.replace(part, path)
        except OSError as error:
            raise UserError(f"{path}: cannot write the profile: {error.strerror}") from None

    @classmethod
    def load(cls, path: str | Path) -> Profile:
        """Read a profile; UserError names the file, the key and what is allowed."""
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path}: no such profile; 'python -m simulator calibrate' writes one") from None
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise UserError(f"{path}: not a profile: {error}") from None
        return from_json(document, str(path))


def from_json(document: Any, source: str) -> Profile:
    """Check a parsed profile strictly and build it; `source` stands in error messages."""
    if not isinstance(document, dict) or document.get("schema") != PROFILE_SCHEMA:
        found = document.get("schema") if isinstance(document, dict) else type(document).__name__
        raise UserError(f"{source}: schema = {found!r}: '{PROFILE_SCHEMA}' is wanted")
    content = {name: value for name, value in document.items() if name != "schema"}
    _keys(content, Profile, source)
    where = f"{source}:"
    layers = content["layers"]
    if not isinstance(layers, list) or not layers:
        raise UserError(f"{where} layers = {layers!r}: a list with at least one layer is wanted")
    network, links = content.get("network"), content.get("links")
    return Profile(
        model=registry.check_name(f"{where} model", _text(content["model"], f"{where} model"), registry.MODELS),
        batch_size=_whole(content["batch_size"], f"{where} batch_size", low=1),
        source=registry.check_name(f"{where} source", _text(content["source"], f"{where} source"), SOURCES),
        examples=_whole(content["examples"], f"{where} examples", low=1),
        layers=tuple(_layer(row, f"{where} layers[{i}]") for i, row in enumerate(layers)),
        data_s=_number(content.get("data_s", 0.0), f"{where} data_s"),
        step_s=_number(content.get("step_s", 0.0), f"{where} step_s"),
        step_element_s=_number(content.get("step_element_s", 0.0), f"{where} step_element_s"),
        compute_cv=_number(content.get("compute_cv", 0.0), f"{where} compute_cv"),
        slice_s=_number(content.get("slice_s", 0.0), f"{where} slice_s"),
        fixed_share=_number(content.get("fixed_share", 0.0), f"{where} fixed_share", most=1.0),
        saturating_batch=_number(content.get("saturating_batch", 0.0), f"{where} saturating_batch"),
        compress=_costs(content.get("compress", {}), f"{where} compress", registry.COMPRESSORS),
        merge=_costs(content.get("merge", {}), f"{where} merge", WIRES),
        optimize=_costs(content.get("optimize", {}), f"{where} optimize", registry.OPTIMIZERS),
        achieved=_achieved(content.get("achieved", {}), f"{where} achieved"),
        achieved_by=_achieved_by(content.get("achieved_by", {}), f"{where} achieved_by"),
        network=None if network is None else _network(network, f"{where} network"),
        links=None if links is None else _links(links, f"{where} links"),
        host=_table(content.get("host", {}), f"{where} host"),
        fits=_table(content.get("fits", {}), f"{where} fits"),
    )


def _keys(content: dict[str, Any], kind: type, where: str) -> None:
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for name in content:
        if name not in fields:
            hint = registry.nearest(name, fields)
            raise UserError(f"{where}: {name}: unknown key{hint}; known keys are {', '.join(fields)}")
    for name, spec in fields.items():
        required = spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
        if required and name not in content:
            raise UserError(f"{where}: {name}: this key is missing")


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where} = {value!r}: a table is wanted")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where} = {value!r}: a text is wanted")
    return value


def _whole(value: Any, where: str, low: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise UserError(f"{where} = {value!r}: a whole number >= {low} is wanted")
    return value


def _number(value: Any, where: str, above: float = -1.0, most: float = math.inf) -> float:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not good or value < 0 or value <= above or value > most:
        limit = f" and <= {most:g}" if most < math.inf else ""
        raise UserError(f"{where} = {value!r}: a finite number {'> 0' if above == 0 else '>= 0'}{limit} is wanted")
    return float(value)


def _layer(row: Any, where: str) -> Layer:
    _keys(_table(row, where), Layer, where)
    return Layer(
        _text(row["name"], f"{where}.name"),
        _whole(row["elements"], f"{where}.elements", low=1),
        _number(row["forward_s"], f"{where}.forward_s"),
        _number(row["backward_s"], f"{where}.backward_s"),
        _shape(row.get("shape", []), f"{where}.shape"),
    )


def _shape(value: Any, where: str) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise UserError(f"{where} = {value!r}: a list of whole numbers is wanted")
    return tuple(_whole(size, where, low=1) for size in value)


def _costs(value: Any, where: str, names: Any) -> dict[str, Cost]:
    costs = {}
    for name, row in _table(value, where).items():
        registry.check_name(f"{where} key", name, names)
        _keys(_table(row, f"{where}.{name}"), Cost, f"{where}.{name}")
        costs[name] = Cost(**{key: _number(number, f"{where}.{name}.{key}") for key, number in row.items()})
    return costs


def _achieved(value: Any, where: str) -> dict[str, float]:
    for name in _table(value, where):
        registry.check_name(f"{where} key", name, registry.COMPRESSORS)
    return {name: _number(number, f"{where}.{name}") for name, number in value.items()}


def _achieved_by(value: Any, where: str) -> dict[str, list[list[float]]]:
    table = {}
    for name, rows in _table(value, where).items():
        registry.check_name(f"{where} key", name, registry.COMPRESSORS)
        pairs = isinstance(rows, list) and rows and all(isinstance(row, list) and len(row) == 2 for row in rows)
        if not pairs:
            raise UserError(f"{where}.{name} = {rows!r}: rows [density, ratio] are wanted")
        table[name] = [[_number(number, f"{where}.{name}", above=0.0) for number in row] for row in rows]
        densities = [row[0] for row in table[name]]
        if densities != sorted(set(densities)):
            raise UserError(f"{where}.{name}: densities {densities} must rise")
    return table


def _network(row: Any, where: str) -> NetworkFit:
    _keys(_table(row, where), NetworkFit, where)
    return NetworkFit(
        latency_s=_number(row["latency_s"], f"{where}.latency_s"),
        bandwidth=_number(row["bandwidth"], f"{where}.bandwidth", above=0.0),
        cycle_s=_number(row["cycle_s"], f"{where}.cycle_s", above=0.0),
        call_s=_number(row.get("call_s", 0.0), f"{where}.call_s"),
        coordinate_s=_number(row.get("coordinate_s", 0.0), f"{where}.coordinate_s"),
    )


def _links(row: Any, where: str) -> LinkFit:
    _keys(_table(row, where), LinkFit, where)
    return LinkFit(
        latency_s=_number(row["latency_s"], f"{where}.latency_s"),
        efficiency=_number(row["efficiency"], f"{where}.efficiency", above=0.0),
        cycle_s=_number(row["cycle_s"], f"{where}.cycle_s", above=0.0),
        call_s=_number(row.get("call_s", 0.0), f"{where}.call_s"),
        coordinate_s=_number(row.get("coordinate_s", 0.0), f"{where}.coordinate_s"),
        byte_s=_number(row.get("byte_s", 0.0), f"{where}.byte_s"),
    )
