"""What a method keeps on device, host and disk: bytes by what they hold, and the tier that binds.

The device's parts follow from the method; its workspace and what its allocator keeps are calibrated (calibration.py).
The host's are counted from what the releases keep there: the artifact's configuration files and sources (its
repository sc22-ae), and DeepSpeed 0.5.7, whose logs of 32 layers confirm the weights' 4 bytes a parameter. Two of the
largest published models are smaller than what can be counted: SETTLED is what they imply, and `counted` leaves it out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from simulator.offload.job import Job
from simulator.offload.transformer import MOMENTS

MOVING = ("checkpoints", "buffers", "one layer", "a layer and the embedding")  # what schedules take and give
MASTER = 4  # bytes of the fp32 weights that bf16 training keeps
CPU_ADAM = (
    2 * 4 * 128 * 2.0**20
)  # page-locked buffers of DeepSpeed's Adam on the CPU: two of 128 Mi floats (cpu_adam.h)
SETTLED = {  # bytes a parameter of the host beside what is counted
    "l2l": 7.8,  # 78 layers fill the host: the logged run was killed there after ten iterations
    "zero-infinity": 8.0,  # 48 layers are the largest published model
}


@dataclass
class Footprint:
    """Bytes by name, of each tier, when it is fullest."""

    device: dict[str, float] = field(default_factory=dict)
    host: dict[str, float] = field(default_factory=dict)
    disk: dict[str, float] = field(default_factory=dict)

    def parts(self, tier: str) -> dict[str, float]:
        found: dict[str, float] = getattr(self, tier)
        return found

    def total(self, tier: str) -> float:
        return sum(self.parts(tier).values())

    def fixed(self) -> float:
        """Bytes of the device that stay through an iteration; a schedule takes and gives the others itself."""
        return sum(size for name, size in self.device.items() if name not in MOVING)

    def over(self, budget: dict[str, float]) -> str:
        """The first tier that does not hold it, "" where all do."""
        return next((tier for tier in ("device", "host", "disk") if self.total(tier) > budget[tier]), "")


def _settled(job: Job) -> dict[str, float]:
    """What the largest published model implies beside what is counted."""
    each = SETTLED[job.settings.method]
    return {} if job.settings.counted else {"settled": each * job.model.parameters}


def _kept(job: Job) -> dict[str, float]:
    """What the allocator keeps on the device of the layers' weights."""
    return {"kept by the allocator": job.release.kept * job.layers * job.model.layer_bytes}


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
    state = {"weights and gradients": both, "moments": float(_state(job) * model.parameters)}
    return Footprint(state | _activations(job) | _kept(job))


def l2l(job: Job) -> Footprint:
    """Gradients (a contiguous buffer), one layer and the embedding.

    Host: weights, the gradients' copy for the step and two moments, 16 bytes a parameter in fp32, and the buffers of
    its Adam. That is two thirds of the host where the published run was killed.
    """
    model = job.model
    gradients = float(model.value_bytes * model.parameters)
    device = {"gradients": gradients, "one layer": model.layer_bytes, "embedding": model.other_bytes}
    host = {"weights and gradients": 2 * gradients, "moments": float(_state(job) * model.parameters)}
    return Footprint(device | _activations(job) | _kept(job), host | {"Adam's buffers": CPU_ADAM} | _settled(job))


def zero_offload(job: Job) -> Footprint:
    """Weights and activations. Host: fp32 weights, gradients and moments, 16 bytes a parameter (Ren et al., 2021)."""
    model = job.model
    device = {"weights": float(model.value_bytes * model.parameters)}
    host = {"weights and gradients": 2.0 * 4 * model.parameters, "moments": float(MOMENTS * model.parameters)}
    return Footprint(device | _activations(job) | _kept(job), host)


def zero_infinity(job: Job) -> Footprint:
    """One layer and the embedding, activations.

    Host: weights as they were built and in the flat buffer that replaces them (page-locked both, and PyTorch gives no
    page-locked memory back), their fp32 copy for the update, fp32 gradients, two moments: 24 bytes a parameter in fp32.
    """
    model = job.model
    device = {"a layer and the embedding": 2 * (model.layer_bytes + model.other_bytes)} | _activations(job)
    weights, gradients = (float(model.value_bytes * model.parameters),) * 2
    state = weights + float(_state(job) * model.parameters)
    if job.settings.disk:
        staged = job.settings.threads * (job.moments_of(0) + model.layer_bytes)
        return Footprint(device, {"gradients": gradients, "staging": staged}, {"weights and moments": state})
    host = {"weights, twice": 2 * weights, "fp32 weights and gradients": 2.0 * MASTER * model.parameters}
    return Footprint(device, host | {"moments": float(MOMENTS * model.parameters)} | _settled(job))


def stronghold(job: Job) -> Footprint:
    """2w buffers of a layer and the moments of w of them; the embedding with its moments.

    Host: weights and gradients of all layers, page-locked, moments of those beyond the window, the buffers of Adam.
    With a disk only 2w layers and one for each thread are staged there.
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
        staged = (buffers * 2 + job.settings.threads * 2) * model.layer_bytes
        host = {"staged layers": staged, "staged moments": job.settings.threads * job.moments_of(0)}
        on_disk = job.layers * model.layer_bytes + beyond * job.moments_of(0)
        return Footprint(device, host | {"Adam's buffers": CPU_ADAM}, {"weights and moments": on_disk})
    host = {"weights and gradients": 2 * job.layers * model.layer_bytes, "moments": beyond * job.moments_of(0)}
    return Footprint(device, host | {"Adam's buffers": CPU_ADAM})
