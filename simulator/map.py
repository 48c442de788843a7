"""Where compression pays: one experiment on many clusters, each compressor against the dense exchange.

`python -m simulator map FILE --profile P --workers 4,8,16 --bandwidths "100 Mbit/s,1 Gbit/s" --compressors none,topk`.
A speed-up compares iteration times at equal workers and bandwidth; it says nothing of the steps that a model needs.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from simulator import margin
from simulator.calibrate import wide_console
from simulator.job import simulate
from simulator.plan import build
from simulator.profile import Profile
from toolkit import experiment as experiments
from toolkit import registry, units
from toolkit.errors import UserError
from toolkit.experiment import Experiment

PHASES = 4  # of Horovod's cycle, over which times are averaged


@dataclass(frozen=True)
class Choice:
    """A compressor and its density; `density` is None where the experiment file's holds."""

    name: str
    density: float | None = None

    @property
    def label(self) -> str:
        return self.name if self.density is None else f"{self.name} {self.density:g}"


@dataclass(frozen=True)
class Cell:
    """One cluster with one compressor. bandwidth in bytes/s, times in s, shares of the workers' time."""

    workers: int
    bandwidth: float
    choice: Choice
    density: float
    iteration_s: float
    samples_per_s: float
    bytes_per_step: float
    communicate_share: float
    compress_share: float
    speedup: float


@dataclass(frozen=True)
class Map:
    """All cells of a sweep over clusters, and what it was a sweep of."""

    experiment: Experiment
    measured: bool
    cells: tuple[Cell, ...]
    pays_from: float = margin.LEAST  # speed-up from which compression pays; below its inverse it costs

    def at(self, workers: int, bandwidth: float, choice: Choice) -> Cell:
        wanted = (workers, bandwidth, choice)
        return next(cell for cell in self.cells if (cell.workers, cell.bandwidth, cell.choice) == wanted)

    @property
    def workers(self) -> list[int]:
        return sorted({cell.workers for cell in self.cells})

    @property
    def bandwidths(self) -> list[float]:
        return sorted({cell.bandwidth for cell in self.cells})

    @property
    def compressors(self) -> list[Choice]:
        """The choices beside the dense exchange, in the order in which they were given."""
        return [choice for choice in dict.fromkeys(cell.choice for cell in self.cells) if choice.name != "none"]


def sweep(
    experiment: Experiment,
    profile: Profile | None,
    workers: Sequence[int],
    bandwidths: Sequence[float],
    choices: Sequence[Choice],
    source: str = "experiment",
) -> Map:
    """Simulate every combination. bandwidths in bytes/s. Every worker has whole batches in every step.

    A data set that is too small for the largest cluster would make the batches shrink, which is another question.
    Raises UserError.
    """
    choices = list(dict.fromkeys([Choice("none"), *choices]))
    if profile is None:
        profile = build(experiment, source=source).profile
    cells = []
    for count in workers:
        enough = _with_examples(experiment, profile, count)
        for bandwidth in bandwidths:
            dense = 0.0
            for choice in choices:
                cluster = {"workers": count, "bandwidth": bandwidth}
                cell = _cell(experiment.replace(cluster=cluster), enough, choice, source, dense)
                dense = dense or cell.iteration_s
                cells.append(cell)
    return Map(experiment, profile.source == "measured", tuple(cells))


