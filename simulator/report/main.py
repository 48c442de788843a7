"""`python -m simulator report SOURCE --out PAGE.html`: one self-contained page of a run or of a sweep.

SOURCE is a run folder, real (toolkit train --out) or simulated (simulator run --trace FOLDER), or a CSV that a sweep
wrote. With --profile a real run is simulated again, and both timelines stand above each other.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulator.job import run_plan
from simulator.output import write_text
from simulator.plan import build
from simulator.profile import Profile
from simulator.report import figures
from simulator.sweep import FINGERPRINT
from simulator.sweep import MEASURES as SWEPT
from simulator.terminal import console, duration
from toolkit.errors import UserError
from toolkit.experiment import load
from toolkit.trace import RankSteps, Span, read_run, summarize

MOST_EVENTS = 200


@dataclass
class Section:
    """A part of the page: any of text, figure, table and folded code."""

    title: str
    text: str = ""
    svg: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    summary: str = ""
    code: str = ""


@dataclass
class Shown:
    """One run on the page: its result and the spans of its workers."""

    name: str
    result: dict[str, Any]
    ranks: list[list[Span]] = field(repr=False)

    def iterations(self) -> list[float]:
        """Seconds of worker 0's steps."""
        return [span.seconds for span in self.ranks[0] if span.what == "step"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="run folder, or the CSV of a sweep")
    parser.add_argument("--out", type=Path, required=True, metavar="PAGE.html", help="the page")
    parser.add_argument("--profile", help="simulate the run again with these measured costs, beside it")


def main(args: argparse.Namespace) -> int:
    if args.source.is_dir():
        title, subtitle, sections = of_run(args.source, args.profile)
    else:
        title, subtitle, sections = of_sweep(args.source)
    write_text(args.out, render(title, subtitle, sections))
    console().print(f"{title}: {args.out}", highlight=False)
    return 0


def render(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The page. Text is escaped; nothing is loaded from elsewhere."""
    import jinja2  # slow to import

    template = Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True)
    return environment.from_string(template).render(title=title, subtitle=subtitle, sections=sections) + "\n"


def of_run(folder: Path, profile: str | None) -> tuple[str, str, list[Section]]:
    """Title, subtitle and sections of a run folder; UserError where it is none."""
    header, ranks = read_run(folder)
    path, real = folder / "result.json", (folder / "environment.json").exists()
    try:
        result = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    if result is None:
        result = summarize([RankSteps.of(spans) for spans in ranks], seed=0, samples=0).to_json()
    shown = [Shown("measured" if real else "simulated", result, ranks)]
    if profile:
        shown.append(_again(folder, profile, len(ranks)))
    title = f"{header['model']}, {header['workers']} workers, {result['steps']} steps"
    return title, f"{shown[0].name} run {folder.name}", _sections(folder, shown)


def _again(folder: Path, path: str, workers: int) -> Shown:
    """The run's own experiment, simulated on the host that the profile was measured on."""
    config = folder / "config.toml"
    plan = build(load(config), Profile.load(path), host_network=True, source=str(config))
    ranks: list[list[Span]] = [[] for _ in range(workers)]
    result = run_plan(plan, plan.experiment.run.seed, sink=lambda span: ranks[span.rank].append(span))
    return Shown("simulated", result.to_json(), ranks)


def _sections(folder: Path, shown: list[Shown]) -> list[Section]:
    sections = [
        _figures_of(shown),
        Section("Where the time goes", svg=figures.shares({s.name: s.result["time_share"] for s in shown})),
        Section(
            f"The last {figures.STEPS} steps",
            "A lane a worker; thin bars below are exchanges under way.",
            figures.timeline([(s.name, s.ranks) for s in shown]),
        ),
        Section("Iteration time", svg=figures.iterations({s.name: s.iterations() for s in shown})),
    ]
    for one in shown:
        notes = one.result.get("simulation", {}).get("assumptions", [])
        if notes:
            sections.append(Section("What the simulation assumed", columns=["assumption"], rows=[[n] for n in notes]))
    events = shown[0].result.get("events", [])
    if events:
        rows = [[str(e.get("kind", "")), json.dumps({k: v for k, v in e.items() if k != "kind"})] for e in events]
        text = f"the first {MOST_EVENTS} of {len(rows)}" if len(rows) > MOST_EVENTS else ""
        sections.append(Section("Events", text, columns=["kind", "what"], rows=rows[:MOST_EVENTS]))
    for name in ("config.toml", "environment.json"):
        if (folder / name).exists():
            text = (folder / name).read_text(encoding="utf-8")
            sections.append(Section(name, summary="show", code=text))
    return sections


def _figures_of(shown: Sequence[Shown]) -> Section:
    rows = [
        ["total time", *(duration(s.result["total_time_s"]) for s in shown)],
        *(
            [f"iteration, {name}", *(duration(s.result["iteration_time_s"][name]) for s in shown)]
            for name in ("mean", "p50", "p95", "p99")
        ),
        ["samples/s", *(f"{s.result['samples_per_s']:.5g}" for s in shown)],
        ["bytes sent a worker", *(f"{s.result['bytes_sent_per_worker']:,}" for s in shown)],
    ]
    for name in ("loss", "accuracy"):
        if name in shown[0].result.get("training", {}):
            rows.append([f"test {name}", f"{shown[0].result['training'][name]:.4f}", *([""] * (len(shown) - 1))])
    return Section("In figures", columns=["", *(s.name for s in shown)], rows=rows)


def of_sweep(path: Path) -> tuple[str, str, list[Section]]:
    """Title, subtitle and sections of a sweep's CSV; UserError where it is none."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), list(reader.fieldnames or [])
        names = columns[: columns.index(SWEPT[0])]
        if not names or columns[-1] != FINGERPRINT or not rows:
            raise ValueError
        for row in rows:
            float(row["iteration_time_s"])
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    except (ValueError, TypeError):
        raise UserError(f"{path}: neither a run folder nor a CSV that 'simulator sweep' wrote") from None
    best = min(rows, key=lambda row: float(row["iteration_time_s"]))
    said = ", ".join(f"{name} = {best[name]}" for name in names)
    shown = [name for name in columns if name != FINGERPRINT]
    table = [[row[name] if name in names else f"{float(row[name]):.5g}" for name in shown] for row in rows]
    return (
        f"Sweep over {', '.join(names)}",
        f"{len(rows)} simulated points of {path.name}",
        [
            Section("Iteration time", f"Fastest: {said}.", figures.sweep(names[0], rows, names[1:])),
            Section("All points", columns=shown, rows=table),
        ],
    )
