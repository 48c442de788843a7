"""The experiment file: one TOML file that drives the trainer and the simulator alike.

`load(path, overrides)` returns frozen dataclasses. Every error is a UserError that names the file, the key, the value
and what is allowed. All keys have defaults, so an empty file is a valid experiment.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit import registry, units
from toolkit.errors import UserError
from toolkit.keys import is_free_text, read_section
from toolkit.sections import checkpoint, faults, offload, sync
from toolkit.sections.checkpoint import CheckpointSection
from toolkit.sections.cluster import ClusterSection
from toolkit.sections.compression import CompressionSection
from toolkit.sections.control import ControlSection
from toolkit.sections.faults import FaultsSection
from toolkit.sections.network import DataSection, ModelSection
from toolkit.sections.offload import OffloadSection
from toolkit.sections.optimizer import OptimizerSection
from toolkit.sections.run import RunSection
from toolkit.sections.sync import PipelineSection, SyncSection

LANGUAGE_MODELS = ("lstm", "charlstm", "gpt")
LANGUAGE_DATA = ("pysource", "ptb")


@dataclass(frozen=True)
class Experiment:
    model: ModelSection = field(default_factory=ModelSection)
    data: DataSection = field(default_factory=DataSection)
    cluster: ClusterSection = field(default_factory=ClusterSection)
    compression: CompressionSection = field(default_factory=CompressionSection)
    optimizer: OptimizerSection = field(default_factory=OptimizerSection)
    sync: SyncSection = field(default_factory=SyncSection)
    pipeline: PipelineSection = field(default_factory=PipelineSection)
    offload: OffloadSection = field(default_factory=OffloadSection)
    checkpoint: CheckpointSection = field(default_factory=CheckpointSection)
    faults: FaultsSection = field(default_factory=FaultsSection)
    control: ControlSection = field(default_factory=ControlSection)
    run: RunSection = field(default_factory=RunSection)

    @property
    def exchange(self) -> str:
        """The exchange in force: what "auto" stands for with this compressor."""
        if self.compression.exchange != "auto":
            return self.compression.exchange
        return registry.exchanges_of(self.compression.name)[0]

    def replace(self, **sections: dict[str, Any]) -> Experiment:
        """A copy with some keys replaced, values in base units: `replace(cluster={"workers": 8})`; checked again."""
        changed = {}
        for name, changes in sections.items():
            kind = _section_kind(name, "experiment")
            values = read_section(kind, changes, f"experiment: [{name}]", base_units=True)
            changed[name] = dataclasses.replace(getattr(self, name), **values)
        result = dataclasses.replace(self, **changed)
        check(result, "experiment")
        return result


SECTIONS: dict[str, type] = {f.name: f.default_factory for f in dataclasses.fields(Experiment)}  # type: ignore[misc]


def load(path: str | Path, overrides: Iterable[str] = ()) -> Experiment:
    """Read an experiment file and apply `section.key=value` overrides; UserError names what is wrong."""
    path = Path(path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such experiment file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    except (ValueError, RecursionError) as error:  # besides its own error: endless digits, endless nesting
        raise UserError(f"{path}: not valid TOML: {error}") from None
    for override in overrides:
        _apply(document, override, str(path))
    if isinstance(document.get("faults"), dict):
        faults.anchor(document["faults"].get("link_trace"), path.parent)
    return parse(document, str(path))


def parse(document: dict[str, Any], source: str) -> Experiment:
    """Build an Experiment from a parsed TOML document; `source` stands in error messages."""
    built = {}
    for name, content in document.items():
        if name not in SECTIONS and not isinstance(content, dict):
            raise UserError(f"{source}: {name} = {content!r}: a key stands in a section: {', '.join(SECTIONS)}")
        kind = _section_kind(name, source)
        if not isinstance(content, dict):
            raise UserError(f"{source}: {name} = {content!r}: [{name}] is a section, not a key")
        built[name] = kind(**read_section(kind, content, f"{source}: [{name}]"))
    experiment = Experiment(**built)
    check(experiment, source)
    return experiment


def _section_kind(name: str, source: str) -> type:
    if name not in SECTIONS:
        hint = registry.nearest(name, SECTIONS)
        raise UserError(f"{source}: [{name}] is not a section: allowed are {', '.join(SECTIONS)}{hint}")
    return SECTIONS[name]


def _apply(document: dict[str, Any], override: str, source: str) -> None:
    """Write one override into the document; an error says that it stands on the command line, not in the file."""
    name, equals, text = override.partition("=")
    section, _, option = (part.strip() for part in name.partition("."))
    if not equals or not section or not option:
        raise UserError(f"--set {override}: write section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text.strip()  # a bare word or "1 Gbit/s" needs no quotes on a command line
    source = f"{source} (--set)"
    kind = _section_kind(section, source)
    if type(value) is int and option in {f.name for f in dataclasses.fields(kind) if is_free_text(f)}:
        value = text.strip()  # sync.order=10 needs none either
    read_section(kind, {option: value}, f"{source}: [{section}]")
    content = document.setdefault(section, {})
    if isinstance(content, dict):
        content[option] = value


def check(experiment: Experiment, source: str) -> None:
    """Cross-field rules; raises UserError."""
    model, data, compression = experiment.model.name, experiment.data.name, experiment.compression
    if (model in LANGUAGE_MODELS) != (data in LANGUAGE_DATA):
        allowed = (
            LANGUAGE_DATA if model in LANGUAGE_MODELS else [n for n in registry.DATASETS if n not in LANGUAGE_DATA]
        )
        raise UserError(f"{source}: [data] name = '{data}': '{model}' trains on {', '.join(allowed)}")
    fitting = registry.exchanges_of(compression.name)
    if experiment.exchange not in fitting:
        raise UserError(
            f"{source}: [compression] exchange = '{compression.exchange}': the payloads of '{compression.name}' are "
            f"{registry.COMPRESSORS[compression.name].wire}; allowed are auto, {', '.join(fitting)}"
        )
    if compression.name == "powersgd" and experiment.sync.policy != "bsp":
        raise UserError(
            f"{source}: [compression] name = 'powersgd': its factors need the mean over all workers in each step; "
            f"use [sync] policy = 'bsp', not '{experiment.sync.policy}'"
        )
    if compression.momentum > 0 and (experiment.optimizer.momentum > 0 or "adam" in experiment.optimizer.name):
        raise UserError(
            f"{source}: [compression] momentum = {compression.momentum!r}: would be applied twice; use sgd or "
            "sparse-sgd with [optimizer] momentum = 0"
        )
    if compression.momentum > 0 and not compression.error_feedback:
        raise UserError(f"{source}: [compression] momentum = {compression.momentum!r}: needs error_feedback = true")
    if compression.nesterov and compression.momentum == 0:
        raise UserError(f"{source}: [compression] nesterov = true: needs [compression] momentum > 0")
    if experiment.optimizer.nesterov and experiment.optimizer.momentum == 0:
        raise UserError(f"{source}: [optimizer] nesterov = true: needs momentum > 0")
    if experiment.optimizer.lazy_decay and (
        experiment.optimizer.name != "sparse-sgd" or experiment.optimizer.momentum == 0
    ):
        raise UserError(f"{source}: [optimizer] lazy_decay = true: needs name = 'sparse-sgd' and momentum > 0")
    for room in (faults, checkpoint, offload, sync):
        room.check(experiment, source)


def dump(experiment: Experiment) -> str:
    """The resolved experiment as TOML, every key written out; `parse` of it gives an equal Experiment."""
    lines: list[str] = []
    for section in SECTIONS:
        content = getattr(experiment, section)
        lines.append(f"[{section}]")
        for spec in dataclasses.fields(content):
            lines.append(f"{spec.name} = {_toml(spec, getattr(content, spec.name))}")
        lines.append("")
    return "\n".join(lines)


def digest(experiment: Experiment) -> str:
    """Of the keys that are not at their defaults: a key that is new in the house leaves old results valid."""
    told = zip(dump(experiment).splitlines(), dump(Experiment()).splitlines(), strict=False)
    return hashlib.sha256("\n".join(own for own, default in told if own != default).encode()).hexdigest()[:12]


def _toml(spec: dataclasses.Field[Any], value: Any) -> str:
    """A key's value as TOML: like JSON, but it knows no pairs of surrogates and wants DEL escaped."""
    if spec.metadata["table"]:
        return "[" + ", ".join(_inline(row) for row in value) + "]"
    unit = spec.metadata["unit"]
    plain = units.render(unit, value) if unit else list(value) if isinstance(value, tuple) else value
    return json.dumps(plain, ensure_ascii=False).replace("\x7f", "\\u007f")


def _inline(row: Any) -> str:
    keys = (f"{spec.name} = {_toml(spec, getattr(row, spec.name))}" for spec in dataclasses.fields(row))
    return "{" + ", ".join(keys) + "}"
