"""What to do about stragglers while training: Sync-Switch's online policies (ICDCS 2021).

The offline plan says which protocol is due ("bsp" until the BSP quota is spent, then "asp"); an online policy turns
that and the flagged workers into a decision. The caller counts only BSP work against the BSP quota, so that what
`greedy` does in ASP meanwhile does not shorten it.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

NOBODY: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Decision:
    """protocol: "bsp" or "asp". removed: ranks that sit out; the others share their part of the global batch."""

    protocol: str
    removed: frozenset[int] = NOBODY


class OnlinePolicy:
    """Do nothing: follow the plan. The base of the others, and "none" and "baseline" by name."""

    def decide(self, due: str, flagged: Set[int], workers: int) -> Decision:
        """due: protocol of the offline plan now, "bsp" or "asp"; flagged: ranks; workers: of the whole job."""
        return Decision(due)


class Greedy(OnlinePolicy):
    """To ASP as soon as somebody is flagged, back to BSP when all are clear, until the BSP quota is spent."""

    def decide(self, due: str, flagged: Set[int], workers: int) -> Decision:
        return Decision("asp" if flagged else due)


@dataclass
class Elastic(OnlinePolicy):
    """Stay in BSP without the flagged workers, the global batch held; all of them come back at the switch to ASP.

    A removed worker is not observed any more, so it stays out for the rest of the BSP phase. The last worker is never
    removed.
    """

    removed: frozenset[int] = field(default=NOBODY)

    def decide(self, due: str, flagged: Set[int], workers: int) -> Decision:
        if due != "bsp":
            self.removed = NOBODY
        elif len(self.removed | flagged) < workers:
            self.removed = self.removed | flagged
        return Decision(due, self.removed)


POLICIES: dict[str, type[OnlinePolicy]] = {
    "none": OnlinePolicy,
    "baseline": OnlinePolicy,
    "greedy": Greedy,
    "elastic": Elastic,
}


def online_policy(name: str) -> OnlinePolicy:
    """A fresh policy by the name of [sync] online."""
    return POLICIES[name]()


def shares(global_batch: int, workers: int, removed: Set[int] = NOBODY) -> list[int]:
    """Examples of each worker, (workers,): the global batch dealt evenly to those who take part, 0 to the others."""
    active = [rank for rank in range(workers) if rank not in removed]
    if not active:
        raise ValueError(f"removed {sorted(removed)} of {workers} workers: nobody is left")
    each, more = divmod(global_batch, len(active))
    dealt = [0] * workers
    for place, rank in enumerate(active):
        dealt[rank] = each + (place < more)
    return dealt
