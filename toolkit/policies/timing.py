"""When to switch from BSP to ASP: Sync-Switch's offline binary search (ICDCS 2021, timing policy), resumable.

R runs of BSP give the target, their mean quality A. Then the share of the work done in BSP is halved between 0 and 1
for M settings of R runs each: good enough (mean >= A - beta) lowers the upper bound to it, else it becomes the lower
bound. The upper bound at the end is the answer; 1, BSP alone, is always good enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """One run: what it reached (accuracy, or minus the loss: more is better) and how long it took, s."""

    quality: float
    seconds: float


@dataclass
class Trial:
    """The runs of one share of BSP."""

    share: float
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def quality(self) -> float:
        return math.fsum(run.quality for run in self.outcomes) / len(self.outcomes)

    @property
    def seconds(self) -> float:
        return math.fsum(run.seconds for run in self.outcomes) / len(self.outcomes)


@dataclass(frozen=True)
class Request:
    """The next run to make: its share of BSP work, and a number of its own from 0 on (a seed's offset)."""

    share: float
    setting: int
    run: int


class SwitchSearch:
    """Ask `request` for the next run, give its outcome to `record`, until `request` is None."""

    def __init__(self, *, runs: int = 5, settings: int = 5, tolerance: float = 0.01) -> None:
        """runs: R; settings: M; tolerance: beta. Raises ValueError where there would be nothing to do."""
        if runs < 1 or settings < 1 or not tolerance >= 0:
            raise ValueError(f"runs {runs}, settings {settings}, tolerance {tolerance}: >= 1, >= 1, >= 0 are wanted")
        self.runs, self.settings, self.tolerance = runs, settings, tolerance
        self.trials: list[Trial] = [Trial(1.0)]  # the first one is BSP itself

    @property
    def request(self) -> Request | None:
        """What to run next; None when the search is over."""
        current = self.trials[-1]
        if len(current.outcomes) == self.runs:
            return None
        return Request(current.share, len(self.trials) - 1, len(current.outcomes))

    def record(self, quality: float, seconds: float) -> None:
        """The outcome of the requested run; NaN is a run that diverged. ValueError where none was requested."""
        if self.request is None:
            raise ValueError("the search is over: no run was requested")
        if not seconds > 0:
            raise ValueError(f"seconds {seconds}: a run takes time")
        self.trials[-1].outcomes.append(Outcome(-math.inf if math.isnan(quality) else quality, seconds))
        if self.request is None and len(self.trials) <= self.settings:
            self.trials.append(Trial(sum(self.bounds) / 2))

    @property
    def target(self) -> float:
        """A, the mean quality of the BSP runs."""
        return self.trials[0].quality

    @property
    def bounds(self) -> tuple[float, float]:
        """(lower, upper) share of BSP after the settings that are complete."""
        lower, upper = 0.0, 1.0
        for trial in self.trials[1:]:
            if len(trial.outcomes) == self.runs:
                if self.good(trial):
                    upper = trial.share
                else:
                    lower = trial.share
        return lower, upper

    def good(self, trial: Trial) -> bool:
        """Whether a setting reaches the target within the tolerance."""
        return trial.quality >= self.target - self.tolerance

    @property
    def best(self) -> Trial:
        """The setting found so far: the smallest share of BSP that was good enough."""
        upper = self.bounds[1]
        return next(trial for trial in self.trials if trial.share == upper)

    @property
    def cost(self) -> float:
        """Seconds of all runs so far in units of one BSP run."""
        spent = math.fsum(run.seconds for trial in self.trials for run in trial.outcomes)
        return spent / self.trials[0].seconds

    @property
    def relative_time(self) -> float:
        """t*: seconds of the setting found, in units of one BSP run."""
        return self.best.seconds / self.trials[0].seconds

    @property
    def break_even(self) -> float:
        """Recurrences of the job after which the search has paid: cost / (1 - t*); inf where it never does."""
        saved = 1.0 - self.relative_time
        return self.cost / saved if saved > 0 else math.inf

    def found(self) -> dict[str, Any] | None:
        """The answer so far, as plain data; None before BSP itself was run often enough."""
        if len(self.trials[0].outcomes) < self.runs:
            return None
        return {
            "complete": self.request is None,
            "switch_at": self.best.share,
            "relative_time": self.relative_time,
            "cost_bsp_runs": self.cost,
            "break_even_recurrences": self.break_even if math.isfinite(self.break_even) else None,
        }

    def summary(self, metric: str) -> str:
        """For people: the settings tried, the answer, and when the search has paid."""
        answer = self.found()
        if answer is None:
            return f"{len(self.trials[0].outcomes)} of {self.runs} runs of BSP are there; call again to go on"
        lines = [f"switch_at   {metric:>8}  time/BSP  good enough"]
        for trial in self.trials:
            if len(trial.outcomes) == self.runs:
                good = "target" if trial is self.trials[0] else "yes" if self.good(trial) else "no"
                relative = trial.seconds / self.trials[0].seconds
                lines.append(f"{trial.share:<10.6g}  {abs(trial.quality):8.4f}  {relative:8.3f}  {good}")
        end = "" if answer["complete"] else ", so far: call again to go on"
        lines.append(f"found: [sync] switch_at = {answer['switch_at']:g}{end}")
        even = answer["break_even_recurrences"]
        pays = "never pays" if even is None else f"has paid after {math.ceil(even)} recurrences of the job"
        lines.append(f"the search cost {answer['cost_bsp_runs']:.1f} BSP runs and {pays}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The state as plain data; `from_json` goes on from it."""
        trials = [
            {"share": trial.share, "outcomes": [[_finite(run.quality), run.seconds] for run in trial.outcomes]}
            for trial in self.trials
        ]
        return {"runs": self.runs, "settings": self.settings, "tolerance": self.tolerance, "trials": trials}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> SwitchSearch:
        """The search that wrote `state`; ValueError where its runs are not those that a search would have asked for."""
        search = cls(runs=state["runs"], settings=state["settings"], tolerance=state["tolerance"])
        for trial in state["trials"]:
            for quality, seconds in trial["outcomes"]:
                request = search.request
                if request is None or request.share != trial["share"]:
                    raise ValueError(f"a run at share {trial['share']} was never requested")
                search.record(math.nan if quality is None else quality, seconds)
        return search


def _finite(quality: float) -> float | None:
    """JSON knows no infinity: a diverged run is null."""
    return quality if math.isfinite(quality) else None