def _with_examples(experiment: Experiment, profile: Profile, workers: int) -> Profile:
    """The profile with a data set that every worker gets whole batches of in every step."""
    steps = max(1, experiment.run.steps or experiment.run.epochs)
    whole = workers * experiment.data.batch_size * experiment.pipeline.accumulation * steps
    return dataclasses.replace(profile, examples=max(whole, profile.examples // whole * whole))


def _cell(experiment: Experiment, profile: Profile, choice: Choice, source: str, dense: float) -> Cell:
    section = {"name": choice.name, "exchange": "auto"}
    density = {} if choice.density is None else {"density": choice.density}
    compressed = experiment.replace(compression={**section, **density})
    result = simulate(compressed, profile, source=source)
    iteration = _over_phases(compressed, profile, source)
    return Cell(
        workers=experiment.cluster.workers,
        bandwidth=experiment.cluster.bandwidth,
        choice=choice,
        density=1.0 if compressed.exchange == "dense" else compressed.compression.density,
        iteration_s=iteration,
        samples_per_s=result.samples_per_s * result.iteration_time_s["mean"] / iteration,
        bytes_per_step=result.bytes_sent_per_worker / max(1, result.steps),
        communicate_share=result.time_share["communicate"],
        compress_share=result.time_share["compress"],
        speedup=(dense or iteration) / iteration,
    )


def _over_phases(experiment: Experiment, profile: Profile, source: str) -> float:
    """Iteration time in s, mean over the phase in which a step's exchange meets Horovod's cycle.

    Without jitter every step meets the cycle in the same phase, so that a compressor could win or lose up to a cycle by
    luck. A step that is longer by a share of the cycle meets it in another phase; the share is taken off again.
    """
    times = []
    for share in range(PHASES):
        shift = share / PHASES * experiment.cluster.cycle_time
        shifted = dataclasses.replace(profile, step_s=profile.step_s + shift)
        result = simulate(experiment, shifted, source=source)
        times.append(result.iteration_time_s["mean"] - shift * result.sections["simulation"]["compute_stretch"])
    return sum(times) / PHASES


def verdict(cells: Sequence[Cell], pays_from: float = margin.LEAST) -> str:
    """What a cluster's compressed cells come to, in a few words."""
    best = max(cells, key=lambda cell: cell.speedup)
    if best.speedup >= pays_from:
        return f"pays: {best.choice.label} ×{best.speedup:.2f}"
    if best.speedup > 1 / pays_from:
        return "no clear difference"
    return f"costs: ×{best.speedup:.2f} at best"


def parse_choices(text: str) -> list[Choice]:
    """`none,topk,sidco-e:0.001`; UserError for an unknown compressor or a density out of (0, 1]."""
    choices = []
    for part in (part.strip() for part in text.split(",")):
        name, colon, density = part.partition(":")
        registry.check_name("--compressors", name, registry.COMPRESSORS)
        try:
            value = float(density) if colon else None
        except ValueError:
            value = -1.0
        if value is not None and not 0 < value <= 1:
            raise UserError(f"--compressors {part}: a density in (0, 1] is wanted after ':'")
        choices.append(Choice(name, value))
    return choices


def parse_workers(text: str) -> list[int]:
    """`4,8,16`; UserError for anything but whole numbers from 1."""
    numbers = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) >= 1 for part in numbers):
        raise UserError(f"--workers {text}: whole numbers >= 1, separated by commas, are wanted")
    return sorted({int(part) for part in numbers})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Simulate an experiment on many clusters: where does compression pay?"
    parser.add_argument("file", help="experiment file (TOML)")
    parser.add_argument("--profile", metavar="P", help="measured profile (default: derived from FLOPs and [cluster])")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override a key")
    parser.add_argument("--workers", default="4,8,16,32,64", help="numbers of workers, separated by commas")
    parser.add_argument("--bandwidths", default="100 Mbit/s,1 Gbit/s,10 Gbit/s", help="rates, separated by commas")
    parser.add_argument("--compressors", default="none,topk,sidco-e", help="names or name:density, by commas")
    parser.add_argument(
        "--validation", metavar="V", help="a file of validate --json: differences within its error count not"
    )
    parser.add_argument("--csv", metavar="OUT", help="write a row a cluster and compressor")
    parser.add_argument("--plot", metavar="OUT.png", help="draw the map")


def main(args: argparse.Namespace) -> int:
    experiment = experiments.load(args.file, args.set)
    profile = Profile.load(args.profile) if args.profile else None
    rates = [units.parse("rate", part.strip(), "--bandwidths") for part in args.bandwidths.split(",")]
    if min(rates) <= 0:
        raise UserError(f"--bandwidths {args.bandwidths}: rates > 0 are wanted")
    choices = parse_choices(args.compressors)
    if all(choice.name == "none" for choice in choices):
        raise UserError(f"--compressors {args.compressors}: at least one beside 'none' is wanted")
    pays_from = margin.pays_from(args.validation)
    found = sweep(experiment, profile, parse_workers(args.workers), rates, choices, args.file)
    found = dataclasses.replace(found, pays_from=pays_from)
    show(found, wide_console())
    if args.csv:
        write_csv(found, Path(args.csv))
    if args.plot:
        from simulator.plots import plot_map

        plot_map(found, Path(args.plot))
    return 0


def show(found: Map, console: Console) -> None:
    """Print a cluster a line: dense iteration time and its communication, each speed-up, and the verdict."""
    experiment = found.experiment
    source = "measured here" if found.measured else "derived from FLOPs"
    title = f"{experiment.model.name}, batch {experiment.data.batch_size} a worker; computation {source}"
    table = Table("bandwidth", title=title, pad_edge=False)
    for name in ("workers", "dense", "in communication", *(choice.label for choice in found.compressors)):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("compression", no_wrap=True)
    for bandwidth in found.bandwidths:
        for workers in found.workers:
            dense = found.at(workers, bandwidth, Choice("none"))
            cells = [found.at(workers, bandwidth, choice) for choice in found.compressors]
            times = (f"{dense.iteration_s * 1e3:.1f} ms", f"{dense.communicate_share:.0%}")
            speedups = [f"×{cell.speedup:.2f}" for cell in cells]
            table.add_row(
                units.render("rate", bandwidth), str(workers), *times, *speedups, verdict(cells, found.pays_from)
            )
        table.add_section()
    console.print(table)
    note = f"no clear difference: a speed-up below ×{found.pays_from:.2f}"
    console.print(f"{note}, within the measured error of the simulation" if found.pays_from > margin.LEAST else note)


def write_csv(found: Map, path: Path) -> None:
    """A row a cell; rates in bytes/s, times in s. UserError where the file cannot be written."""
    names = [field.name for field in dataclasses.fields(Cell)]
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["compressor" if name == "choice" else name for name in names])
            for cell in found.cells:
                row = {**vars(cell), "choice": cell.choice.name}
                writer.writerow([row[name] for name in names])
    except OSError as error:
        raise UserError(f"--csv {path}: cannot be written: {error.strerror}") from None
