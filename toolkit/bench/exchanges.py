"""`python -m toolkit exchanges FILE…`: bytes and milliseconds a step of each exchange, against dense Horovod.

Under mpirun. Trains each experiment for a few steps with every way in turn, some rounds of it, and tells from the
traces: the bytes that a worker hands to the network in a step, the time of a step, and its parts that belong to the
exchange (compressing, waiting, merging, the optimizer). Times are medians over warm steps of the mean over the ranks;
the ratio to dense training is the median over the rounds, each against the dense run of its own round.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rich.console import Console
from rich.table import Table

from toolkit.comm import Communicator
from toolkit.errors import UserError
from toolkit.experiment import Experiment, load
from toolkit.registry import check_name
from toolkit.trace import read_run

PACKED = ("compression.wire_indices=delta", "compression.wire_values=bf16")
TOPK = ("compression.name=topk",)
WAYS: dict[str, tuple[str, ...]] = {
    "dense": ("compression.name=none",),
    "dense, fp16": ("compression.name=fp16",),
    "dense, bf16": ("compression.name=bf16",),
    "linear, random-k": ("compression.name=randomk",),
    "linear, PowerSGD": ("compression.name=powersgd",),
    "allgather, top-k": TOPK,
    "allgather, top-k, packed": (*TOPK, *PACKED),
    "gtopk, top-k": (*TOPK, "compression.exchange=gtopk"),
    "gtopk, top-k, packed": (*TOPK, "compression.exchange=gtopk", *PACKED),
    "oktopk, top-k": (*TOPK, "compression.exchange=oktopk"),
    "oktopk, top-k, packed": (*TOPK, "compression.exchange=oktopk", *PACKED),
}
PARTS = ("compress", "wait", "merge", "optimize")
WARM = 5  # steps that do not count


@dataclass(frozen=True)
class Outcome:
    """One way in one round. bytes: of a worker and step. seconds: medians over the steps."""

    experiment: str
    way: str
    round: int
    elements: int
    bytes: float
    step: float
    compress: float
    wait: float
    merge: float
    optimize: float


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m toolkit exchanges", description="Exchanges, end to end.")
    parser.add_argument("files", nargs="+", help="experiment files (TOML)")
    parser.add_argument("--ways", help='"dense;gtopk, top-k"; dense comes with them (default: all)')
    parser.add_argument("--steps", type=int, default=25, help=f"steps of a run, the first {WARM} do not count")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each way, in turn (default 3)")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override a key")
    parser.add_argument("--out", type=Path, default=Path("runs/exchanges"), help="folder (default runs/exchanges)")
    return parser.parse_args(argv)


def chosen(args: argparse.Namespace) -> list[str]:
    """The names of the ways, dense first; UserError where an option is wrong."""
    if args.steps <= WARM or args.rounds < 1:
        raise UserError(f"--steps {args.steps} --rounds {args.rounds}: more than {WARM} steps, at least 1 round")
    names = [name.strip() for name in args.ways.split(";")] if args.ways else list(WAYS)
    for name in names:
        check_name("--ways", name, WAYS)
    return list(dict.fromkeys(["dense", *names]))


def measure(name: str, way: str, number: int, experiment: Experiment, comm: Communicator) -> Outcome:
    from toolkit.train import train

    with tempfile.TemporaryDirectory() as folder:
        out = Path(comm.broadcast(folder)) / "run"
        train(experiment, out, comm)
        outcome = comm.broadcast(_read(name, way, number, out) if comm.rank == 0 else None)
    assert isinstance(outcome, Outcome)
    return outcome


def _read(name: str, way: str, number: int, out: Path) -> Outcome:
    header, ranks = read_run(out)
    seconds: dict[str, dict[int, float]] = {what: defaultdict(float) for what in ("step", *PARTS)}
    sent: dict[int, int] = defaultdict(int)
    for span in (span for spans in ranks for span in spans if span.step >= WARM):
        if span.what in seconds:
            seconds[span.what][span.step] += span.seconds / len(ranks)
        elif span.what == "communicate":
            sent[span.step] += span.bytes
    steps = sorted(seconds["step"])
    medians = {what: statistics.median(by_step[step] for step in steps) for what, by_step in seconds.items()}
    bytes_ = statistics.fmean(sent[step] for step in steps) / len(ranks)
    elements = sum(size for _, size in header["tensors"])
    return Outcome(name, way, number, elements, bytes_, **medians)


def main(argv: list[str]) -> int:
    args = arguments(argv)
    names = chosen(args)
    jobs = [
        (Path(file).stem, way, number, load(file, [*args.set, *WAYS[way], f"run.steps={args.steps}"]))
        for file in args.files
        for number in range(args.rounds)
        for way in names
    ]
    comm = Communicator(jobs[0][3].cluster.cycle_time)
    outcomes = []
    for place, job in enumerate(jobs, start=1):
        outcomes.append(measure(*job, comm))
        if comm.rank == 0:
            print(f"{place}/{len(jobs)} {job[0]}: {job[1]}, {1e3 * outcomes[-1].step:.1f} ms a step", flush=True)
    if comm.rank == 0:
        write(outcomes, args.out, comm.size)
    comm.close()
    return 0


def write(outcomes: list[Outcome], out: Path, workers: int) -> None:
    """exchanges.csv, exchanges.json with the machine, and the table, also as Markdown."""
    from toolkit.runfolder import environment

    out.mkdir(parents=True, exist_ok=True)
    rows = [asdict(outcome) for outcome in outcomes]
    with (out / "exchanges.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=[f.name for f in fields(Outcome)])
        writer.writeheader()
        writer.writerows(rows)
    document = {"schema": "sandtable-exchanges/1", "workers": workers, "environment": environment(), "rows": rows}
    (out / "exchanges.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    lines = []
    for name in dict.fromkeys(outcome.experiment for outcome in outcomes):
        head, cells = summary([outcome for outcome in outcomes if outcome.experiment == name])
        shown = Table(title=f"{name}: {workers} workers; milliseconds a step", title_justify="left")
        for column in head:
            shown.add_column(column, justify="left" if column == "way" else "right")
        for row in cells:
            shown.add_row(*row)
        Console(width=120).print(shown)
        lines += [f"### {name}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        lines += ["| " + " | ".join(row) + " |" for row in cells] + [""]
    (out / "exchanges.md").write_text("\n".join(lines), encoding="utf-8")


def summary(outcomes: list[Outcome]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of one experiment's table: medians over the rounds, and ratios within them."""
    dense = {outcome.round: outcome for outcome in outcomes if outcome.way == "dense"}
    head = ["way", "bytes a step", "of dense", "step", "× dense (rounds)", *PARTS]
    cells = []
    for way in dict.fromkeys(outcome.way for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.way == way]
        ratios = [outcome.step / dense[outcome.round].step for outcome in mine]
        sent = statistics.fmean(outcome.bytes for outcome in mine)
        times = [statistics.median(1e3 * getattr(outcome, what) for outcome in mine) for what in ("step", *PARTS)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
        share = sent / statistics.fmean(outcome.bytes for outcome in dense.values())
        cells.append(
            [way, f"{sent:,.0f}", f"{share:.4f}", f"{times[0]:.2f}", spread, *(f"{time:.2f}" for time in times[1:])]
        )
    return head, cells
