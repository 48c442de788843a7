"""[checkpoint]: what is saved, how often, where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.errors import UserError
from toolkit.keys import key
from toolkit.policies.placement import PLACEMENTS, Placement
from toolkit.policies.traffic import MODES

if TYPE_CHECKING:
    from toolkit.experiment import Experiment


@dataclass(frozen=True)
class CheckpointSection:
    every: int = key(0, "steps between checkpoints on disk; 0 writes none", low=0)
    keep: int = key(2, "checkpoints kept on disk", low=1)
    replicas: int = key(1, "copies of a machine's shard in memory, its own counted; simulated only", low=1)
    placement: str = key("mixed", "which machines keep the copies", choices=PLACEMENTS)
    memory_every: int = key(1, "steps between checkpoints in memory, where replicas > 1", low=1)
    traffic: str = key("interleaved", "copies travel in idle spans, at once, or not at all", choices=MODES)
    buffer: float = key("128 MiB", "device memory that receives copies", unit="size", low=1.0)
    sub_buffers: int = key(4, "parts of it: one receives while another is copied to the host", low=1, high=1024)
    span_share: float = key(0.8, "gamma: share of an idle span that may be filled", above=0.0, high=1.0)
    storage_every: float = key("3 h", "time between checkpoints on persistent storage", unit="time", above=0.0)
    storage_bandwidth: float = key("20 Gbit/s", "rate of the storage, all machines together", unit="rate", above=0.0)


def check(experiment: Experiment, source: str) -> None:
    """The copies can be placed on the cluster's hosts; UserError names file, key, value."""
    section = experiment.checkpoint
    if section.replicas == 1:
        return
    if text := Placement.problem(section.placement, experiment.cluster.hosts, section.replicas):
        raise UserError(f"{source}: [checkpoint] replicas = {section.replicas}: {text}")
