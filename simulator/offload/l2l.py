"""l2l (Pudipeddi et al., 2020): one layer at a time on the device, weights and optimizer on the host.

As STRONGHOLD's artifact has it: copies are synchronous and out of pageable memory, gradients stay on the device until
the step, and the step runs on the CPU after all gradients have come down.
"""

from __future__ import annotations

from simulator.offload.job import Job
from simulator.offload.tiers import Tiers, Work


def iteration(job: Job, tiers: Tiers) -> Work:
    """Each layer in, computed, out; in backward the same again; then the step."""
    compute, layers = tiers.compute, job.layers
    for i in range(layers):
        yield from _fetch(job, tiers, i, backward=False)
        tiers.device.take(job.model.checkpoint_bytes)
        yield from compute.hold("forward", i, job.forward_s)
        yield from _write_back(job, tiers, i, backward=False)
    yield from compute.hold("head", layers, 3 * job.head_s)
    for i in reversed(range(layers)):
        yield from _fetch(job, tiers, i, backward=True)
        yield from compute.hold("recompute", i, job.forward_s)
        yield from compute.hold("backward", i, 2 * job.forward_s)
        tiers.device.give(job.model.checkpoint_bytes)
        yield from _write_back(job, tiers, i, backward=True)
    for unit in range(layers + 1):
        yield from tiers.to_host.move("gradients", unit, job.bytes_of(unit))
    for unit in range(layers + 1):
        yield from tiers.cpu.run("update", unit, job.cpu_s(unit))


def _rate(job: Job, backward: bool) -> float:
    copying = job.release.copying
    assert copying is not None
    return copying.backward if backward else copying.forward


def _fetch(job: Job, tiers: Tiers, layer: int, *, backward: bool) -> Work:
    size = job.bytes_of(layer)
    tiers.device.take(size)
    rate = min(_rate(job, backward), tiers.to_device.rate)
    yield from tiers.to_device.server.hold("fetch", layer, size / rate, size)


def _write_back(job: Job, tiers: Tiers, layer: int, *, backward: bool) -> Work:
    size = job.bytes_of(layer)
    rate = min(_rate(job, backward), tiers.to_host.rate)
    yield from tiers.to_host.server.hold("write back", layer, size / rate, size)
    tiers.device.give(size)
