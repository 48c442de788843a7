"""A validation as files: JSON for programs, CSV for spreadsheets, a Markdown table for people."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import UserError

if TYPE_CHECKING:
    from simulator.validate import Comparison, Summary

VALIDATION_SCHEMA = "sandtable-validation/1"
Groups = dict[str, list["Comparison"]]


def to_json(groups: Groups, totals: dict[str, Summary | None]) -> dict[str, Any]:
    """The comparison as plain data."""
    content: dict[str, Any] = {"schema": VALIDATION_SCHEMA}
    for name, rows in groups.items():
        total = totals[name]
        content[name.replace(" ", "_")] = {
            "summary": dataclasses.asdict(total) if total else None,
            "runs": [{**dataclasses.asdict(row), "error": row.error} for row in rows],
        }
    return content


def to_csv(groups: Groups) -> str:
    """A line a run: group, name, what it was, seconds, error, shares of time measured and predicted."""
    text = io.StringIO()
    shares = list(next(row for rows in groups.values() for row in rows).predicted_share)
    writer = csv.writer(text, lineterminator="\n")
    columns = ["group", "run", "label", "measured_s", "predicted_s", "error", "others"]
    writer.writerow([*columns, *(f"measured_{s}" for s in shares), *(f"predicted_{s}" for s in shares)])
    for group, rows in groups.items():
        for row in rows:
            times = [f"{row.measured_s:.6f}", f"{row.predicted_s:.6f}", f"{row.error:.4f}", f"{row.others:.3f}"]
            parts = [*(row.measured_share[s] for s in shares), *(row.predicted_share[s] for s in shares)]
            writer.writerow([group, row.name, row.label, *times, *(f"{part:.4f}" for part in parts)])
    return text.getvalue()


def to_markdown(groups: Groups, totals: dict[str, Summary | None], shares: Sequence[str]) -> str:
    """What the groups come to, then a table of all runs; shares in per cent, measured/predicted.

    others: share of the machine's processors that others used during the run.
    """
    lines = []
    for group, total in totals.items():
        if total:
            order = f"; order right for {total.right} of {total.pairs} pairs" if total.pairs else ""
            lines.append(
                f"- **{group}**, {total.runs} runs: mean absolute error {total.mape:.1%}, worst {total.worst:.1%} "
                f"(`{total.worst_run}`){order}"
            )
    titles = ["measured ms", "predicted ms", "error", *(f"{s} %" for s in shares), "others %"]
    lines += ["", "| run | | " + " | ".join(titles) + " |", "|---|---|" + "---:|" * len(titles)]
    for group, rows in groups.items():
        for row in rows:
            parts = [f"{100 * row.measured_share[s]:.0f}/{100 * row.predicted_share[s]:.0f}" for s in shares]
            times = f"{row.measured_s * 1e3:.1f} | {row.predicted_s * 1e3:.1f} | {row.error:+.1%}"
            lines.append(f"| `{row.name}` | {group} | {times} | {' | '.join(parts)} | {100 * row.others:.0f} |")
    return "\n".join(lines) + "\n"


def write(path: Path, text: str, option: str) -> None:
    """Write a file; UserError names the option where it cannot be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{option} {path}: cannot be written: {error.strerror}") from None


def dumped(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"
