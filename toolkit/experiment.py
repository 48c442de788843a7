"""The experiment file: one TOML file that drives the trainer and the simulator alike.

`load(path, overrides)` returns frozen dataclasses. Every error is a UserError that names the file, the key, the value
and what is allowed. All keys have defaults, so an empty file is a valid experiment.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit import registry, units
from toolkit.errors import UserError
from toolkit.keys import key, read_section

LANGUAGE_MODELS = ("lstm", "charlstm", "gpt")
LANGUAGE_DATA = ("pysource", "ptb")
AGES = ("step", "element")


@dataclass(frozen=True)
class ModelSection:
    name: str = key("resnet20", "network", choices=registry.MODELS)
    hidden: int = key(0, "width of a language model; 0 takes the network's own", low=0)
    layers: int = key(0, "depth of a language model; 0 takes the network's own", low=0)
    heads: int = key(0, "attention heads of gpt; 0 takes the network's own", low=0)
    dropout: float = key(0.0, "dropout probability", low=0.0, high=0.99)


@dataclass(frozen=True)
class DataSection:
    name: str = key("digits", "data set", choices=registry.DATASETS)
    root: str = key("data", "folder that holds the data sets which are not in every install")
    batch_size: int = key(32, "examples a worker and micro-batch", low=1)
    sequence: int = key(64, "characters or words a window, for language models", low=2)


@dataclass(frozen=True)
class ClusterSection:
    workers: int = key(4, "number of workers; must equal the ranks that mpirun starts", low=1, high=1_000_000)
    workers_per_host: int = key(1, "workers that share a host's link and cores", low=1)
    cores_per_host: int = key(1, "cores of a host, shared by its workers", low=1)
    bandwidth: float = key("1 Gbit/s", "rate of a host's link, each direction", unit="rate", above=0.0)
    latency: float = key("50 us", "one-way latency between two hosts", unit="time", low=0.0)
    local_bandwidth: float = key("5 GB/s", "rate between two workers of one host", unit="rate", above=0.0)
    local_latency: float = key("5 us", "latency between two workers of one host", unit="time", low=0.0)
    cycle_time: float = key("1 ms", "Horovod's cycle: how often it looks for ready tensors", unit="time", above=0.0)
    device: str = key("cpu-core", "device whose rate is used where no profile was measured")


@dataclass(frozen=True)
class CompressionSection:
    name: str = key("none", "compressor", choices=registry.COMPRESSORS)
    density: float = key(0.01, "share of the gradient that is sent", above=0.0, high=1.0)
    granularity: str = key("merged", "what is compressed as one vector", choices=("layer", "merged", "model"))
    merge_elements: int = key(1_000_000, "merged: neighbouring tensors are joined up to this many elements", low=1)
    exchange: str = key("auto", "how payloads travel", choices=("auto", *registry.EXCHANGES))
    wire_indices: str = key("int32", "indices on the wire: whole, or gaps of a byte or two", choices=("int32", "delta"))
    wire_values: str = key(
        "fp32", "values on the wire; bf16's rounding stays in the residual", choices=("fp32", "bf16")
    )
    bypass: str = key("off", "auto sends a bucket whole where that is cheaper on [cluster]", choices=("off", "auto"))
    error_feedback: bool = key(True, "keep what was not sent and add it to the next gradient")
    gradient_weight: float = key(1.0, "w_g: weight of gradient + residual in the new residual", low=0.0)
    memory_weight: float = key(0.0, "w_m: weight of the old residual in the new one", low=0.0)
    stages: int = key(0, "SIDCo: fixed number of fitting stages; 0 adapts it", low=0, high=32)
    first_ratio: float = key(0.25, "SIDCo: ratio of the first stage", above=0.0, high=1.0)
    adapt_every: int = key(5, "SIDCo: calls over which the achieved ratio is averaged", low=1)
    tolerance: float = key(0.2, "SIDCo: allowed relative error of the achieved ratio", above=0.0, high=1.0)
    threshold: float = key(1e-3, "threshold: entries with a magnitude above it are sent", low=0.0)
    dense_steps: int = key(0, "send everything for this many first steps", low=0)
    warmup_epochs: int = key(0, "DGC's warm-up: density^((e+1)/(E+1)) in epoch e of E", low=0)
    momentum: float = key(0.0, "DGC's momentum correction, in place of the optimizer's momentum", low=0.0, high=1.0)
    nesterov: bool = key(False, "Nesterov's form of the momentum correction")
    clip_norm: float = key(0.0, "DGC: limit of a bucket's norm, times sqrt(1/workers); 0 does not clip", low=0.0)
    threads: int = key(1, "threads a kernel may use", low=1, high=256)


@dataclass(frozen=True)
class OptimizerSection:
    name: str = key("sgd", "optimizer", choices=registry.OPTIMIZERS)
    learning_rate: float = key(0.1, "step size", above=0.0)
    momentum: float = key(0.9, "momentum of sgd", low=0.0, high=1.0)
    nesterov: bool = key(False, "Nesterov's momentum")
    lazy_decay: bool = key(False, "sparse-sgd: momentum also decays for the steps in which a coordinate was not listed")
    beta1: float = key(0.9, "adam: decay of the mean of the gradient", low=0.0, high=0.999999)
    beta2: float = key(0.999, "adam: decay of the mean of its square", low=0.0, high=0.99999999)
    epsilon: float = key(1e-8, "adam: added to the root of the mean square", above=0.0)
    age: str = key("step", "sparse-adam: bias is corrected by steps or by a coordinate's updates", choices=AGES)
    weight_decay: float = key(0.0, "L2 penalty", low=0.0)
    milestones: tuple[float, ...] = key((), "epochs after which the learning rate is multiplied by gamma")
    gamma: float = key(0.1, "factor at each milestone", above=0.0)
    warmup_epochs: float = key(0.0, "epochs of linear learning-rate warm-up", low=0.0)
    clip_norm: float = key(0.0, "limit of the global gradient norm on each worker; 0 does not clip", low=0.0)


@dataclass(frozen=True)
class SyncSection:
    policy: str = key("bsp", "synchronisation", choices=("bsp",))


@dataclass(frozen=True)
class PipelineSection:
    overlap: bool = key(True, "start a bucket's exchange while backward goes on")
    accumulation: int = key(1, "micro-batches whose gradients are summed before one exchange", low=1)


@dataclass(frozen=True)
class OffloadSection:
    """No key is known yet."""


@dataclass(frozen=True)
class CheckpointSection:
    every: int = key(0, "steps between checkpoints; 0 writes none", low=0)
    keep: int = key(2, "checkpoints kept on disk", low=1)


@dataclass(frozen=True)
class FaultsSection:
    """No key is known yet."""


@dataclass(frozen=True)
class ControlSection:
    """No key is known yet."""


@dataclass(frozen=True)
class RunSection:
    seed: int = key(1, "seed of weights, data order and random compressors", low=0, high=2**31 - 1)
    steps: int = key(0, "optimizer steps; 0 trains for `epochs`", low=0)
    epochs: int = key(1, "passes over the data, where steps = 0", low=1)
    evaluate_every: int = key(0, "steps between evaluations; 0 evaluates at the end only", low=0)


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
        return "dense" if registry.COMPRESSORS[self.compression.name].wire == "dense" else "allgather"

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
    read_section(_section_kind(section, source), {option: value}, f"{source}: [{section}]")
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
    wire = registry.COMPRESSORS[compression.name].wire
    if (experiment.exchange == "dense") != (wire == "dense"):
        raise UserError(
            f"{source}: [compression] exchange = '{compression.exchange}': '{compression.name}' has {wire} payloads; "
            f"use 'auto'"
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


def dump(experiment: Experiment) -> str:
    """The resolved experiment as TOML, every key written out; `parse` of it gives an equal Experiment."""
    lines: list[str] = []
    for section in SECTIONS:
        content = getattr(experiment, section)
        lines.append(f"[{section}]")
        for spec in dataclasses.fields(content):
            value = getattr(content, spec.name)
            unit = spec.metadata["unit"]
            plain = units.render(unit, value) if unit else list(value) if isinstance(value, tuple) else value
            lines.append(f"{spec.name} = {_toml(plain)}")
        lines.append("")
    return "\n".join(lines)


def _toml(value: Any) -> str:
    """A plain value as TOML: like JSON, but it knows no pairs of surrogates and wants DEL escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
