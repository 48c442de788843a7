"""A point of a sweep, a search or an ablation: one experiment file with a few keys changed, simulated with N seeds.

Points that share seeds share their random numbers: they differ by what was changed and not by chance.
"""

from __future__ import annotations

import argparse
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from simulator.clusters import load_on
from simulator.job import ENGINES, simulate
from simulator.profile import Profile
from simulator.scenario import under
from toolkit.errors import UserError
from toolkit.experiment import Experiment, dump
from toolkit.policies.linktrace import link_traces

Point = Mapping[str, str]


def add_arguments(parser: argparse.ArgumentParser, seeds: int) -> None:
    """The arguments that `Base.of` reads."""
    parser.add_argument("file", help="experiment file (TOML)")
    parser.add_argument("--cluster", metavar="FILE", help="on the cluster of this file (exp_configs/clusters/)")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override a key")
    parser.add_argument("--profile", help="measured costs, as 'calibrate' writes them (default: derived from FLOPs)")
    parser.add_argument("--scenario", metavar="FILE", help="what goes wrong, besides [faults] (exp_configs/scenarios/)")
    parser.add_argument("--seed", type=int, help="first seed of every point (default: [run] seed)")
    parser.add_argument("--seeds", type=int, default=seeds, metavar="N", help=f"seeds a point (default: {seeds})")
    parser.add_argument("--engine", default="auto", choices=ENGINES, help="default: fast where it is exact")


@dataclass(frozen=True)
class Base:
    """What all points share."""

    file: str
    cluster: str | None
    overrides: tuple[str, ...]
    profile: Profile | None
    how: Mapping[str, Any]
    seed: int | None
    seeds: int

    @staticmethod
    def of(args: argparse.Namespace) -> Base:
        """From a command line; UserError where seeds are none."""
        if args.seeds < 1 or (args.seed or 0) < 0:
            raise UserError(f"--seed {args.seed} --seeds {args.seeds}: a seed >= 0 and at least 1 of them are wanted")
        profile = Profile.load(args.profile) if args.profile else None
        how = {"engine": args.engine, "scenario": args.scenario, "source": args.file}
        return Base(args.file, args.cluster, tuple(args.set), profile, how, args.seed, args.seeds)

    def experiment(self, point: Point) -> Experiment:
        """The experiment of a point; UserError where a key or value is none."""
        changes = (f"{name}={value}" for name, value in point.items())
        return load_on(self.file, self.cluster, [*self.overrides, *changes])

    def seeds_of(self, experiment: Experiment, count: int | None = None) -> range:
        first = experiment.run.seed if self.seed is None else self.seed
        return range(first, first + (self.seeds if count is None else count))

    def results(self, experiment: Experiment, count: int | None = None) -> list[dict[str, Any]]:
        """Result JSON with each seed; `count` of them in place of the usual number."""
        seeds = self.seeds_of(experiment, count)
        return [simulate(experiment, self.profile, seed=seed, **self.how).to_json() for seed in seeds]

    def mark(self, experiment: Experiment, count: int | None = None) -> str:
        """A fingerprint of everything that the results depend on."""
        costs = repr(None if self.profile is None else self.profile.to_json())
        whole = under(experiment, self.how["scenario"])
        traces = link_traces(whole.faults)  # a file whose content changed is another scenario
        text = f"{dump(whole)}\n{traces}\n{costs}\n{self.seeds_of(experiment, count)}\n"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def interval(values: Sequence[float]) -> float:
    """Half the width of the mean's 95 % confidence interval (Student's t); 0 for one value."""
    if len(values) < 2:
        return 0.0
    from scipy.stats import t  # slow to import, and seldom needed

    return float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))


def measures_of(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds, and the half width of the iteration time's 95 % interval (0 for a single seed)."""
    times = [result["iteration_time_s"]["mean"] for result in results]
    measures = {"iteration_time_s": mean(times), "iteration_ci95_s": interval(times)}
    measures |= {name: mean(result[name] for result in results) for name in ("total_time_s", "samples_per_s")}
    measures["bytes_sent_per_worker"] = round(mean(result["bytes_sent_per_worker"] for result in results))
    return measures | {name: mean(result["time_share"][name] for result in results) for name in ("communicate", "idle")}
