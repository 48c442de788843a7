"""What a method keeps on device, host and disk: bytes by what they hold, and the tier that binds.

The device's parts follow from the method; the copies of the logits in its workspace are calibrated (calibration.py).
Byte counts of hosts that no log shows are named where they stand.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from simulator.offload.calibration import MIB, ZERO_OFFLOAD_RESERVED, P
from simulator.offload.job import Job
from simulator.offload.transformer import MOMENTS

MOVING = ("checkpoints", "buffers", "one layer", "a layer and the embedding")  # what schedules take and give
MASTER = 4  # bytes of the fp32 weights that bf16 training keeps


@dataclass
class Footprint:
    """Bytes by name, of each tier; `start`: what the release holds on the device before the first iteration."""

    device: dict[str, float] = field(default_factory=dict)
    host: dict[str, float] = field(default_factory=dict)
    disk: dict[str, float] = field(default_factory=dict)
    start: dict[str, float] = field(default_factory=dict)

    def parts(self, tier: str) -> dict[str, float]:
        """What fills a tier when it is fullest."""
        found: dict[str, float] = getattr(self, tier)
        return max(found, self.start, key=lambda parts: sum(parts.values())) if tier == "device" else found

    def total(self, tier: str) -> float:
        return sum(self.parts(tier).values())

    def fixed(self) -> float:
        """Bytes of the device that stay through an iteration; a schedule takes and gives the others itself."""
        return sum(size for name, size in self.device.items() if name not in MOVING)

    def over(self, budget: dict[str, float]) -> str:
        """The first tier that does not hold it, "" where all do."""
        return next((tier for tier in ("device", "host", "disk") if self.total(tier) > budget[tier]), "")


def _activations(job: Job) -> dict[str, float]:
    model = job.model
    return {
        "checkpoints": model.layers * model.checkpoint_bytes,
        "workspace": model.working_bytes + job.release.logits * model.logits_bytes,
    }


def _state(job: Job) -> int:
    """Bytes of optimizer state a parameter, the fp32 weights of bf16 training with it."""
    return MOMENTS + (MASTER if job.model.value_bytes == 2 else 0)


def in_memory(job: Job) -> Footprint:
    """Weights, gradients and moments of everything on the device."""
    model = job.model
    both = 2.0 * model.value_bytes * model.parameters
    return Footprint(
        {"weights and gradients": both, "moments": float(_state(job) * model.parameters)} | _activations(job)
    )


def l2l(job: Job) -> Footprint:
    """Gradients, one layer and the embedding; at the start the release holds gradients twice, and that may be more.

    Host: weights, gradients, their copy for the step, two moments and the update's temporary: six copies. No log shows
    the host; at 78 layers this is all of its memory, and the logged run was killed there after ten iterations.
    """
    model = job.model
    gradients = float(model.value_bytes * model.parameters)
    resident = {"one layer": model.layer_bytes, "embedding": model.other_bytes}
    training = {"gradients": gradients} | resident | _activations(job)
    start = {"gradients, twice": 2 * gradients} | resident
    host = {"weights, gradients, copy, temporary": 4.0 * model.value_bytes * model.parameters}
    host |= {"moments": float(_state(job) * model.parameters)}
    return Footprint(training, host, start=start)


def zero_offload(job: Job) -> Footprint:
    """Weights and activations; at the start three copies of the weights, which the allocator keeps.

    Reserved memory in the logs is 12 bytes a parameter and a constant, far above what training allocates.
    """
    model = job.model
    weights = float(model.value_bytes * model.parameters)
    training = {"weights": weights} | _activations(job)
    constant = ZERO_OFFLOAD_RESERVED * MIB - 12 * P
    start = {"weights, three copies": 3 * weights, "reserved besides": constant}
    host = {"weights and gradients": 2.0 * 4 * model.parameters, "moments": float(MOMENTS * model.parameters)}
    return Footprint(training, host, start=start)


def zero_infinity(job: Job) -> Footprint:
    """One layer and the embedding, activations.

    Host: 32 bytes a parameter: weights, gradients and moments (16), and as much again in page-locked buffers. No log
    shows it; it is the one that the largest published model implies, so that size is no prediction.
    """
    model = job.model
    device = {"a layer and the embedding": 2 * (model.layer_bytes + model.other_bytes)} | _activations(job)
    state = float((2 * model.value_bytes + _state(job)) * model.parameters)
    if job.settings.disk:
        staged = job.settings.threads * (job.moments_of(0) + model.layer_bytes)
        gradients = float(model.value_bytes * model.parameters)
        return Footprint(
            device, {"gradients": gradients, "staging": staged}, {"weights and moments": state - gradients}
        )
    return Footprint(device, {"weights, gradients, moments": state, "page-locked buffers": state})


def stronghold(job: Job) -> Footprint:
    """2w buffers of a layer and the moments of w of them; the embedding with its moments.

    Host: weights and gradients of all layers, page-locked, moments of those beyond the window. With a disk only 2w
    layers and one for each thread are staged there.
    """
    model, window = job.model, job.window
    buffers = min(2 * window, job.layers)
    per_parameter = 2 * model.value_bytes + _state(job)
    device = {
        "embedding and its moments": float(per_parameter * model.other_parameters),
        "buffers": buffers * 2 * model.layer_bytes,
        "moments of the window": window * job.moments_of(0),
    } | _activations(job)
    beyond = job.layers - window
    if job.settings.disk:
        staged = (buffers * 2 + job.settings.threads * 2) * model.pinned_layer_bytes
        host = {"staged layers": staged, "staged moments": job.settings.threads * job.moments_of(0)}
        on_disk = job.layers * model.layer_bytes + beyond * job.moments_of(0)
        return Footprint(device, host, {"weights and moments": on_disk})
    pinned = 2 * job.layers * model.pinned_layer_bytes
    return Footprint(device, {"weights and gradients": pinned, "moments": beyond * job.moments_of(0)})
