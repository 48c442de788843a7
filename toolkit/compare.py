"""`python -m toolkit compare RUN…`: finished runs side by side, real or simulated."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from toolkit.errors import UserError
from toolkit.trace.result import RESULT_SCHEMA, SHARES


def read_result(path: Path) -> dict[str, Any]:
    """The result of a run folder or of a result file; UserError names the file and what is wrong with it."""
    file = path / "result.json" if path.is_dir() else path
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file}: no such result; a finished run folder or its result.json is wanted") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read: {error}") from None
    if not isinstance(result, dict) or result.get("schema") != RESULT_SCHEMA:
        raise UserError(f"{file}: not a result: schema '{RESULT_SCHEMA}' is wanted")
    return result


def table(results: list[tuple[str, dict[str, Any]]]) -> Table:
    """One row a run; times are milliseconds a step and worker, speed-ups are against the first run."""
    rows = Table(title="time in ms a step and worker; speed-up against the first row")
    rows.add_column("run")
    for name in ("first loss", "test loss", "accuracy", "MB sent", "density", *SHARES, "step", "speed-up"):
        rows.add_column(name, justify="right")
    base = results[0][1]["iteration_time_s"]["mean"]
    for name, result in results:
        training, step = result.get("training"), result["iteration_time_s"]["mean"]
        shares = [f"{result['time_share'][share] * step * 1e3:.2f}" for share in SHARES]
        learned = ["-"] * 3
        if training:
            learned = [f"{training['losses'][0]:.3f}", f"{training['loss']:.3f}", f"{training['accuracy']:.3f}"]
        density = result.get("compression", {}).get("achieved_density")
        sent = f"{result['bytes_sent_per_worker'] / 1e6:.3f}"
        row = [*learned, sent, "-" if density is None else f"{density:.4f}", *shares, f"{step * 1e3:.2f}"]
        rows.add_row(name, *row, f"{base / step:.2f}x")
    return rows


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m toolkit compare", description="Finished runs side by side.")
    parser.add_argument("runs", nargs="+", type=Path, help="run folders or result files")
    args = parser.parse_args(argv)
    console = Console(width=170)
    console.print(table([(path.name, read_result(path)) for path in args.runs]))
    return 0
