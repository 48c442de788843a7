"""What a run of the synchronisation study is, and what it left."""

from __future__ import annotations

import re
from dataclasses import dataclass

from toolkit.errors import UserError

PHASES = {"1": "BSP", "0": "ASP"}


@dataclass(frozen=True)
class Setting:
    """A way to synchronise. bound: of ssp. order, share: of switch, two phases and the share of the work before it."""

    policy: str
    bound: int = 0
    order: str = ""
    share: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Setting:
        """ "bsp", "asp", "ssp@BOUND", "10@SHARE" or "01@SHARE" (1 is BSP, 0 is ASP)."""
        if text in ("bsp", "asp"):
            return cls(text)
        if found := re.fullmatch(r"ssp@(\d{1,6})", text):
            return cls("ssp", bound=int(found[1]))
        if (found := re.fullmatch(r"(10|01)@(\d*\.?\d+)", text)) and 0 < float(found[2]) < 1:
            return cls("switch", order=found[1], share=float(found[2]))
        raise UserError(f"--settings {text}: allowed are bsp, asp, ssp@BOUND, 10@SHARE and 01@SHARE, 0 < SHARE < 1")

    @property
    def name(self) -> str:
        """What `parse` takes."""
        if self.policy == "ssp":
            return f"ssp@{self.bound}"
        return f"{self.order}@{self.share:g}" if self.policy == "switch" else self.policy

    @property
    def label(self) -> str:
        """For people."""
        if self.policy == "ssp":
            return f"SSP, bound {self.bound}"
        if self.policy == "switch":
            return f"{PHASES[self.order[0]]} to {PHASES[self.order[1]]} at {100 * self.share:g} %"
        return self.policy.upper()

    @property
    def bsp_first(self) -> float | None:
        """Share of the work that BSP does before ASP does the rest; None where it is not like that."""
        if self.policy == "switch":
            return self.share if self.order == "10" else None
        return {"asp": 0.0, "bsp": 1.0}.get(self.policy)


@dataclass(frozen=True)
class Case:
    """A run of the study. factor: how many times as long one worker computes; 1: nobody is a straggler."""

    task: str
    factor: int
    setting: str
    seed: int

    def __str__(self) -> str:
        slow = f", a worker {self.factor} times as slow" if self.factor != 1 else ""
        return f"{self.task}, {Setting.parse(self.setting).label}{slow}, seed {self.seed}"


@dataclass(frozen=True)
class Row:
    """A line of the CSV. seconds: of training, steps and checkpoints, as in the result; switch_s: between the last
    step of a phase and the first of the next. staleness: mean over pushes, 0 under BSP. curve: tests on the way, as
    units of work:seconds:accuracy with blanks between; its seconds have everything but the tests in them. settings: a
    digest of everything that decides the run."""

    task: str
    factor: int
    setting: str
    seed: int
    accuracy: float
    loss: float
    seconds: float
    switch_s: float
    staleness: float
    curve: str
    settings: str

    @property
    def case(self) -> Case:
        return Case(self.task, self.factor, self.setting, self.seed)

    @property
    def points(self) -> list[tuple[float, float, float]]:
        """(units, seconds, accuracy) of every test, in order."""
        found = [tuple(map(float, point.split(":"))) for point in self.curve.split()]
        return [(units, seconds, accuracy) for units, seconds, accuracy in found]
