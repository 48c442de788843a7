"""`python -m toolkit gradstats grads`: how well SIDCo's fits describe saved gradients, over the iterations of a run.

For every gradient (or, with --feedback, for gradient plus residual of a compressed run that is replayed on the saved
gradients in their order): the Kolmogorov distance of each fit to the magnitudes, and k̂/k, the achieved over the wanted
count, of every estimator, as in the SIDCo paper's figures of fitting. Without feedback every file stands for itself and
SIDCo runs with 1, 2, 3 and 4 stages; with feedback its stages adapt from file to file, so give it consecutive steps, or
let it make them: --live EXPERIMENT trains that network here, dense, and studies each of its steps with feedback.
Writes gradstats.csv and, a series, a figure of histograms and one of k̂/k.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from toolkit.compression import Compressor, Context, create, fits
from toolkit.compression.fits import FITS
from toolkit.errors import UserError
from toolkit.experiment import CompressionSection, load
from toolkit.gradients import figures, store
from toolkit.gradients.capture import parse_numbers
from toolkit.gradients.live import save_real
from toolkit.gradients.microbench import parse_densities
from toolkit.gradients.store import GradientFile
from toolkit.registry import COMPRESSORS, check_name

ESTIMATORS = tuple(
    name
    for name, entry in COMPRESSORS.items()
    if entry.wire == "sparse" and not entry.exact_count and name != "threshold"
)
DRAWN = 4_000  # magnitudes that a distance is computed on, evenly taken from the sorted ones: exact to 1 in 4000


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit gradstats", description="Fit and plot the distributions of saved gradients."
    )
    parser.add_argument("grads", nargs="*", default=["grads"], help="saved gradients: files or folders (default grads)")
    parser.add_argument("--densities", default="0.1,0.01,0.001", help="default 0.1,0.01,0.001")
    parser.add_argument("--methods", default=",".join(ESTIMATORS), help="default " + ",".join(ESTIMATORS))
    parser.add_argument("--feedback", action="store_true", help="replay error feedback over the files of a series")
    parser.add_argument(
        "--live", metavar="FILE", help="study the steps of this experiment, trained here, with feedback"
    )
    parser.add_argument("--steps", type=int, default=200, help="steps of --live (default 200)")
    parser.add_argument("--stages", help="SIDCo's stages: 1,2,3,4, and 0 adapts them (default: 0 with --feedback)")
    parser.add_argument("--out", type=Path, default=Path("runs/gradstats"), help="folder (default runs/gradstats)")
    return parser.parse_args(argv)


def kolmogorov_distance(fit: str, magnitudes: NDArray[np.float64]) -> float:
    """Largest difference of the distribution functions of the fit and of the sorted magnitudes (n,)."""
    shape = figures.shape_of(magnitudes)
    n = magnitudes.size
    places = np.unique(np.linspace(0, n - 1, min(n, DRAWN)).astype(np.int64))
    values = magnitudes[places]
    fitted = 1.0 - np.array([fits.survival(fit, shape, value) for value in values])
    below = np.searchsorted(magnitudes, values, "left") / n
    upto = np.searchsorted(magnitudes, values, "right") / n
    # At an atom the fit lies at one point and the data jump: both ends of the jump count.
    return float(np.maximum(np.abs(fitted - below), np.abs(fitted - upto)).max())


class Replay:
    """One estimator at one density over the files of a series, with its own state and, with feedback, residual."""

    def __init__(self, section: CompressionSection, elements: int, feedback: bool) -> None:
        self.density = section.density
        self.name = section.name + (f" M={section.stages}" if section.stages else "")
        self.compressor: Compressor = create(section, elements)
        self.residual = torch.zeros(elements) if feedback else None

    def step(self, gradient: torch.Tensor, iteration: int) -> dict[str, Any]:
        context = Context(self.name, iteration, self.density)
        if self.residual is None:
            self.compressor.select(gradient, context)
        else:
            self.compressor.select_feedback(gradient, self.residual, context)
        told = self.compressor.telemetry
        elements = told["elements"]
        return {
            "method": self.name,
            "density": self.density,
            "count_ratio": told["selected"] / (self.density * elements),
            "estimated_ratio": told.get("estimated", told["selected"] / elements) / self.density,
            "stages": int(told.get("stages", 1)),
        }


def study(files: list[GradientFile], args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows of one series: a row a gradient and fit (distance), and a row a gradient, estimator and density (counts)."""
    elements = store.load(files[0].path).size
    replays = [Replay(section, elements, args.feedback) for section in _sections(args)]
    for file in track(files, description=files[0].series):
        gradient = store.load(file.path)
        if gradient.size != elements:
            raise UserError(f"{file.path}: {gradient.size} elements, but {files[0].path} has {elements}")
        who = {"series": file.series, "iteration": file.iteration, "elements": elements}
        magnitudes = np.sort(np.abs(gradient).astype(np.float64))
        if not np.isfinite(magnitudes[-1]):
            raise UserError(f"{file.path}: holds NaN or infinity, which no distribution describes")
        if magnitudes[-1] > 0:
            zeros = float(np.searchsorted(magnitudes, 0.0, "right")) / elements
            for fit in FITS:
                yield {**who, "fit": fit, "distance": kolmogorov_distance(fit, magnitudes), "zeros": zeros}
        for replay in replays:
            yield {**who, **replay.step(torch.from_numpy(gradient), file.iteration)}


