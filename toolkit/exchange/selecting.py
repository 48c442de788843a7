"""What gTop-k and Ok-Topk share: they select again on the way, so some of what a rank sent comes back to it.

The merged sum of an index is either part of the result or of nothing. An index that the result does not hold goes back
to every rank that sent it, whole. What was dropped on the way of an index that the result does hold (a partial sum
that was rejected, a rounding error of the wire) is kept by exactly one rank, its owner. So nothing is lost or doubled:
the sum over the ranks of payload = P times the merged gradient + the sum of what came back, up to the rounding of
float32 sums; exact where these sums are exact.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

import cext
from toolkit.comm import Communicator
from toolkit.compression.base import SparseGradient, SparsePayload
from toolkit.exchange.base import Pending
from toolkit.exchange.lists import EMPTY, is_in, join, where
from toolkit.exchange.wire import Entries, Wire


class SelectingPending(Pending):
    """Messages go from rank to rank over mpi4py; all of them in `wait`, which ranks call in the same order."""

    settles = True

    def __init__(self, comm: Communicator, wire: Wire, payload: SparsePayload) -> None:
        self.comm = comm
        self.wire = wire
        self.elements = payload.elements
        self.payload: Entries = (payload.indices.numpy(), payload.values.numpy())
        self.payload_bytes = wire.size(self.payload[0])
        self.bytes = 0
        self.result = EMPTY
        self.dropped: list[Entries] = []

    def ready(self) -> bool:
        return False

    def wait(self) -> None:
        self.result = self.run()

    @abstractmethod
    def run(self) -> Entries:
        """All rounds; returns the sum over the workers of what was selected, the same bytes on every rank."""

    def settle(self, residual: torch.Tensor) -> None:
        rejected = where(self.payload, ~is_in(self.payload[0], self.result[0]))
        dropped = join(self.dropped)
        for indices, values in (rejected, where(dropped, is_in(dropped[0], self.result[0]))):
            cext.scatter_add(residual.numpy(), indices, values)

    def merge(self, out: torch.Tensor) -> int:
        out.zero_()
        indices, values = self.result
        cext.scatter_add(out.numpy(), indices, values)
        out.div_(self.comm.size)
        return int(indices.size)

    def merge_sparse(self) -> tuple[SparseGradient, int]:
        indices, values = self.result
        return (torch.from_numpy(indices), torch.from_numpy(values) / self.comm.size), int(indices.size)

    def trade(self, outgoing: dict[int, NDArray[np.uint8]], sources: Iterable[int]) -> dict[int, NDArray[np.uint8]]:
        """Send bytes to ranks and receive from `sources`; counts what is sent."""
        self.bytes += sum(message.nbytes for message in outgoing.values())
        return self.comm.trade(outgoing, sources)

    def trade_lists(self, outgoing: dict[int, Entries], sources: Iterable[int]) -> dict[int, Entries]:
        messages = {rank: self.wire.encode(*entries) for rank, entries in outgoing.items()}
        received = self.trade(messages, sources)
        return {rank: self.wire.decode(message)[0] for rank, message in received.items()}

    def rounded(self, entries: Entries, sharers: int) -> Entries:
        """What the wire can carry of a list that `sharers` ranks hold alike; the rest is dropped by its owners."""
        sent, error = self.wire.rounded(torch.from_numpy(entries[1]))
        if error is None:
            return entries
        self.drop((entries[0], error.numpy()), sharers)
        return entries[0], sent.numpy()

    def drop(self, entries: Entries, sharers: int) -> None:
        """Note the entries that this rank owns: `sharers` neighbouring ranks drop the same list, each owns a share."""
        if sharers > 1:
            entries = where(entries, entries[0] % sharers == self.comm.rank % sharers)
        self.dropped.append(entries)
