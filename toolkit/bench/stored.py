"""What a residual in bfloat16 costs or saves: whole compressors on it and on float32, timed in turn."""

from __future__ import annotations

import statistics

import torch
from rich.table import Table

import cext
from toolkit.bench.sides import SPARE, Sides
from toolkit.gradients.methods import WARM_UP, Method
from toolkit.gradients.timing import Times

NAMES = ("topk", "sidco-e", "sidco-p", "dgc")


def stored_rates(n: int, density: float, threads: int, rounds: int, seed: int) -> list[dict[str, float | str]]:
    """Of each compressor: ms a call with a residual in float32 and in bfloat16, and both as multiples of an add."""
    sides = Sides(n, density, threads, seed)
    return [_stored_rate(name, sides, rounds) for name in NAMES]


def _stored_rate(name: str, sides: Sides, rounds: int) -> dict[str, float | str]:
    stream = torch.from_numpy(sides.stream)
    wide, half = (Method(name, stream, sides.density, sides.threads, True, SPARE) for _ in range(2))
    assert half.residual is not None
    half.residual = half.residual.to(torch.bfloat16)
    times = Times(), Times(), Times()
    calls = wide.compress, half.compress, lambda: cext.add(sides.x, sides.residual, sides.threads)
    for turn in range(WARM_UP + rounds):
        for call, time in zip(calls, times, strict=True):
            time.measure(call)
            if turn < WARM_UP:
                time.seconds.clear()
    fp32, bf16, add = (statistics.median(time.seconds) for time in times)
    ratio = statistics.median(b / a for a, b in zip(times[0].seconds, times[1].seconds, strict=True))
    return {
        "name": name,
        "elements": sides.x.size,
        "density": sides.density,
        "fp32_ms": 1e3 * fp32,
        "bf16_ms": 1e3 * bf16,
        "fp32_adds": fp32 / add,
        "bf16_adds": bf16 / add,
        "ratio": ratio,
    }


def stored_table(rates: list[dict[str, float | str]]) -> Table:
    rows = Table(title="residuals in bfloat16 beside float32 ones: ms a call, and its multiple of one add of float32")
    columns = ("compressor", "elements", "density", "fp32 ms", "bf16 ms", "fp32 × add", "bf16 × add", "bf16 / fp32")
    for name in columns:
        rows.add_column(name, justify="left" if name == "compressor" else "right")
    for rate in rates:
        numbers = [f"{rate[key]:.2f}" for key in ("fp32_ms", "bf16_ms", "fp32_adds", "bf16_adds", "ratio")]
        rows.add_row(str(rate["name"]), f"{float(rate['elements']) / 1e6:g} M", f"{rate['density']:g}", *numbers)
    return rows
