"""A search for the best point: what is tried, what is kept of it in a log, and how the recommendation is judged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console
from rich.progress import Progress

from simulator import space
from simulator.objective import Condition, Objective, flat
from simulator.points import Base, interval
from toolkit.errors import UserError

FINAL_SEEDS = 10
Evaluate = Callable[[dict[str, str]], "Trial"]


@dataclass(frozen=True)
class Trial:
    """A point with its objective for each seed and its measures, means over seeds. refused: why it is no experiment."""

    point: dict[str, str]
    values: tuple[float, ...] = ()
    measures: dict[str, float] = field(default_factory=dict)
    refused: str = ""

    @property
    def value(self) -> float:
        return mean(self.values)


class Log:
    """Results by fingerprint, a JSON line each; without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.known = path, {}
        if path and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                    self.known[row["mark"]] = row["results"]
                except (ValueError, KeyError, TypeError):
                    continue  # cut off by a kill

    def __enter__(self) -> Log:
        if self.path:
            try:
                self.file = self.path.open("a", encoding="utf-8")
            except OSError as error:
                raise UserError(f"--log {self.path}: cannot be written: {error.strerror}") from None
            if self.path.stat().st_size:
                self.file.write("\n")  # after a line that a kill cut off
        return self

    def __exit__(self, *_: object) -> None:
        if self.path:
            self.file.close()

    def add(self, mark: str, results: list[dict[str, float]]) -> None:
        self.known[mark] = results
        if self.path:
            self.file.write(json.dumps({"mark": mark, "results": results}) + "\n")
            self.file.flush()
            os.fsync(self.file.fileno())


@dataclass
class Search:
    """A search's base, its objective and conditions, and the log of what was simulated."""

    base: Base
    objective: Objective
    conditions: list[Condition]
    log: Log = field(default_factory=lambda: Log(None))

    def evaluate(self, point: dict[str, str], seeds: int | None = None) -> Trial:
        """Simulate a point, or take it from the log. A combination that is no experiment is a refused trial."""
        try:
            experiment = self.base.experiment(point)
        except UserError as error:
            return Trial(point, refused=str(error))
        mark = self.base.mark(experiment, seeds)
        if mark not in self.log.known:
            results = self.base.results(experiment, seeds)
            self.log.add(mark, [_kept(result) for result in results])
        kept = self.log.known[mark]
        measures = {name: mean(row["flat"][name] for row in kept) for name in kept[0]["flat"]}
        return Trial(point, tuple(self.objective.of(row) for row in kept), measures)

    def feasible(self, trial: Trial) -> bool:
        return not trial.refused and all(c.holds(trial.measures) for c in self.conditions)

    def run(self, axes: list[space.Axis], count: int, seed: int) -> list[Trial]:
        """Every trial in order; UserError where no point at all is an experiment."""
        whole = space.grid(axes, count)
        total = count if whole is None else len(whole)
        errors = Console(stderr=True)
        with Progress(console=errors, disable=not errors.is_terminal) as progress:
            task = progress.add_task("tuning", total=total)

            def evaluate(point: dict[str, str]) -> Trial:
                trial = self.evaluate(point)
                progress.advance(task)
                return trial

            trials = [evaluate(p) for p in whole] if whole is not None else self._sample(axes, count, seed, evaluate)
        if all(trial.refused for trial in trials):
            raise UserError(trials[0].refused)
        return trials

    def _sample(self, axes: list[space.Axis], count: int, seed: int, evaluate: Evaluate) -> list[Trial]:
        import optuna  # slow to import

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(5, count // 4))
        study = optuna.create_study(sampler=sampler, direction="maximize" if self.objective.larger else "minimize")
        trials, worst = [], 0.0
        for _ in range(count):
            asked = study.ask()
            trial = evaluate({axis.name: axis.suggest(asked) for axis in axes})
            trials.append(trial)
            if trial.refused:
                study.tell(asked, state=optuna.trial.TrialState.FAIL)
                continue
            value = trial.value
            missed = sum(max(0.0, c.excess(trial.measures)) for c in self.conditions)
            worst = max(worst, abs(value))
            # what misses a condition is worse than all that was seen, the more so the further it misses
            study.tell(asked, value if not missed else (-1 if self.objective.larger else 1) * worst * (2 + missed))
        return trials

    def judge(self, trials: list[Trial], least: float) -> dict[str, Any]:
        """The recommendation: the best feasible point, its paired gain over the second and over the file's own."""
        ranked = self.ranked(trials)
        if not ranked:
            closest = min(
                (t for t in trials if not t.refused),
                key=lambda t: sum(max(0.0, c.excess(t.measures)) for c in self.conditions),
            )
            wanted = ", ".join(map(str, self.conditions))
            raise UserError(f"--where {wanted}: no tried point meets it; the closest is {_said(closest.point)}")
        seeds = max(FINAL_SEEDS, self.base.seeds)
        finals = [self.evaluate(trial.point, seeds) for trial in ranked[:2]]
        best = finals[0]
        if len(finals) == 2 and self.objective.better(finals[1].value, best.value):
            best = finals[1]
        gains = {}
        if len(finals) == 2:
            gains["second"] = self.gain(best, finals[1] if best is finals[0] else finals[0])
        own = self.evaluate({}, seeds)
        gains["file"] = self.gain(best, own)
        sure = gains.get("second", gains["file"])
        reached = f"{self.objective.name} {best.value:.4g} {self.objective.unit}"
        return {
            "objective": self.objective.name,
            "point": best.point,
            "value": best.value,
            "ci95": interval(best.values),
            "seeds": seeds,
            "gains": gains,
            "feasible": {"recommended": self.feasible(best), "file": self.feasible(own)},
            "verdict": f"{reached} with {_said(best.point)}; {_sure(sure, least)}",
        }

    def ranked(self, trials: list[Trial]) -> list[Trial]:
        """Feasible trials, best first, every point once."""
        once = {tuple(trial.point.items()): trial for trial in trials if self.feasible(trial)}
        return sorted(once.values(), key=lambda trial: trial.value, reverse=self.objective.larger)

    def gain(self, best: Trial, other: Trial) -> dict[str, float]:
        """By which factor `best` is better, mean over seeds, and half its 95 % interval: seeds are paired."""
        pairs = zip(best.values, other.values, strict=True)
        ratios = [(a / b if self.objective.larger else b / a) if a and b else 1.0 for a, b in pairs]
        return {"factor": mean(ratios), "ci95": interval(ratios)}


def _kept(result: dict[str, Any]) -> dict[str, Any]:
    """What of a result is logged: enough for any objective and condition."""
    names = ("samples_per_s", "workers", "time_share")
    return {name: result[name] for name in names} | {"flat": flat(result)}


def _said(point: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in point.items())


def _sure(gain: dict[str, float], least: float) -> str:
    factor, half = gain["factor"], gain["ci95"]
    text = f"x{factor:.3f} ± {half:.3f} against the next best"
    if factor - half > least:
        return f"{text}: sure, beyond the simulator's own error of {least - 1:.0%}"
    if factor - half > 1:
        return f"{text}: ahead, but within the simulator's error of {least - 1:.0%}"
    return f"{text}: a tie"
