"""Who does the next unit of work: one counter for all workers, so that a fast one does more than a slow one."""

from __future__ import annotations

from dataclasses import dataclass, field

NEVER = -1


@dataclass(frozen=True)
class Ticket:
    """An answer to a worker. unit: number of its next update in the phase, or NEVER where none is left. save, look:
    units issued so far where the worker is to save its part of a checkpoint or a copy of the parameters, else NEVER."""

    unit: int
    save: int = NEVER
    look: int = NEVER


@dataclass
class Tickets:
    """Deals out units `issued` <= unit < `units` of a phase to `workers`.

    save_every: units between checkpoints; each worker is told once. While one is still being written, the next is
    left out. look_every: units between copies of the parameters that are to be evaluated; only `chief` is told.
    """

    units: int
    workers: list[int]
    save_every: int = 0
    look_every: int = 0
    issued: int = 0
    closed: bool = False
    saving: int = NEVER
    _owed: set[int] = field(default_factory=set)
    _missing: set[int] = field(default_factory=set)
    _saves: int = 0
    _looks: int = 0

    def __post_init__(self) -> None:
        self._saves = self.issued // self.save_every if self.save_every else 0
        self._looks = self.issued // self.look_every if self.look_every else 0

    @property
    def chief(self) -> int:
        return self.workers[0]

    def close(self) -> None:
        """Issue no more: every worker ends after the unit it has."""
        self.closed = True

    def ask(self, worker: int) -> Ticket:
        """The next unit for `worker`, if any is left."""
        if self.closed or self.issued >= self.units:
            return Ticket(NEVER)
        self._due()
        save = self.saving if worker in self._owed else NEVER
        self._owed.discard(worker)
        look = self._look() if worker == self.chief else NEVER
        self.issued += 1
        return Ticket(self.issued - 1, save, look)

    def saved(self, worker: int) -> bool:
        """A worker has written its part; returns whether that was the last one."""
        self._missing.discard(worker)
        if self._missing or self.saving == NEVER:
            return False
        self.saving = NEVER
        return True

    def _due(self) -> None:
        if not self.save_every or self.issued // self.save_every <= self._saves:
            return
        self._saves = self.issued // self.save_every
        if self.saving == NEVER:
            self.saving = self.issued
            self._owed, self._missing = set(self.workers), set(self.workers)

    def _look(self) -> int:
        if not self.look_every or self.issued // self.look_every <= self._looks:
            return NEVER
        self._looks = self.issued // self.look_every
        return self.issued
