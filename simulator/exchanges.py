"""How each bucket travels in a step, with the bytes that the trainer's trace says: one `Way` a bucket.

Horovod's thread carries allreduces and allgathers. Lists that select again on their way (gTop-k, Ok-Topk) go from rank
to rank while the workers wait for them; payloads of several rounds (PowerSGD) launch the later ones there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator import collectives
from simulator.profile import Layer
from simulator.timing import LISTS
from toolkit import registry
from toolkit.experiment import Experiment
from toolkit.policies.bypass import Bypass
from toolkit.policies.lowrank import pieces
from toolkit.policies.wiresize import VALUE_BYTES, list_bytes


@dataclass(frozen=True)
class Way:
    """How one bucket travels.

    kind, sizes: as simulator.timing.Timing takes them. again: sizes of a second allreduce, launched in the wait. whole:
    whether every element is sent. entries: values of one worker. payload: bytes of a worker's compressed bucket; empty:
    those of a worker without examples. sent: bytes that each worker hands to the network, (workers,). merged: entries
    that a worker reads to merge. exact: whether sizes are the same in every step.
    """

    kind: str
    sizes: tuple[float, ...]
    whole: bool
    entries: int
    payload: int
    empty: int
    sent: NDArray[np.int64]
    merged: int
    again: tuple[float, ...] = ()
    exact: bool = True

    @property
    def in_wait(self) -> bool:
        """Whether the workers themselves carry it, while they wait for it."""
        return self.kind in LISTS


class Ways:
    """The ways of one experiment. achieved: entries that a compressor takes over those that were wanted."""

    def __init__(self, experiment: Experiment, achieved: float, merge_s: float) -> None:
        self.section = experiment.compression
        self.entry = registry.COMPRESSORS[self.section.name]
        self.exchange = experiment.exchange
        self.bypass = Bypass.of(experiment)
        self.achieved = 1.0 if self.entry.exact_count else achieved
        self.merge_s = merge_s  # seconds that an entry costs a rank which merges lists on the way

    def of(self, layers: Sequence[Layer], density: float, busy: NDArray[np.bool_]) -> Way:
        """The way of a bucket of `layers` in a step; busy: which workers have examples, (workers,)."""
        elements = sum(layer.elements for layer in layers)
        if self.bypass.dense(elements, density):  # at density 1 too: then whatever the compressor
            return self._dense(elements, 4, busy)
        if self.entry.wire == "dense":
            return self._dense(elements, self.entry.value_bytes, busy)
        if self.entry.wire == "linear":
            return self._linear(layers, elements, density, busy)
        entries = min(elements, round(max(1, int(elements * density)) * self.achieved))
        if self.exchange in LISTS:
            return self._selecting(elements, entries, busy)
        return self._allgather(elements, entries, busy)

    def _dense(self, elements: int, width: int, busy: NDArray[np.bool_]) -> Way:
        size = width * elements
        kind = "allgather" if self.section.name == "bf16" and width == 2 else "allreduce"  # Horovod adds up no bfloat16
        return Way(kind, (float(size),), True, elements, size, size, np.full(len(busy), size), 0)

    def _linear(self, layers: Sequence[Layer], elements: int, density: float, busy: NDArray[np.bool_]) -> Way:
        if self.section.name == "powersgd":
            shapes = [layer.shape or (layer.elements,) for layer in layers]
            parts = pieces(shapes, self.section.rank)
            second = 4 * sum(piece.rank * piece.columns for piece in parts)
            size = 4 * sum(piece.entries for piece in parts)
            again = (float(second),) if second else ()
            sent = np.full(len(busy), size)
            return Way("allreduce", (float(size - second),), True, size // 4, size, size, sent, 0, again)
        entries = max(1, int(elements * density))
        narrow = self.section.wire_values == "bf16"
        size = VALUE_BYTES[self.section.wire_values] * entries
        kind = "allgather" if narrow else "allreduce"
        return Way(kind, (float(size),), False, entries, size, size, np.full(len(busy), size), 0)

    def _allgather(self, elements: int, entries: int, busy: NDArray[np.bool_]) -> Way:
        size, empty = self._list(entries, elements), self._list(0, elements)
        sent = np.where(busy, size, empty)
        sizes = (float(size),) if busy.all() else tuple(map(float, sent.tolist()))
        merged = entries * int(busy.sum())
        exact = self.entry.exact_count and self.section.wire_indices == "int32"
        return Way("allgather", sizes, False, entries, size, empty, sent, merged, exact=exact)

    def _selecting(self, elements: int, entries: int, busy: NDArray[np.bool_]) -> Way:
        workers = len(busy)
        size, empty = self._list(entries, elements), self._list(0, elements)
        if self.exchange == "gtopk":
            own = np.where(busy, size, empty)
            sizes = (2 * entries * self.merge_s, *map(float, own.tolist()))
        else:
            part = np.where(busy, self._list(round(entries / workers), elements), empty)
            share = self._list(round(entries / workers), elements)
            sums = elements / workers * (1.0 - (1.0 - entries / elements) ** int(busy.sum()))
            told = 4.0 * (1 + collectives.heads(round(sums)))
            sizes = (entries * self.merge_s, 4.0 * workers, told, float(share), *map(float, part.tolist()))
        sent = np.rint(collectives.lists_sent(self.exchange, workers, sizes)).astype(np.int64)
        return Way(self.exchange, sizes, False, entries, size, empty, sent, entries)

    def _list(self, entries: int, elements: int) -> int:
        return list_bytes(entries, elements, self.section.wire_indices, self.section.wire_values)
