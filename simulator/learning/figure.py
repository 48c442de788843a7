"""Test accuracy against simulated time, a line a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from simulator.plots import save


def draw(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Switches are dotted lines in the colour of their run."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for result in results:
        tests = result["training"]["evaluations"]
        times, seen = [row["time_s"] for row in tests], [row["accuracy"] for row in tests]
        lines = axes.plot(times, seen, "-o", markersize=3, label=f"seed {result['seed']}")
        for event in result["events"]:
            if event["kind"] == "switch":
                axes.axvline(event["time_s"], linestyle=":", linewidth=0.8, color=lines[0].get_color())
    axes.set(xlabel="simulated seconds", ylabel="test accuracy")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    save(figure, path)
