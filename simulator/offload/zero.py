"""zero-offload (Ren et al., 2021) and zero-infinity (Rajbhandari et al., 2021), as DeepSpeed's release runs them.

The logs of STRONGHOLD's artifact show no overlap of transfers with compute on one device: a layer's transfer stands
beside its compute, not behind it. The unit after the last layer is the embedding, which the output layer shares.
"""

from __future__ import annotations

from simulator.offload.job import Job
from simulator.offload.tiers import Tiers, Work


def offload(job: Job, tiers: Tiers) -> Work:
    """Weights on the device; gradients go to the host, which updates and sends the weights back."""
    for i in range(job.layers):
        tiers.device.take(job.model.checkpoint_bytes)
        yield from tiers.compute.hold("forward", i, job.forward_s)
    yield from tiers.compute.hold("head", job.layers, 3 * job.head_s)
    yield from tiers.to_host.move("gradients", job.layers, job.bytes_of(job.layers))
    for i in reversed(range(job.layers)):
        yield from _backward(job, tiers, i)
        yield from tiers.to_host.move("gradients", i, job.bytes_of(i))
    for unit in range(job.layers + 1):
        yield from tiers.cpu.run("update", unit, job.cpu_s(unit))
    for unit in range(job.layers + 1):
        yield from tiers.to_device.move("weights", unit, job.bytes_of(unit))


def infinity(job: Job, tiers: Tiers) -> Work:
    """Weights on the host (or disk) too: fetched for forward, dropped, fetched again for backward."""
    other = job.layers
    yield from _fetch(job, tiers, other)
    for i in range(job.layers):
        yield from _fetch(job, tiers, i)
        tiers.device.take(job.model.checkpoint_bytes)
        yield from tiers.compute.hold("forward", i, job.forward_s)
        tiers.device.give(job.bytes_of(i))
    yield from tiers.compute.hold("head", other, job.head_s)
    tiers.device.give(job.bytes_of(other))
    yield from _fetch(job, tiers, other, gap=True)
    yield from tiers.compute.hold("head backward", other, 2 * job.head_s)
    yield from _gradients(job, tiers, other)
    for i in reversed(range(job.layers)):
        yield from _fetch(job, tiers, i, gap=True)
        yield from _backward(job, tiers, i)
        yield from _gradients(job, tiers, i)
    steps = [tiers.start(_step(job, tiers, unit)) for unit in range(job.layers + 1)]
    yield tiers.all_of(steps)


def _backward(job: Job, tiers: Tiers, layer: int) -> Work:
    yield from tiers.compute.hold("recompute", layer, job.forward_s)
    yield from tiers.compute.hold("backward", layer, 2 * job.forward_s)
    tiers.device.give(job.model.checkpoint_bytes)


def _fetch(job: Job, tiers: Tiers, unit: int, *, gap: bool = False) -> Work:
    size = job.bytes_of(unit)
    tiers.device.take(size)
    if gap:
        yield tiers.clock.timeout(job.release.gap_s)
    if job.settings.disk:
        yield from tiers.disk_read.move("fetch", unit, size)
    yield from tiers.to_device.move("fetch", unit, size)


def _gradients(job: Job, tiers: Tiers, unit: int) -> Work:
    """A unit's gradients to the host; its weights are dropped."""
    size = job.bytes_of(unit)
    tiers.device.take(size)
    yield from tiers.to_host.move("gradients", unit, size)
    tiers.device.give(2 * size)


def _step(job: Job, tiers: Tiers, unit: int) -> Work:
    """One unit's update; with a disk its weights and moments come from there and go back, in a pipeline."""
    state = job.bytes_of(unit) + job.moments_of(unit)
    with tiers.pool.request() as buffer:
        yield buffer
        if job.settings.disk:
            yield from tiers.disk_read.move("state", unit, state)
        yield from tiers.cpu.run("update", unit, job.cpu_s(unit))
        if job.settings.disk:
            yield from tiers.disk_write.move("state", unit, state)