def main(argv: list[str]) -> int:
    args = arguments(argv)
    args.feedback = args.feedback or bool(args.live)
    _sections(args)  # a wrong option is told before anything is read
    if not args.live:
        return study_all(store.find(args.grads), args)
    if args.steps < 1:
        raise UserError(f"--steps {args.steps}: at least 1 is wanted")
    with tempfile.TemporaryDirectory() as folder:
        return study_all(save_real(load(args.live), args.steps, Path(folder)), args)


def study_all(found: list[GradientFile], args: argparse.Namespace) -> int:
    """Tables, figures and the CSV of every series."""
    args.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    console = Console() if Console().is_terminal else Console(width=120)
    for series, files in store.by_series(found).items():
        mine = list(study(files, args))
        rows += mine
        _print(console, series, mine, args)
        picked = [files[i] for i in sorted({0, len(files) // 3, 2 * len(files) // 3, len(files) - 1})]
        figures.histograms(series, picked, args.out / f"{series}_histograms.png")
        figures.counts(
            series, [row for row in mine if "method" in row], args.feedback, args.out / f"{series}_counts.png"
        )
    _write(rows, args.out / "gradstats.csv")
    console.print(f"{args.out}: gradstats.csv and two figures a series written")
    return 0


def _sections(args: argparse.Namespace) -> list[CompressionSection]:
    """One a method, number of stages and density; UserError names a wrong option."""
    sparse = [name for name, entry in COMPRESSORS.items() if entry.wire == "sparse"]
    names = [check_name("--methods", name.strip(), sparse) for name in args.methods.split(",")]
    stages = parse_numbers("--stages", args.stages or ("0" if args.feedback else "1,2,3,4"))
    if stages[-1] > 32:
        raise UserError(f"--stages {args.stages}: 0 (adapt) to 32 are allowed")
    return [
        CompressionSection(name=name, density=density, stages=number)
        for name in names
        for density in parse_densities(args.densities)
        for number in (stages if name.startswith("sidco") else [0])
    ]


def _print(console: Console, series: str, rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    distances = [row for row in rows if "fit" in row]
    counts = [row for row in rows if "method" in row]
    elements = rows[0]["elements"]
    iterations = len({row["iteration"] for row in rows})
    how = "with error feedback" if args.feedback else "without error feedback"
    table = Table(title=f"{series}: {elements} elements, {iterations} iterations, {how}")
    for column in ("fit or method", "density", "Kolmogorov distance", "mean k̂/k", "smallest", "largest", "stages"):
        table.add_column(column, justify="left" if column == "fit or method" else "right")
    for fit in FITS:
        mine = [row["distance"] for row in distances if row["fit"] == fit]
        if mine:
            table.add_row(fit, "", f"{np.mean(mine):.3f}", "", "", "", "")
    for method, density in dict.fromkeys((row["method"], row["density"]) for row in counts):
        same = [row for row in counts if row["method"] == method and row["density"] == density]
        ratios, stages = [row["count_ratio"] for row in same], [row["stages"] for row in same]
        spread = f"{min(stages)}-{max(stages)}" if min(stages) < max(stages) else f"{stages[0]}"
        cells = (f"{np.mean(ratios):.2f}", f"{min(ratios):.2f}", f"{max(ratios):.2f}", spread)
        table.add_row(method, f"{density:g}", "", *cells)
    console.print(table)


def _write(rows: list[dict[str, Any]], path: Path) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=names)
        writer.writeheader()
        writer.writerows(rows)
