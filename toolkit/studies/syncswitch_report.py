"""Table of the synchronisation study, and the published claims held against it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.studies.intervals import Mean, mean
from toolkit.studies.syncswitch_figure import figure
from toolkit.studies.syncswitch_rows import Row, Setting

BETA = 0.01  # accuracy that Sync-Switch lets a switch cost (ICDCS 2021, timing policy)


@dataclass(frozen=True)
class Claim:
    """A published claim about two settings, seed by seed.

    quantity: "accuracy", a difference one - other, or "seconds", a ratio one / other. sign: +1 where it is claimed to
    lie above `limit`, -1 below. published: the same number from exp1 (8 workers, ResNet-32 on CIFAR-10).
    """

    text: str
    quantity: str
    one: str
    other: str
    sign: int
    limit: float
    published: float


CLAIMS = (
    Claim("ASP is less accurate than BSP", "accuracy", "asp", "bsp", -1, 0.0, 0.8918 - 0.9188),
    Claim(
        "6.25 % of BSP first keep BSP's accuracy within 0.01", "accuracy", "10@0.0625", "bsp", 1, -BETA, 0.9174 - 0.9188
    ),
    Claim("6.25 % of BSP first are more accurate than none", "accuracy", "10@0.0625", "asp", 1, 0.0, 0.9174 - 0.8918),
    Claim("50 % of BSP first are more accurate than last", "accuracy", "10@0.5", "01@0.5", 1, 0.0, 0.9202 - 0.891),
    Claim("ASP takes less time than BSP", "seconds", "asp", "bsp", -1, 1.0, 1561 / 10658),
    Claim("6.25 % of BSP first take less time than BSP", "seconds", "10@0.0625", "bsp", -1, 1.0, 2053 / 10658),
)


def report(rows: Sequence[Row], out: Path) -> None:
    """syncswitch.md and a figure a task in `out`, and the table on the terminal."""
    text = tables(rows)
    (out / "syncswitch.md").write_text(text, encoding="utf-8")
    print(text)
    for task in dict.fromkeys(row.task for row in rows):
        figure([row for row in rows if row.task == task], out / f"syncswitch_{task}.png")


def tables(rows: Sequence[Row]) -> str:
    """Markdown of all tasks and clusters."""
    parts = []
    for task in dict.fromkeys(row.task for row in rows):
        for factor in dict.fromkeys(row.factor for row in rows if row.task == task):
            mine = [row for row in rows if (row.task, row.factor) == (task, factor)]
            slow = f"one worker computes {factor} times as long" if factor != 1 else "all workers are alike"
            parts += [f"### {task}, {slow}", table(mine), claims(mine)]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(rows: Sequence[Row]) -> str:
    """A line a setting; intervals are Student's t, 95 %, over the seeds."""
    lines = [
        "| setting | test accuracy | less BSP's | test loss | time (s) | over BSP's | staleness |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row.setting for row in rows):
        mine = [row for row in rows if row.setting == name]
        lost = sum(not math.isfinite(row.loss) for row in mine)
        cells = [
            Setting.parse(name).label,
            _told(mean([row.accuracy for row in mine]), 4),
            "" if name == "bsp" else _told(mean(paired(rows, "accuracy", name, "bsp")), 4, "+"),
            f"{lost} of {len(mine)} diverged" if lost else _told(mean([row.loss for row in mine]), 4),
            _told(mean([row.seconds for row in mine]), 2),
            "" if name == "bsp" else _told(mean(paired(rows, "seconds", name, "bsp")), 3),
            f"{mean([row.staleness for row in mine]).value:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def claims(rows: Sequence[Row]) -> str:
    """A line a claim whose two settings were run: published, measured, and whether it appears."""
    lines = ["| published claim | there | here | appears |", "|---|---|---|---|"]
    for claim in CLAIMS:
        found = paired(rows, claim.quantity, claim.one, claim.other)
        if found:
            sign = "+" if claim.quantity == "accuracy" else ""
            digits = 4 if claim.quantity == "accuracy" else 3
            told = f"{claim.published:{sign}.{digits}f} | {_told(mean(found), digits, sign)}"
            lines.append(f"| {claim.text} | {told} | {verdict(claim, mean(found))} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def verdict(claim: Claim, found: Mean) -> str:
    """Whether the whole interval lies on the claimed side of the limit, on the other, or on both."""
    held, against = (found.above, found.below) if claim.sign > 0 else (found.below, found.above)
    return "yes" if held(claim.limit) else "no, the opposite" if against(claim.limit) else "not to be told"


def paired(rows: Sequence[Row], quantity: str, one: str, other: str) -> list[float]:
    """Seed by seed, where both were run: differences of accuracies, ratios of seconds."""
    base = {row.seed: getattr(row, quantity) for row in rows if row.setting == other}
    own = [(getattr(row, quantity), base[row.seed]) for row in rows if row.setting == one and row.seed in base]
    return [a - b if quantity == "accuracy" else a / b for a, b in own]


def _told(found: Mean, digits: int, sign: str = "") -> str:
    half = "" if math.isnan(found.half) else f" ± {found.half:.{digits}f}"
    return f"{found.value:{sign}.{digits}f}{half}"
