"""stronghold (Sun et al., SC 2022): a working window of layers on the device, the others on the host (or disk).

The first w layers have their optimizer on the device. Forward of layer i prefetches i+w and writes i back; i+w waits
for both. Backward of i prefetches i-w; afterwards a thread of the pool writes weights and gradients of i back and
updates them on the CPU, and the gradients of layer i-w wait for that update (its recomputation needs weights alone).
The device has room for 2w layers, in buffers that are used again; a fetch waits for a free one.

The release drops global clipping. Where it is wanted no update can begin before the last gradient is there: gradients
are written back as before, and all updates follow the backward.
"""

from __future__ import annotations

import simpy
from simpy.events import Event

from simulator.offload.job import Job
from simulator.offload.tiers import Tiers, Work


def iteration(job: Job, tiers: Tiers) -> Work:
    """From layers 0 to w-1 on the device to the same, all updates done."""
    yield from _Window(job, tiers).iteration()


class _Window:
    """arrived[i], updated[i], written[i]: events that work on layer i waits for."""

    def __init__(self, job: Job, tiers: Tiers) -> None:
        self.job, self.tiers = job, tiers
        self.window, self.layers = job.window, job.layers
        self.slot = 2 * job.model.layer_bytes  # weights and gradients
        buffers = min(2 * self.window, self.layers)
        self.free = simpy.Container(tiers.clock, capacity=buffers, init=buffers - self.window)
        tiers.device.take(self.window * self.slot)
        self.arrived: dict[int, Event] = {}
        self.written: dict[int, Event] = {}
        self.updated: dict[int, Event] = {}

    def iteration(self) -> Work:
        for i in range(self.layers):
            yield from self._forward(i)
        yield from self.tiers.compute.hold("head", self.layers, 3 * self.job.head_s)
        for i in reversed(range(self.layers)):
            yield from self._backward(i)
        if self.job.settings.clipped:
            yield from self._late_updates()
        yield from self.tiers.compute.hold("update", self.layers, self.job.device_s(self.layers))
        yield self.tiers.all_of([*self.arrived.values(), *self.written.values(), *self.updated.values()])
        self.tiers.device.give(self.window * self.slot)

    def _forward(self, i: int) -> Work:
        job, tiers = self.job, self.tiers
        yield from self._wait(self.arrived, i)
        yield from self._wait(self.written, i - self.window)
        if i + self.window < self.layers:
            self.arrived[i + self.window] = tiers.task(self._fetch(i + self.window))
        tiers.device.take(job.model.checkpoint_bytes)
        yield from tiers.compute.hold("forward", i, job.forward_s)
        if i + self.window < self.layers:
            self.written[i] = tiers.task(self._write_back(i))

    def _backward(self, i: int) -> Work:
        job, tiers = self.job, self.tiers
        yield from self._wait(self.arrived, i)
        if i >= self.window:
            self.arrived[i - self.window] = tiers.task(self._fetch(i - self.window))
        yield from tiers.compute.hold("recompute", i, job.forward_s)
        yield from self._wait(self.updated, i + self.window)
        yield from tiers.compute.hold("backward", i, 2 * job.forward_s)
        tiers.device.give(job.model.checkpoint_bytes)
        if i >= self.window:
            self.updated[i] = tiers.task(self._write_gradients(i) if job.settings.clipped else self._update(i))
        elif not job.settings.clipped:
            yield from tiers.compute.hold("update", i, job.device_s(i))

    def _late_updates(self) -> Work:
        """Updates that waited for the norm: all gradients are where they are needed first."""
        yield self.tiers.all_of(self.updated.values())
        beyond = reversed(range(self.window, self.layers))
        self.updated |= {i: self.tiers.task(self._adam(i)) for i in beyond}
        for i in range(self.window):
            yield from self.tiers.compute.hold("update", i, self.job.device_s(i))

    @staticmethod
    def _wait(events: dict[int, Event], layer: int) -> Work:
        if layer in events:
            yield events.pop(layer)

    def _fetch(self, i: int) -> Work:
        yield self.free.get(1)
        self.tiers.device.take(self.slot)
        if self.job.settings.disk:
            yield from self.tiers.disk_read.move("fetch", i, self.job.bytes_of(i))
        yield from self.tiers.to_device.move("fetch", i, self.job.bytes_of(i))

    def _release(self) -> Work:
        self.tiers.device.give(self.slot)
        yield self.free.put(1)

    def _write_back(self, i: int) -> Work:
        """After forward: the weights, as the release does, though nothing has changed them; a disk keeps its copy."""
        if not self.job.settings.disk:
            yield from self.tiers.to_host.move("write back", i, self.job.bytes_of(i))
        yield from self._release()

    def _update(self, i: int) -> Work:
        """After backward: to the host, and updated there."""
        yield from self._write_gradients(i)
        yield from self._adam(i)

    def _write_gradients(self, i: int) -> Work:
        """Weights and gradients to the host; then the buffer is free again."""
        yield from self.tiers.to_host.move("write back", i, 2 * self.job.bytes_of(i))
        yield from self._release()

    def _adam(self, i: int) -> Work:
        job, tiers = self.job, self.tiers
        if job.settings.disk:
            yield from tiers.disk_read.move("moments", i, job.moments_of(i))
        yield from tiers.cpu.run("update", i, job.cpu_s(i))
        if job.settings.disk:
            yield from tiers.disk_write.move("state", i, job.bytes_of(i) + job.moments_of(i))
