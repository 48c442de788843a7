"""An iteration of ZeRO-3 training on one of N equal machines, as events: what its network does, and when it idles.

Each layer's parameters are gathered before its forward and again before its backward, its gradients scattered after
it; gathers run ahead of the computation by `ahead` layers. Checkpoint chunks are transfers on the same network: planned
into its idle spans (toolkit.policies.traffic), or all at once, while training waits. Machines are alike, so one stands
for all; inside a machine the devices' links are taken as free.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from simpy import Resource
from simpy.events import AllOf, Event, Timeout

from simulator.clock import Clock
from toolkit.policies.traffic import Chunk, Span

HALF = 2  # bytes of a parameter or gradient on the wire


@dataclass(frozen=True)
class Model:
    """layers x hidden; parameters by 12 h^2 a layer (attention and a feed-forward part of four times the width)."""

    layers: int
    hidden: int

    @property
    def parameters(self) -> int:
        return 12 * self.layers * self.hidden**2


@dataclass(frozen=True)
class Machines:
    """machines: N. devices: of each. flops: that a device reaches. bandwidth: bytes/s that a machine reaches."""

    machines: int
    devices: int
    flops: float
    bandwidth: float


@dataclass(frozen=True)
class Iteration:
    """An iteration in the steady state. time, busy: of it and of its network, s. spans: in which the network idles."""

    time: float
    spans: tuple[Span, ...]
    busy: float


class _Run:
    def __init__(self, model: Model, machines: Machines, tokens: int, ahead: int) -> None:
        self.clock = Clock()
        self.network, self.device = Resource(self.clock), Resource(self.clock)
        share = model.parameters / model.layers
        self.layers, self.ahead = model.layers, ahead
        self.transfer = HALF * share * (machines.machines - 1) / machines.machines / machines.bandwidth
        self.forward = 2 * share * tokens / machines.flops
        self.backward = 3 * self.forward  # twice the forward, and the activations computed anew
        self.busy: list[tuple[float, float]] = []
        self.starts: list[float] = []

    def send(self, seconds: float) -> Generator[Event, object, None]:
        with self.network.request() as turn:
            yield turn
            began = float(self.clock.now)
            yield Timeout(self.clock, seconds)
            self.busy.append((began, float(self.clock.now)))

    def iterations(self, count: int, wait: float, chunks: Sequence[Chunk]) -> Generator[Event, object, None]:
        """wait: seconds of a blocking checkpoint before each iteration."""
        for _ in range(count):
            self.starts.append(float(self.clock.now))
            if wait:
                yield self.clock.process(self.send(wait))
            for chunk in chunks:
                self.clock.process(self.chunk(float(self.clock.now), chunk))
            yield from self.iteration()
        self.starts.append(float(self.clock.now))

    def chunk(self, origin: float, chunk: Chunk) -> Generator[Event, object, None]:
        yield self.clock.at(max(self.clock.now, origin + chunk.start))
        yield from self.send(chunk.seconds)

    def iteration(self) -> Generator[Event, object, None]:
        order = [(i, self.forward) for i in range(self.layers)]
        order += [(i, self.backward) for i in reversed(range(self.layers))]
        gathered: dict[int, Event] = {}
        scattered: list[Event] = []

        def fetch(place: int) -> None:
            if place < len(order) and place not in gathered:
                gathered[place] = self.clock.process(self.send(self.transfer))

        for place, (_, seconds) in enumerate(order):
            for near in range(place, place + self.ahead + 1):
                fetch(near)
            yield gathered[place]
            yield Timeout(self.clock, seconds)
            if place >= self.layers:
                scattered.append(self.clock.process(self.send(self.transfer)))
        yield AllOf(self.clock, scattered)


def simulate(
    model: Model,
    machines: Machines,
    tokens: int,
    *,
    ahead: int = 2,
    wait: float = 0.0,
    chunks: Sequence[Chunk] = (),
    iterations: int = 3,
) -> Iteration:
    """Iteration time and idle spans of the last of some iterations. tokens: a device and iteration.

    chunks: a checkpoint's transfers, planned within an iteration. wait: seconds of network time that a blocking
    checkpoint takes before each iteration.
    """
    run = _Run(model, machines, tokens, ahead)
    run.clock.run(until=run.clock.process(run.iterations(iterations, wait, chunks)))
    first, last = run.starts[-2:]
    spans: list[Span] = []
    end, busy = first, 0.0
    for start, stop in sorted(run.busy):
        if stop <= first or start >= last:
            continue
        if start > end:
            spans.append(Span(end - first, start - end))
        end, busy = max(end, stop), busy + min(stop, last) - max(start, first)
    if last > end:
        spans.append(Span(end - first, last - end))
    return Iteration(last - first, tuple(spans), busy)
