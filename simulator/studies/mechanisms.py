"""The mechanisms that an ablation turns off: one entry each, with what turns it off and where it acts.

A new mechanism is one line here. `on` says whether the experiment uses it; `off` the keys that take it away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from toolkit import registry
from toolkit.experiment import Experiment
from toolkit.sections.offload import IN_MEMORY

Changes = dict[str, dict[str, Any]]
TRAINING, OFFLOAD, MEMORY, CONTROL = "training", "offload", "memory", "control"
LEARNING = "acts on what is learned, not on time"


@dataclass(frozen=True)
class Mechanism:
    """A mechanism of a training run, of an offloaded iteration, of checkpoints in memory or of StellaTrain (`room`).

    on(experiment): whether it is used; off(experiment): the changes that take it away, in base units; note: said where
    its absence changes no time.
    """

    name: str
    on: Callable[[Experiment], bool]
    off: Callable[[Experiment], Changes]
    note: str = ""
    room: str = TRAINING


def room_of(experiment: Experiment) -> str:
    """What an experiment file describes, so what is simulated of it."""
    if experiment.offload.method != IN_MEMORY:
        return OFFLOAD
    if experiment.control.name != "none":
        return CONTROL
    return MEMORY if experiment.checkpoint.replicas > 1 else TRAINING


def _compresses(e: Experiment) -> bool:
    return e.compression.name != "none"


def _no_compression(e: Experiment) -> Changes:
    plain = {"name": "none", "exchange": "auto", "wire_indices": "int32", "wire_values": "fp32", "bypass": "off"}
    sparse = e.optimizer.name.startswith("sparse-")
    dense = {"optimizer": {"name": e.optimizer.name.removeprefix("sparse-"), "lazy_decay": False}} if sparse else {}
    return {"compression": plain | {"momentum": 0.0, "nesterov": False}, **dense}


def _plain_wire(e: Experiment) -> Changes:
    return {"compression": {"wire_indices": "int32", "wire_values": "fp32"}}


MECHANISMS = (
    Mechanism("compression", _compresses, _no_compression),
    Mechanism(
        "error feedback",
        lambda e: _compresses(e) and e.compression.error_feedback,
        lambda e: {"compression": {"error_feedback": False, "momentum": 0.0, "nesterov": False}},
        LEARNING,
    ),
    Mechanism(
        "momentum correction",
        lambda e: e.compression.momentum > 0,
        lambda e: {"compression": {"momentum": 0.0, "nesterov": False}},
        LEARNING,
    ),
    Mechanism(
        "dense first steps and density warm-up",
        lambda e: _compresses(e) and (e.compression.dense_steps > 0 or e.compression.warmup_epochs > 0),
        lambda e: {"compression": {"dense_steps": 0, "warmup_epochs": 0}},
    ),
    Mechanism(
        "merging of tensors",
        lambda e: e.compression.granularity != "layer",
        lambda e: {"compression": {"granularity": "layer"}},
    ),
    Mechanism(
        "special exchange",
        lambda e: e.compression.exchange not in ("auto", *registry.exchanges_of(e.compression.name)[:1]),
        lambda e: {"compression": {"exchange": "auto"}},
    ),
    Mechanism(
        "packed wire",
        lambda e: (e.compression.wire_indices, e.compression.wire_values) != ("int32", "fp32"),
        _plain_wire,
    ),
    Mechanism("bypass", lambda e: e.compression.bypass != "off", lambda e: {"compression": {"bypass": "off"}}),
    Mechanism("overlap", lambda e: e.pipeline.overlap, lambda e: {"pipeline": {"overlap": False}}),
    Mechanism("accumulation", lambda e: e.pipeline.accumulation > 1, lambda e: {"pipeline": {"accumulation": 1}}),
    Mechanism(
        "sparse optimizer",
        lambda e: e.optimizer.name.startswith("sparse-"),
        lambda e: {"optimizer": {"name": e.optimizer.name.removeprefix("sparse-"), "lazy_decay": False}},
    ),
    Mechanism(
        "staleness",
        lambda e: e.sync.policy != "bsp",
        lambda e: {"sync": {"policy": "bsp", "online": "none"}},
    ),
    Mechanism(
        "online policy", lambda e: e.sync.online not in ("none", "baseline"), lambda e: {"sync": {"online": "none"}}
    ),
    Mechanism("checkpoints on disk", lambda e: e.checkpoint.every > 0, lambda e: {"checkpoint": {"every": 0}}),
    Mechanism(
        "interleaving of checkpoint traffic",
        lambda e: e.checkpoint.traffic == "interleaved",
        lambda e: {"checkpoint": {"traffic": "blocking"}},
        room=MEMORY,
    ),
    Mechanism(
        "working window",
        lambda e: e.offload.method == "stronghold" and e.offload.window != 1,
        lambda e: {"offload": {"window": 1}},
        room=OFFLOAD,
    ),
    Mechanism(
        "concurrent updates",
        lambda e: e.offload.method == "stronghold" and e.offload.threads != 1,
        lambda e: {"offload": {"threads": 1}},
        room=OFFLOAD,
    ),
    Mechanism(
        "fused Adam on the host",
        lambda e: e.offload.optimizer == "fused",
        lambda e: {"offload": {"optimizer": "published"}},
        room=OFFLOAD,
    ),
    Mechanism(
        "stragglers and slow links",
        lambda e: bool(e.faults.slow_worker or e.faults.slow_link),
        lambda e: {"faults": {"slow_worker": [], "slow_link": []}},
    ),
    Mechanism(
        "adaptation to the network",
        lambda e: e.control.name != "none",
        lambda e: {"control": {"name": "none"}},
        room=CONTROL,
    ),
    Mechanism(
        "cache-aware selection",
        lambda e: e.compression.name == "thresholdv16",
        lambda e: {"compression": {"name": "topk"}},
        room=CONTROL,
    ),
    Mechanism(
        "sparse optimizer on the CPU",
        lambda e: e.optimizer.name.startswith("sparse-"),
        lambda e: {"optimizer": {"name": e.optimizer.name.removeprefix("sparse-"), "lazy_decay": False}},
        room=CONTROL,
    ),
)
