"""Break-even: whether a bucket travels cheaper whole than as a list of coordinates.

Seconds of one exchange among P workers, with α the latency of a message and β the seconds of a byte on a worker's link:

  dense      2 α (P-1) + 2 (P-1)/P n·4 β      ring allreduce of n float32
  allgather  α log2 P + (P-1) k·e β           k entries of e bytes from everybody
  gtopk      α r + k·e r β                    r = log2 P rounds of k entries, two more beyond a power of two (the
                                              paper's tree and broadcast take 2 α log2 P and 2 k·e log2 P β)
  oktopk     4 α + 3 (P-1)/P k·e β            regions, reduce, quotas, allgather; at most, with one more α to even out

At e = 8 and no latency an allgather pays below δ = 1/P. The rule knows what is planned, never what was selected, so
that all workers decide alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from toolkit import registry
from toolkit.experiment import Experiment

INDEX_BYTES = {"int32": 4.0, "delta": 2.0}
VALUE_BYTES = {"fp32": 4.0, "bf16": 2.0}


@dataclass(frozen=True)
class Network:
    """workers P, latency α in seconds, bandwidth 1/β of a worker's link in bytes/s."""

    workers: int
    latency: float
    bandwidth: float

    def seconds(self, messages: float, size: float) -> float:
        """Messages one after the other, and bytes through one link."""
        return messages * self.latency + size / self.bandwidth


def dense(network: Network, elements: int) -> float:
    """Ring allreduce of float32 (elements,), in seconds."""
    others = network.workers - 1
    return network.seconds(2 * others, 2 * others / network.workers * elements * 4)


def allgather(network: Network, payload: float) -> float:
    """`payload` bytes from each worker to each other, in seconds."""
    return network.seconds(math.log2(network.workers), (network.workers - 1) * payload)


def gtopk(network: Network, payload: float) -> float:
    rounds = network.workers.bit_length() - 1
    if network.workers > 1 << rounds:
        rounds += 2
    return network.seconds(rounds, rounds * payload)


def oktopk(network: Network, payload: float) -> float:
    share = (network.workers - 1) / network.workers
    return network.seconds(4 if network.workers > 1 else 0, 3 * share * payload)


SPARSE: dict[str, Callable[[Network, float], float]] = {"allgather": allgather, "gtopk": gtopk, "oktopk": oktopk}


@dataclass(frozen=True)
class Bypass:
    """The decision for one experiment. entry_bytes: an index and a value on the wire."""

    network: Network
    exchange: str
    entry_bytes: float
    automatic: bool

    @classmethod
    def of(cls, experiment: Experiment) -> Bypass:
        section, cluster = experiment.compression, experiment.cluster
        network = Network(cluster.workers, cluster.latency, cluster.bandwidth)
        entry = INDEX_BYTES[section.wire_indices] + VALUE_BYTES[section.wire_values]
        automatic = section.bypass == "auto" and registry.COMPRESSORS[section.name].wire == "sparse"
        return cls(network, experiment.exchange, entry, automatic)

    def dense(self, elements: int, density: float) -> bool:
        """Whether a bucket goes dense in a step of this density: always at 1, where a list would only add indices."""
        if density >= 1.0:
            return True
        if not self.automatic or self.exchange not in SPARSE:
            return False
        payload = max(1, int(elements * density)) * self.entry_bytes
        return dense(self.network, elements) <= SPARSE[self.exchange](self.network, payload)
