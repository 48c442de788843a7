"""StellaTrain's pipeline on one node, as events: a layer's gradient goes through copy, compression, exchange, update.

After a layer's backward a chain of tasks runs: device to host, compress on the CPU, exchange on the network, update on
the CPU, host to device; then the layer has a new version. Each resource takes its waiting tasks by 1000 iteration +
layer, the smallest first (or as they come). Forward of a layer in iteration i waits for its version i - staleness:
with staleness 1 the exchange of an iteration hides behind the computation of the next (SIGCOMM 2024, section 4).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from simpy import PriorityResource
from simpy.events import Event, Timeout

from simulator.clock import Clock

WARM_UP = 5  # iterations before the steady state


@dataclass(frozen=True)
class Stages:
    """Seconds of one layer's stages."""

    forward: float
    backward: float
    to_host: float
    compress: float
    exchange: float
    update: float
    to_device: float


@dataclass(frozen=True)
class Rules:
    """staleness: versions that a forward may be behind. by_priority: tasks by iteration and layer, else as they come.

    cores: of the CPU that compress and update; each task takes one.
    """

    staleness: int = 1
    by_priority: bool = True
    cores: int = 1


class Pipeline:
    """Create it with the layers, in forward order, and the rules; call `iteration_s` once."""

    def __init__(self, layers: Sequence[Stages], rules: Rules) -> None:
        self.layers, self.rules, self.clock = layers, rules, Clock()
        self.to_host, self.to_device, self.network = (PriorityResource(self.clock) for _ in range(3))
        self.cpu = PriorityResource(self.clock, rules.cores)
        self.version = [0] * len(layers)
        self.updated = [self.clock.event() for _ in layers]
        self.starts: list[float] = []

    def iteration_s(self, iterations: int = 20) -> float:
        """Mean time of an iteration once the pipeline is full, s."""
        self.clock.run(until=self.clock.process(self._device(iterations + WARM_UP + 1)))
        return (self.starts[-1] - self.starts[WARM_UP]) / iterations

    def _device(self, iterations: int) -> Generator[Event, object, None]:
        for number in range(iterations):
            self.starts.append(float(self.clock.now))
            for place, layer in enumerate(self.layers):
                while self.version[place] < number - self.rules.staleness:
                    yield self.updated[place]
                yield Timeout(self.clock, layer.forward)
            for place in reversed(range(len(self.layers))):
                yield Timeout(self.clock, self.layers[place].backward)
                self.clock.process(self._chain(number, place))

    def _chain(self, number: int, place: int) -> Generator[Event, object, None]:
        layer = self.layers[place]
        priority = 1000 * number + place if self.rules.by_priority else 0
        for resource, seconds in (
            (self.to_host, layer.to_host),
            (self.cpu, layer.compress),
            (self.network, layer.exchange),
            (self.cpu, layer.update),
            (self.to_device, layer.to_device),
        ):
            with resource.request(priority=priority) as turn:
                yield turn
                yield Timeout(self.clock, seconds)
        self.version[place] += 1
        self.updated[place].succeed()
        self.updated[place] = self.clock.event()


def even(layers: int, whole: Stages) -> list[Stages]:
    """A network of equal layers that take `whole` together."""
    return [Stages(*(value / layers for value in vars(whole).values()))] * layers
