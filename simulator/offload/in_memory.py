"""megatron-lm: everything stays on the device."""

from __future__ import annotations

from simulator.offload.job import Job
from simulator.offload.tiers import Tiers, Work


def iteration(job: Job, tiers: Tiers) -> Work:
    """Forward, backward with recomputation, Adam on the device."""
    compute, layers = tiers.compute, job.layers
    for i in range(layers):
        tiers.device.take(job.model.checkpoint_bytes)
        yield from compute.hold("forward", i, job.forward_s)
    yield from compute.hold("head", layers, 3 * job.head_s)
    for i in reversed(range(layers)):
        yield from compute.hold("recompute", i, job.forward_s)
        yield from compute.hold("backward", i, 2 * job.forward_s)
        tiers.device.give(job.model.checkpoint_bytes)
    for unit in range(layers + 1):
        yield from compute.hold("update", unit, job.device_s(unit))
