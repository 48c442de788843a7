"""`python -m toolkit microbench`: time compressors on saved gradients or on normal vectors of given sizes.

Every method is first held against the NumPy reference; then all of them, and the machine's own floors, are timed in
turn. Writes microbench.csv (SIDCo's columns and more), microbench.json (with the machine) and a figure.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from toolkit.errors import UserError
from toolkit.gradients import methods, report, store
from toolkit.gradients.methods import Method
from toolkit.gradients.timing import Floors, Times, rounds

SUFFIXES = {"K": 1e3, "M": 1e6, "G": 1e9}


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m toolkit microbench", description="Time compressors in turn.")
    parser.add_argument("--grads", nargs="*", default=[], metavar="PATH", help="saved gradients: files or folders")
    parser.add_argument("--sizes", help="synthetic normal vectors: 0.27M,25.6M (also plain numbers, K, G)")
    parser.add_argument("--densities", default="0.1,0.01,0.001", help="default 0.1,0.01,0.001")
    parser.add_argument("--methods", default=",".join(methods.DEFAULT), help="default " + ",".join(methods.DEFAULT))
    parser.add_argument("--feedback", action="store_true", help="compress with error feedback")
    parser.add_argument("--threads", type=int, default=1, help="threads of kernels and torch (default 1)")
    parser.add_argument("--rounds", type=int, default=50, help="timed rounds at most (default 50)")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds a vector and density, about (default 10)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the synthetic vectors")
    parser.add_argument("--out", type=Path, default=Path("runs/microbench"), help="folder (default runs/microbench)")
    return parser.parse_args(argv)


def parse_sizes(text: str) -> list[int]:
    """ "0.27M,25.6M" as element counts; UserError unless each is at least 1."""
    sizes = []
    for part in text.split(","):
        number, factor = part.strip(), 1.0
        if number[-1:].upper() in SUFFIXES:
            number, factor = number[:-1], SUFFIXES[number[-1].upper()]
        try:
            size = round(float(number) * factor)
        except (ValueError, OverflowError):
            size = 0
        if not 1 <= size < 2**31:
            raise UserError(f"--sizes {part}: a number of elements from 1 to 2^31 - 1 is wanted, like 0.27M")
        sizes.append(size)
    return sizes


def parse_densities(text: str) -> list[float]:
    """ "0.1,0.01" as numbers; UserError unless each is in (0, 1]."""
    densities = []
    for part in text.split(","):
        try:
            density = float(part)
        except ValueError:
            density = 0.0
        if not 0.0 < density <= 1.0:
            raise UserError(f"--densities {part}: a number > 0 and <= 1 is wanted")
        densities.append(density)
    return densities


@dataclass(frozen=True)
class Row:
    """One method on one vector at one density. Times in seconds, throughput in bytes of the dense vector a second."""

    vector: str
    elements: int
    method: str
    ratio: float
    compress: Times
    decompress: Times
    achieved: float
    bytes: float
    over_read: float
    over_add: float
    torch_topk: float | None  # torch.topk's time over this one's, in the same rounds, if it was timed
    same_in_torch: float | None  # likewise of the same method in torch operations

    def plain(self) -> dict[str, Any]:
        size = 4.0 * self.elements
        return {
            "Method": self.method,
            "Ratio": self.ratio,
            "Compress mean": self.compress.mean,
            "Compress std": self.compress.std,
            "Compress throughput": size / self.compress.mean,
            "Decompress mean": self.decompress.mean,
            "Decompress std": self.decompress.std,
            "Decompress throughput": size / self.decompress.mean,
            "Vector": self.vector,
            "Series": self.vector.partition("_gradients_iter_")[0],
            "Elements": self.elements,
            "Density achieved": self.achieved,
            "Payload bytes": self.bytes,
            "Compress median": self.compress.median,
            "Decompress median": self.decompress.median,
            "Compress GB/s": size / self.compress.median / 1e9,
            "Compress / read pass": self.over_read,
            "Compress / add pass": self.over_add,
            "torch.topk / compress": self.torch_topk,
            "Same in torch / compress": self.same_in_torch,
            "Rounds": len(self.compress.seconds),
        }


class Bench:
    """All methods on one vector at one density, in turn."""

    def __init__(
        self, vector: str, x: torch.Tensor, density: float, names: list[str], args: argparse.Namespace
    ) -> None:
        self.vector = vector
        self.x = x
        self.density = density
        self.args = args
        for name in names:
            if name != "torch-topk":
                methods.validate(name, x, density, args.threads)
        self.sides = [Method(name, x, density, args.threads, args.feedback) for name in names]

    def _warm_up(self) -> None:
        """Bring every side to its steady state. SIDCo's stages settle in the kernels; torch operations, slower by far,
        go on from there.
        """
        for name in methods.SETTLING:
            sides = [side for side in self.sides if side.name in (name, f"torch:{name}")]
            if not sides:
                continue
            timed = [side for side in sides if side.name == name]
            settled = timed[0] if timed else Method(name, self.x, self.density, self.args.threads, self.args.feedback)
            for _ in range(methods.WARM_UP):
                settled.compress()
            for side in sides:
                if side is not settled:
                    side.go_on_from(settled)
        for side in self.sides:
            for _ in range(2):
                payload = side.compress()
            side.decompress(payload)

    def run(self) -> list[Row]:
        self._warm_up()
        floors = Floors(self.x, self.args.threads)
        times = {side.name: (Times(), Times()) for side in self.sides}
        sent: dict[str, list[float]] = {side.name: [] for side in self.sides}
        size: dict[str, list[float]] = {side.name: [] for side in self.sides}
        for _ in rounds(self.args.rounds, self.args.seconds):
            floors.round()
            for side in self.sides:
                payload: Any = times[side.name][0].measure(side.compress)
                times[side.name][1].measure(lambda side=side, payload=payload: side.decompress(payload))  # type: ignore[misc]
                sent[side.name].append(side.compressor.telemetry["selected"] / self.x.numel())
                size[side.name].append(payload.bytes)
        return [
            Row(
                vector=self.vector,
                elements=self.x.numel(),
                method=name,
                ratio=self.density,
                compress=compress,
                decompress=decompress,
                achieved=float(np.mean(sent[name])),
                bytes=float(np.mean(size[name])),
                over_read=compress.relative(floors.read),
                over_add=compress.relative(floors.add),
                torch_topk=_times_faster(times, name, "torch-topk"),
                same_in_torch=_times_faster(times, name, f"torch:{name}"),
            )
            for name, (compress, decompress) in times.items()
        ]


def _times_faster(times: dict[str, tuple[Times, Times]], name: str, than: str) -> float | None:
    return times[than][0].relative(times[name][0]) if than in times and than != name else None


def vectors(args: argparse.Namespace) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and float32 vector of each input: all saved gradients at the places given, then standard normal vectors."""
    for file in store.find(args.grads) if args.grads else []:
        yield file.path.stem, torch.from_numpy(store.load(file.path))
    for size in parse_sizes(args.sizes) if args.sizes else []:
        generator = np.random.default_rng(np.random.SeedSequence([args.seed, size]))
        yield f"normal {size}", torch.from_numpy(generator.standard_normal(size, dtype=np.float32))


