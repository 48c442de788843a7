"""Simulate real runs again and say how far the simulation is off: the runs it was fitted to apart from the others.

`python -m simulator validate RUN… [--profile P | --fit RUN…]`. Each run's own experiment file is simulated on the host
that the profile was measured on, and set against the steps of its trace after warm-up.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from simulator import validationfiles as files
from simulator.calibrate import calibrate, wide_console
from simulator.fitting import trimmed_mean
from simulator.job import simulate
from simulator.observe import Run, load_run, observe_steps
from simulator.profile import Profile
from simulator.replica import where_it_ran
from toolkit import units
from toolkit.errors import UserError
from toolkit.trace import RankSteps, Result, asynchronous, joined, summarize

SHARES = ("compute", "compress", "communicate", "optimize", "idle")
UNEVEN = 1.5  # slowest over fastest rank from which the scheduler's placement is worth a word
TRIMMED = 0.25  # share of the steps that is left out at either end
DISTURBED = 0.05  # share of the processors from which others are worth a word
DIFFERENT = 0.10  # two runs whose times differ by more must come out in the right order


@dataclass(frozen=True)
class Comparison:
    """One run, measured and predicted: seconds of an iteration and shares of its time.

    measured_s is the mean of the middle half of the whole steps: what else the host does stalls a step now and then,
    which is no property of the experiment. predicted_s is the mean over as many simulated steps. The short steps at the
    end of an epoch are left out of both. measured_mean_s is the plain mean of all steps. unevenness: compute time of
    the slowest rank over that of the fastest, medians over steps. others: share of the machine's processors that others
    used meanwhile, 0 where it was not measured.
    """

    name: str
    fitted: bool
    label: str
    measured_s: float
    predicted_s: float
    measured_mean_s: float
    measured_share: dict[str, float]
    predicted_share: dict[str, float]
    bytes_measured: float
    bytes_predicted: float
    unevenness: float = 1.0
    others: float = 0.0

    @property
    def error(self) -> float:
        """Predicted over measured, less one."""
        return self.predicted_s / self.measured_s - 1.0


@dataclass(frozen=True)
class Summary:
    """Errors over a group of runs. pairs: runs two by two that differ by more than 10 %; right: in the right order."""

    runs: int
    mape: float
    worst: float
    worst_run: str
    pairs: int
    right: int


def compare(run: Run, profile: Profile, fitted: bool) -> Comparison:
    """Simulate one run's own experiment on the measured host. UserError where the profile is of something else."""
    if run.hosts > 1 and profile.links is None:
        raise UserError("validate: the profile has no links between hosts: calibrate it from runs on several hosts")
    if run.hosts == 1 and run.workers > 1 and profile.network is None:
        raise UserError("validate: the profile has no network of a measured host: calibrate it from runs of 2 ranks")
    if run.experiment.sync.policy == "switch":
        raise UserError(f"validate: {run.folder}: has several phases; runs of bsp, asp or ssp are wanted")
    real = measured(run)
    experiment, there = where_it_ran(run, profile)
    simulated = simulate(
        experiment,
        whole_steps(run, there),
        host_network=run.workers > 1 and run.hosts == 1,
        source=str(run.folder / "config.toml"),
    )
    return Comparison(
        name=run.name,
        fitted=fitted,
        label=label_of(run),
        measured_s=trimmed_mean(iterations(run), TRIMMED),
        predicted_s=simulated.iteration_time_s["mean"],
        measured_mean_s=real.iteration_time_s["mean"],
        measured_share=real.time_share,
        predicted_share=simulated.time_share,
        bytes_measured=real.bytes_sent_per_worker / real.steps,
        bytes_predicted=simulated.bytes_sent_per_worker / simulated.steps,
        unevenness=1.0 if run.paced else unevenness(run),  # paced workers differ because they are told to
        others=run.others,
    )


