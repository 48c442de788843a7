"""gTop-k: merge and select again, pair by pair (Shi et al., ICDCS 2019).

The paper sends lists up a tree and the result down again; here both ranks of a pair do the same merge, which takes
log2 P rounds of k entries instead of twice as many. Ranks beyond the largest power of two hand their list to a partner
before the first round and get the result after the last.

The paper gives a value back to a rank whenever the global selection lacks its index; a value that was rejected in one
half of the ranks while the index came through in the other is lost there. Here it stays with one rank (selecting.py).
"""

from __future__ import annotations

from toolkit.compression.base import Payload, SparsePayload
from toolkit.exchange.base import Exchange, Pending
from toolkit.exchange.lists import largest, merge_lists
from toolkit.exchange.selecting import SelectingPending
from toolkit.exchange.wire import Entries


class GTopK(Exchange):
    """The merged gradient holds at most as many entries as the longest payload."""

    def launch(self, name: str, payload: Payload) -> Pending:
        assert isinstance(payload, SparsePayload)
        return GTopKPending(self.comm, self.wire, payload)


class GTopKPending(SelectingPending):
    def run(self) -> Entries:
        rank, workers = self.comm.rank, self.comm.size
        core = 1 << (workers.bit_length() - 1)
        if rank >= core:
            self.trade_lists({rank - core: self.payload}, ())
            return self.trade_lists({}, (rank - core,))[rank - core]
        partner = (rank + core,) if rank + core < workers else ()
        entries = self.payload
        for source in partner:
            folded = self.trade_lists({}, (source,))
            entries = self._select(entries, folded[source], 1)
        distance = 1
        while distance < core:
            entries = self._round(entries, distance)
            distance *= 2
        if core < workers:
            entries = self.rounded(entries, core)
            self.trade_lists(dict.fromkeys(partner, entries), ())
        return entries

    def _round(self, own: Entries, distance: int) -> Entries:
        """Both groups of `distance` ranks hold a list of their own; afterwards the two groups hold the same one."""
        other = self.comm.rank ^ distance
        own = self.rounded(own, distance)
        theirs = self.trade_lists({other: own}, (other,))[other]
        lower, upper = (own, theirs) if self.comm.rank < other else (theirs, own)
        return self._select(lower, upper, 2 * distance)

    def _select(self, lower: Entries, upper: Entries, sharers: int) -> Entries:
        kept, rejected = largest(merge_lists((lower, upper)), max(lower[0].size, upper[0].size))
        self.drop(rejected, sharers)
        return kept
