"""[offload]: which layers live on the device, what moves between its memory, the host's and the disk, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.errors import UserError
from toolkit.keys import key

if TYPE_CHECKING:
    from toolkit.experiment import Experiment

METHODS = ("megatron-lm", "l2l", "zero-offload", "zero-infinity", "stronghold")
IN_MEMORY = METHODS[0]
WITH_DISK = ("zero-infinity", "stronghold")


@dataclass(frozen=True)
class OffloadSection:
    method: str = key(IN_MEMORY, "who holds what; megatron-lm keeps everything on the device", choices=METHODS)
    window: int = key(0, "stronghold: layers of the working window; 0 takes the fastest that fits", low=0)
    threads: int = key(0, "stronghold: threads that fetch, write back and update; 0 takes the host's cores", low=0)
    optimizer: str = key(
        "published", "Adam on the host: as slow as the method's release, or fused", choices=("published", "fused")
    )
    precision: str = key("fp32", "of weights, activations and gradients", choices=("fp32", "bf16"))
    disk: bool = key(False, "a tier below the host's memory: zero-infinity and stronghold have one")


def check(experiment: Experiment, source: str) -> None:
    """Settings that only some methods have; UserError names file, key, value."""
    section = experiment.offload
    if section.disk and section.method not in WITH_DISK:
        raise UserError(f"{source}: [offload] disk = true: needs method {' or '.join(WITH_DISK)}, not {section.method}")


def refuse_in_training(experiment: Experiment, source: str) -> None:
    """The trainer keeps everything on the device: UserError where the file asks for something else."""
    if experiment.offload.method != IN_MEMORY:
        raise UserError(
            f"{source}: [offload] method = '{experiment.offload.method}': the trainer keeps all on the device, allowed "
            f"is {IN_MEMORY}; 'python -m simulator plan' and 'study stronghold' rehearse the others"
        )