def label_of(run: Run) -> str:
    """What a run was, in a few words: compressor, density, ranks, batch size, and what is not as usual."""
    section, pipeline = run.experiment.compression, run.experiment.pipeline
    words = [section.name if run.experiment.exchange == "dense" else f"{section.name} {section.density:g}"]
    words += [f"{run.workers} rank{'s' * (run.workers > 1)}", f"batch {run.experiment.data.batch_size}"]
    words += [f"×{pipeline.accumulation}"] if pipeline.accumulation > 1 else []
    words += [f"by {section.granularity}"] if section.granularity != "merged" else []
    words += [] if pipeline.overlap else ["no overlap"]
    words += [f"{run.hosts} hosts, {units.render('rate', run.experiment.cluster.bandwidth)}"] if run.hosts > 1 else []
    policy = run.experiment.sync.policy
    words += [policy] if policy != "bsp" else []
    words += ["slow worker"] if run.experiment.faults.slow_worker else []
    words += ["slow link"] if run.experiment.faults.slow_link else []
    return ", ".join(words)


def measured(run: Run) -> Result:
    """The run's result, folded again from its trace without the steps of warm-up."""
    ranks = [RankSteps.of(s for s in spans if s.step >= run.first_step) for spans in run.ranks]
    seed, policy = run.experiment.run.seed, run.experiment.sync.policy
    if policy in ("asp", "ssp"):
        return joined([asynchronous(policy, ranks)], seed=seed, samples=0, workers=run.workers)
    return summarize(ranks, seed=seed, samples=0)


def unevenness(run: Run) -> float:
    """Compute time of the slowest rank over that of the fastest one, medians over steps."""
    steps = observe_steps(run)
    medians = [float(np.median(steps.compute[steps.rank == rank])) for rank in np.unique(steps.rank)]
    return max(medians) / min(medians) if min(medians) > 0 else 1.0


def iterations(run: Run) -> NDArray[np.float64]:
    """Seconds of each whole step after warm-up, mean over the ranks (steps,); of all steps where none is whole.

    Of asynchronous runs: of each update.
    """
    numbers = range(run.first_step, run.steps)
    if run.experiment.sync.policy in ("asp", "ssp"):  # every update, as it came
        made = [s for spans in run.ranks for s in spans if s.what == "step" and s.step in numbers]
        return np.array([s.seconds for s in sorted(made, key=lambda span: span.step)])
    chosen = {number for number in numbers if run.is_full(number)} or set(numbers)
    steps = [[s.seconds for s in spans if s.what == "step" and s.step in chosen] for spans in run.ranks]
    return np.asarray(np.mean(steps, axis=0))


