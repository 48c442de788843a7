"""The bench on a GPU: compressors on the Triton passes beside torch.topk, all with error feedback, on CUDA tensors.

Sides are timed in turn, from an idle device until it is idle again. What a step needs is in the time: the addition of
the gradient, the selection, the zeros where something was taken. No goals: these are ratios to look at.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from toolkit.compression.passes import triton_passes
from toolkit.gradients.methods import CHECKED, WARM_UP, Method, validate
from toolkit.gradients.timing import Times

METHODS = ("topk", "sidco-e", "sidco-p", "sidco-gp")
BASE = "torch-topk"
SPARE = 1 << 20  # elements by which the noise is longer than a vector: every call gets another part of it


@dataclass(frozen=True)
class Row:
    """One method at one size and density. ms, base_ms: medians of its own and of torch.topk's milliseconds; faster:
    median over the rounds of torch.topk's time over its own, low and high the extremes; count_ratio: k̂/k of the last.
    """

    method: str
    elements: int
    density: float
    ms: float
    base_ms: float
    faster: float
    low: float
    high: float
    count_ratio: float


def report(sizes: Sequence[int], densities: Sequence[float], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure and print, or say in one line why not; the rows as plain values."""
    if not torch.cuda.is_available():
        print("no GPU here: the passes on CUDA tensors (Triton) are not measured")
        return []
    if triton_passes() is None:
        print("Triton is not installed: its passes on CUDA tensors are not measured")
        return []
    chosen = [name for name in METHODS if args.only in f"triton:{name}"]
    rows = [
        row
        for n in sizes
        for density in densities
        for row in measure(n, density, args.rounds, args.seed, torch.device("cuda"), chosen)
    ]
    if rows:
        Console(width=110).print(table(rows, torch.cuda.get_device_name()))
    return [asdict(row) for row in rows]


def measure(
    n: int,
    density: float,
    rounds: int,
    seed: int,
    device: torch.device,
    names: Sequence[str] = METHODS,
    warm_up: int = WARM_UP,
) -> list[Row]:
    """Validate each method against the NumPy reference, then time all in turn; RuntimeError where one is wrong."""
    noise = torch.randn(n + SPARE, generator=torch.Generator().manual_seed(seed))
    for name in names:
        validate(f"triton:{name}", noise[: min(n, CHECKED)].clone(), density, 1, device)
    x = noise.to(device)
    sides = {name: Method(_side(name), x, density, 1, feedback=True, spare=SPARE) for name in (*names, BASE)}
    times = {name: Times() for name in sides}
    for side in sides.values():
        for _ in range(warm_up):
            side.compress()
    for _ in range(rounds):
        for name, side in sides.items():
            _wait(device)
            times[name].measure(_until_idle(side, device))
    return [_row(name, side, times[name], times[BASE]) for name, side in sides.items() if name != BASE]


def _side(name: str) -> str:
    return name if name == BASE else f"triton:{name}"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _until_idle(side: Method, device: torch.device) -> Callable[[], None]:
    def call() -> None:
        side.compress()
        _wait(device)

    return call


def _row(name: str, side: Method, times: Times, base: Times) -> Row:
    ratios = [b / own for own, b in zip(times.seconds, base.seconds, strict=True)]
    told = side.compressor.telemetry
    count = told["selected"] / max(1.0, told["elements"] * told["density"])
    milliseconds = (1e3 * times.median, 1e3 * base.median)
    spread = (statistics.median(ratios), min(ratios), max(ratios))
    return Row(name, side.elements, side.density, *milliseconds, *spread, count_ratio=count)


def table(rows: Sequence[Row], device: str) -> Table:
    """One line a row."""
    shown = Table(title=f"{device}: Triton with error feedback, in turn with torch.topk; medians over the rounds")
    for name in ("method", "elements", "density", "ms", "torch.topk ms", "times faster", "min–max", "k̂/k"):
        shown.add_column(name, justify="left" if name == "method" else "right")
    for row in rows:
        numbers = [f"{row.ms:.3f}", f"{row.base_ms:.3f}", f"{row.faster:.2f}", f"{row.low:.2f}–{row.high:.2f}"]
        elements = f"{row.elements / 1e6:g} M"
        shown.add_row(row.method, elements, f"{row.density:g}", *numbers, f"{row.count_ratio:.2f}")
    return shown