def count_vectors(args: argparse.Namespace) -> int:
    saved = len(store.find(args.grads)) if args.grads else 0
    return saved + (len(parse_sizes(args.sizes)) if args.sizes else 0)


def main(argv: list[str]) -> int:
    args = arguments(argv)
    if not args.grads and not args.sizes:
        raise UserError("microbench: nothing to time: give --grads grads, or --sizes 0.27M,25.6M")
    for option in ("threads", "rounds"):
        if getattr(args, option) < 1:
            raise UserError(f"--{option} {getattr(args, option)}: at least 1 is wanted")
    densities = parse_densities(args.densities)
    names = [methods.check_name(name.strip()) for name in args.methods.split(",")]
    torch.set_num_threads(args.threads)
    rows: list[Row] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("microbench", total=count_vectors(args) * len(densities))
        try:
            for vector, x in vectors(args):
                for density in densities:
                    progress.update(task, description=f"{vector}, density {density:g}")
                    rows += Bench(vector, x, density, names, args).run()
                    progress.advance(task)
        except KeyboardInterrupt:
            progress.stop()
            if rows:  # minutes of measurements
                write(rows, args)
            raise
    write(rows, args)
    return 0


def write(rows: list[Row], args: argparse.Namespace) -> None:
    """microbench.csv, microbench.json and microbench.png in the output folder, and a table on the terminal."""
    from toolkit.runfolder import environment

    args.out.mkdir(parents=True, exist_ok=True)
    plain = [row.plain() for row in rows]
    with (args.out / "microbench.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(plain[0]))
        writer.writeheader()
        writer.writerows(plain)
    document = {
        "schema": "sandtable-microbench/1",
        "seed": args.seed,
        "threads": args.threads,
        "feedback": args.feedback,
        "environment": environment(),
        "rows": [{**row.plain(), **{key: value["seconds"] for key, value in _times(row).items()}} for row in rows],
    }
    (args.out / "microbench.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    report.print_microbench(plain, args)
    report.plot_microbench(plain, args.out / "microbench.png", args)


def _times(row: Row) -> dict[str, Any]:
    return {"Compress seconds": asdict(row.compress), "Decompress seconds": asdict(row.decompress)}