def whole_steps(run: Run, profile: Profile) -> Profile:
    """The profile with as many examples more as make the last step of an epoch a whole one; epochs stay as long."""
    if not any(run.is_full(number) for number in range(run.first_step, run.steps)):
        return profile
    size = run.workers * run.experiment.data.batch_size * run.experiment.pipeline.accumulation
    return dataclasses.replace(profile, examples=-(-profile.examples // size) * size)


def summary(rows: Sequence[Comparison]) -> Summary | None:
    """Mean absolute percentage error and worst error as fractions, and the order of pairs; None without runs."""
    if not rows:
        return None
    worst = max(rows, key=lambda row: abs(row.error))
    pairs = right = 0
    for i, one in enumerate(rows):
        for two in rows[i + 1 :]:
            if abs(one.measured_s - two.measured_s) > DIFFERENT * min(one.measured_s, two.measured_s):
                pairs += 1
                right += (one.measured_s < two.measured_s) == (one.predicted_s < two.predicted_s)
    mape = float(np.mean([abs(row.error) for row in rows]))
    return Summary(len(rows), mape, abs(worst.error), worst.name, pairs, right)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Simulate real runs again and compare with the measurement."
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder written by 'python -m toolkit train --out'")
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--profile", metavar="P", help="profile to predict with")
    given.add_argument("--fit", nargs="+", metavar="RUN", help="runs to calibrate from (default: all that are given)")
    parser.add_argument("--max-error", type=float, metavar="E", help="exit with 1 where a MAPE is above, such as 0.2")
    parser.add_argument("--json", metavar="OUT", help="write the comparison as JSON")
    parser.add_argument("--csv", metavar="OUT", help="write it as CSV, a run a line")
    parser.add_argument("--markdown", metavar="OUT.md", help="write it as a Markdown table")
    parser.add_argument("--plot", metavar="OUT.png", help="draw predicted against measured time")


def main(args: argparse.Namespace) -> int:
    if args.max_error is not None and not args.max_error > 0:
        raise UserError(f"--max-error {args.max_error}: a fraction > 0 is wanted, such as 0.2")
    runs = _unique([load_run(folder) for folder in [*(args.fit or []), *args.runs]])
    if args.profile:
        profile = Profile.load(args.profile)
    else:
        fit = {Path(folder).resolve() for folder in args.fit or args.runs}
        profile = calibrate([run for run in runs if run.folder.resolve() in fit])
    known = {row.get("trace_sha256") for row in profile.fits.get("runs", []) if isinstance(row, dict)}
    rows = [compare(run, profile, run.digest in known) for run in runs]
    groups = {"fitted": [r for r in rows if r.fitted], "held out": [r for r in rows if not r.fitted]}
    show(groups, wide_console())
    totals = {name: summary(group) for name, group in groups.items()}
    if args.json:
        files.write(Path(args.json), files.dumped(files.to_json(groups, totals)), "--json")
    if args.csv:
        files.write(Path(args.csv), files.to_csv(groups), "--csv")
    if args.markdown:
        files.write(Path(args.markdown), files.to_markdown(groups, totals, SHARES), "--markdown")
    if args.plot:
        from simulator.plots import plot_validation

        plot_validation(rows, Path(args.plot))
    worst = max(total.mape for total in totals.values() if total)
    if args.max_error is not None and worst > args.max_error:
        Console(stderr=True).print(f"MAPE {worst:.1%} is above --max-error {args.max_error:.1%}", highlight=False)
        return 1
    return 0


def _show_disturbed(rows: Sequence[Comparison], console: Console) -> None:
    disturbed = [row for row in rows if row.others > DISTURBED]
    if disturbed:
        share = float(np.median([row.others for row in disturbed]))
        console.print(
            f"[yellow]warning[/]: others used {share:.0%} of the processors (median) during {len(disturbed)} of "
            f"{len(rows)} runs: their times are too long by what that took",
            highlight=False,
        )


def _unique(runs: Sequence[Run]) -> list[Run]:
    return list({run.folder.resolve(): run for run in runs}.values())


def show(groups: dict[str, list[Comparison]], console: Console) -> None:
    """Print measured against predicted, a run a line, and what it comes to."""
    short = {"communicate": "comm.", "optimize": "opt."}
    table = Table("run", "", title="iteration time in ms; shares of time in %, measured/predicted", pad_edge=False)
    for name in ("measured", "predicted", "error", *(short.get(s, s) for s in SHARES)):
        table.add_column(name, justify="right", no_wrap=True)
    for group, rows in groups.items():
        for row in rows:
            shares = [f"{100 * row.measured_share[s]:.0f}/{100 * row.predicted_share[s]:.0f}" for s in SHARES]
            times = (f"{row.measured_s * 1e3:.2f}", f"{row.predicted_s * 1e3:.2f}", f"{row.error:+.1%}")
            table.add_row(f"{row.name}: {row.label}", group, *times, *shares)
        table.add_section()
    console.print(table)
    for group, rows in groups.items():
        total = summary(rows)
        if total:
            order = f"; order right for {total.right} of {total.pairs} pairs" if total.pairs else ""
            console.print(
                f"{group}: mean absolute error of iteration time {total.mape:.1%} over {total.runs} run(s), "
                f"worst {total.worst:.1%} ({total.worst_run}){order}",
                highlight=False,
            )
    _show_disturbed([row for rows in groups.values() for row in rows], console)
    for row in (row for rows in groups.values() for row in rows if row.unevenness > UNEVEN):
        console.print(
            f"[yellow]warning[/]: {row.name}: one rank took {row.unevenness:.1f} times as long as another to compute: "
            "the ranks shared the cores unevenly, which is not simulated",
            highlight=False,
        )
