"""Ok-Topk: split and reduce by balanced regions, then a balanced allgather (Li and Hoefler, PPoPP 2022).

1. All ranks agree on P regions of the vector that hold about k/P of every rank's entries: the mean of the regions that
   would be even for each of them.
2. Everybody sends each region's entries to the rank that owns it, which adds them up: k(P-1)/P entries a rank.
3. The owners tell each other the magnitudes of up to 128 evenly spaced entries of their sorted sums; from these all
   compute how many entries each owner keeps, k together: blocks by falling magnitude. With up to 128 sums an owner
   this is the exact top-k, beyond it is exact within each region and to a 128th of it between the regions.
4. Where one owner keeps more than one and a half shares, neighbours even out: at most k(P-1)/P entries.
5. Everybody sends its share to all others: k(P-1)/P entries a rank.

That is less than 6k(P-1)/P words a rank in all where the ranks' gradients are alike, against 2k(P-1) of an allgather.
The paper keeps regions and threshold for some steps; here both are made anew in every step, 0.5 kB to each rank, so
that there is no state to lose and the count is always the one that was asked for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolkit.compression.base import Payload, SparsePayload
from toolkit.exchange.base import Exchange, Pending
from toolkit.exchange.lists import join, largest, merge_lists
from toolkit.exchange.selecting import SelectingPending
from toolkit.exchange.wire import Entries

BLOCKS = 128
UNEVEN = 1.5
KEY_MASK = np.int32(0x7FFFFFFF)


class OkTopk(Exchange):
    """The merged gradient holds at most as many entries as the longest payload."""

    def launch(self, name: str, payload: Payload) -> Pending:
        assert isinstance(payload, SparsePayload)
        return OkTopkPending(self.comm, self.wire, payload)


class OkTopkPending(SelectingPending):
    def run(self) -> Entries:
        self.others = [rank for rank in range(self.comm.size) if rank != self.comm.rank]
        k, bounds = self._regions()
        sums = self._reduce(bounds)
        counts = self._quotas(sums, k)
        kept, _ = largest(sums, int(counts[self.comm.rank]))
        share = self._even(self.rounded(kept, 1), counts)
        received = self.trade_lists(dict.fromkeys(self.others, share), self.others)
        received[self.comm.rank] = share
        return join([received[rank] for rank in range(self.comm.size)])

    def _told(self, own: NDArray[np.int32]) -> list[NDArray[np.int32]]:
        """Every rank's small message, in rank order."""
        received = self.trade(dict.fromkeys(self.others, own.view(np.uint8)), self.others)
        received[self.comm.rank] = own.view(np.uint8)
        return [received[rank].view(np.int32) for rank in range(self.comm.size)]

    def _regions(self) -> tuple[int, NDArray[np.int64]]:
        """The longest payload's count, and where the regions begin and end, int64 (P + 1,)."""
        indices, workers = self.payload[0], self.comm.size
        even = indices[np.arange(1, workers) * indices.size // workers] if indices.size else np.zeros(workers - 1)
        told = self._told(np.concatenate(([indices.size], even)).astype(np.int32))
        counts = [int(each[0]) for each in told]
        sets = np.array([each[1:] for each, count in zip(told, counts, strict=True) if count], dtype=np.int64)
        inner = sets.sum(axis=0) // len(sets) if len(sets) else np.zeros(workers - 1, np.int64)
        return max(counts), np.concatenate(([0], inner, [self.elements]))

    def _reduce(self, bounds: NDArray[np.int64]) -> Entries:
        """The sums over the ranks of this rank's region, added in rank order."""
        indices, values = self.payload
        cuts = np.searchsorted(indices, bounds)
        parts = {r: (indices[cuts[r] : cuts[r + 1]], values[cuts[r] : cuts[r + 1]]) for r in range(self.comm.size)}
        received = self.trade_lists({rank: parts[rank] for rank in self.others}, self.others)
        received[self.comm.rank] = parts[self.comm.rank]
        return merge_lists([received[rank] for rank in range(self.comm.size)])

    def _quotas(self, sums: Entries, k: int) -> NDArray[np.int64]:
        """How many entries each rank keeps of its sums, (P,); min(k, all) together."""
        keys = -np.sort(-(sums[1].view(np.int32) & KEY_MASK))  # NaN above infinity above every number
        told = self._told(np.concatenate(([keys.size], keys[:: block_size(keys.size)])).astype(np.int32))
        return quotas([int(each[0]) for each in told], [each[1:] for each in told], k)

    def _even(self, kept: Entries, counts: NDArray[np.int64]) -> Entries:
        """This rank's share of all kept entries: its own, or an even part of them where they are too uneven."""
        workers, rank, total = self.comm.size, self.comm.rank, int(counts.sum())
        if counts.max() * workers <= UNEVEN * total:
            return kept
        starts = np.concatenate(([0], np.cumsum(counts)))  # regions ascend: the lists behind each other ascend too
        cuts = np.arange(workers + 1) * total // workers
        low = np.maximum(starts[:-1, None], cuts[None, :-1]) - starts[:-1, None]
        high = np.minimum(starts[1:, None], cuts[None, 1:]) - starts[:-1, None]
        pieces = {
            to: (kept[0][low[rank, to] : high[rank, to]], kept[1][low[rank, to] : high[rank, to]])
            for to in range(workers)
            if low[rank, to] < high[rank, to]
        }
        sources = [source for source in self.others if low[source, rank] < high[source, rank]]
        received = self.trade_lists({to: piece for to, piece in pieces.items() if to != rank}, sources)
        if rank in pieces:
            received[rank] = pieces[rank]
        return join([received[source] for source in sorted(received)])


def block_size(count: int) -> int:
    """Entries a told magnitude stands for."""
    return max(1, -(-count // BLOCKS))


def quotas(counts: list[int], heads: list[NDArray[np.int32]], k: int) -> NDArray[np.int64]:
    """Deal k places to ranks by falling magnitude.

    counts: sums of each rank; heads: the largest key of each of its blocks, falling. The block with the largest head
    goes first (of equal ones the lowest rank's), and takes as many places as it has entries.
    """
    rank = np.repeat(np.arange(len(counts)), [head.size for head in heads])
    sizes = [np.full(head.size, block_size(count)) for count, head in zip(counts, heads, strict=True)]
    for count, size in zip(counts, sizes, strict=True):
        if size.size:
            size[-1] = count - size[:-1].sum()
    order = np.argsort(-np.concatenate(heads).astype(np.int64), kind="stable")
    size = np.concatenate(sizes)[order]
    taken = np.clip(k - (np.cumsum(size) - size), 0, size)
    return np.bincount(rank[order], weights=taken, minlength=len(counts)).astype(np.int64)
