"""`python -m toolkit quality`: how well SIDCo's thresholds hit the count, against what is expected of them.

1. k̂/k of every fit with 1 to 4 stages at density 0.001 without error feedback: within 10 % of a reference table.
2. With error feedback and stages that adapt, mean k̂/k over 200 steps from 0.8 to 1.25: on Laplace, normal and double
   gamma noise and on real gradients, at densities 0.1, 0.01 and 0.001.

Exits with 1 where a figure lies outside. The tests use the same functions with fewer elements.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from toolkit.compression import Context, create
from toolkit.experiment import CompressionSection, load
from toolkit.gradients.live import real_gradients
from toolkit.gradients.microbench import parse_sizes

FITS = ("e", "p", "gp")
STAGES = (1, 2, 3, 4)
DENSITIES = (0.1, 0.01, 0.001)
TABLE_DENSITY = 0.001
NOISE: dict[str, Callable[[np.random.Generator, int], NDArray[np.float64]]] = {
    "laplace": lambda rng, n: rng.laplace(size=n),
    "half-normal": lambda rng, n: np.abs(rng.standard_normal(n)),
    "gamma": lambda rng, n: rng.gamma(0.7, size=n),
    "student": lambda rng, n: rng.standard_t(3, size=n),
    "normal": lambda rng, n: rng.standard_normal(n),
    "double-gamma": lambda rng, n: rng.gamma(0.7, size=n) * rng.choice((-1.0, 1.0), size=n),
}
WITH_FEEDBACK = ("laplace", "normal", "double-gamma")
# k̂/k at density 0.001 without error feedback, with 1, 2, 3 and 4 stages; from 2 000 000 elements.
REFERENCE = {
    ("laplace", "e"): (1.00, 1.00, 0.99, 1.00),
    ("laplace", "p"): (0.99, 0.99, 0.98, 1.01),
    ("laplace", "gp"): (0.95, 0.99, 0.98, 1.01),
    ("half-normal", "e"): (0.0, 0.09, 0.70, 1.08),
    ("half-normal", "p"): (6.9, 1.24, 0.92, 0.93),
    ("half-normal", "gp"): (0.0, 1.46, 1.05, 1.06),
    ("gamma", "e"): (3.6, 1.19, 1.02, 0.99),
    ("gamma", "p"): (0.31, 0.99, 1.06, 1.05),
    ("gamma", "gp"): (0.92, 0.94, 1.01, 1.00),
    ("student", "e"): (4.7, 3.5, 1.17, 0.64),
    ("student", "p"): (1.35, 0.91, 0.92, 0.96),
    ("student", "gp"): (5.0, 0.82, 0.84, 0.88),
}
TOLERANCE = 0.10
LOW, HIGH = 0.8, 1.25


@dataclass(frozen=True)
class Figure:
    """A mean k̂/k, what was expected of it, and whether it is so."""

    what: str
    fit: str
    setting: str
    ratio: float
    expected: str
    holds: bool


def noise(name: str, seed: int, n: int) -> torch.Tensor:
    return torch.from_numpy(NOISE[name](np.random.default_rng(seed), n).astype(np.float32))


def estimated_ratio(telemetry: dict[str, float], density: float) -> float:
    """k̂/k of the threshold itself."""
    return telemetry["estimated"] / density


def table(name: str, n: int, seeds: int) -> Iterator[Figure]:
    """Means over the seeds for one kind of noise, every fit and number of stages."""
    total = {(fit, stages): 0.0 for fit in FITS for stages in STAGES}
    for seed in range(seeds):
        x = noise(name, seed, n)
        for fit, stages in total:
            compressor = create(CompressionSection(name=f"sidco-{fit}", stages=stages), n)
            compressor.select(x, Context("bucket", 0, TABLE_DENSITY))
            total[fit, stages] += estimated_ratio(compressor.telemetry, TABLE_DENSITY) / seeds
    for (fit, stages), mean in total.items():
        expected = REFERENCE[name, fit][stages - 1]
        # Where the table says next to nothing, a tenth of it is less than the noise: there, small is what is asked.
        good = abs(mean / expected - 1) <= TOLERANCE if expected >= 0.5 else mean < expected + 0.05
        yield Figure(name, fit, f"M={stages}", mean, f"{expected:g}", good)


def feedback(gradients: Iterable[torch.Tensor], fit: str, density: float) -> tuple[float, float]:
    """Mean k̂/k over a run with error feedback and adaptive stages: of what was sent, and of the thresholds alone."""
    sent, estimated = [], []
    compressor = residual = None
    for step, gradient in enumerate(gradients):
        n = gradient.numel()
        if compressor is None or residual is None:
            compressor, residual = create(CompressionSection(name=f"sidco-{fit}"), n), torch.zeros(n)
        compressor.select_feedback(gradient, residual, Context("bucket", step, density))
        sent.append(compressor.telemetry["selected"] / (density * n))
        estimated.append(estimated_ratio(compressor.telemetry, density))
    return float(np.mean(sent)), float(np.mean(estimated))


def fresh_noise(name: str, n: int, steps: int) -> Iterator[torch.Tensor]:
    """A vector (n,) a step, cut at random places from one that is four times as long: quick to make."""
    pool, places = noise(name, 1000, 4 * n), np.random.default_rng(7)
    for _ in range(steps):
        start = int(places.integers(0, 3 * n))
        yield pool[start : start + n]


def judged(name: str, fit: str, density: float, ratios: tuple[float, float]) -> Iterator[Figure]:
    for which, ratio in zip(("sent", "estimated"), ratios, strict=True):
        setting = f"density {density:g}, {which}"
        yield Figure(name, fit, setting, ratio, f"{LOW:g} to {HIGH:g}", LOW <= ratio <= HIGH)


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m toolkit quality", description="k̂/k of SIDCo's estimators.")
    parser.add_argument("files", nargs="*", help="experiments whose real gradients are taken (default: those in grads)")
    parser.add_argument("--elements", default="2M", help="of the noise (default 2M)")
    parser.add_argument("--seeds", type=int, default=4, help="of the table (default 4)")
    parser.add_argument("--steps", type=int, default=200, help="with error feedback (default 200)")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    args = arguments(argv)
    (n,) = parse_sizes(args.elements)[:1]
    files = args.files or [str(Path("grads") / f"{name}.toml") for name in ("lenet", "charlstm")]
    experiments = [load(file) for file in files]
    console, figures = Console(width=100), []
    for name in track(dict.fromkeys(name for name, _ in REFERENCE), description="without feedback", transient=True):
        figures += list(table(name, n, args.seeds))
    cases = [(fit, density) for fit in FITS for density in DENSITIES]
    for name in track(WITH_FEEDBACK, description="noise with feedback", transient=True):
        for fit, density in cases:
            figures += judged(name, fit, density, feedback(fresh_noise(name, n, args.steps), fit, density))
    for experiment in track(experiments, description="real gradients with feedback", transient=True):
        gradients = list(real_gradients(experiment, args.steps))
        for fit, density in cases:
            name = f"{experiment.model.name} on {experiment.data.name}"
            figures += judged(name, fit, density, feedback(gradients, fit, density))
    rows = Table(title=f"mean k̂/k: {n} elements, {args.seeds} seeds, {args.steps} steps with error feedback")
    for column in ("data", "fit", "setting", "k̂/k", "expected", ""):
        rows.add_column(column, justify="right" if column == "k̂/k" else "left")
    for f in figures:
        rows.add_row(f.what, f.fit, f.setting, f"{f.ratio:.2f}", f.expected, "holds" if f.holds else "[red]outside")
    console.print(rows)
    outside = sum(not f.holds for f in figures)
    console.print(f"{len(figures) - outside} of {len(figures)} hold")
    return 1 if outside else 0
