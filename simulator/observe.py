"""What a run folder shows: seconds of each stage by step and rank, and the points to which cost laws are fitted.

Nothing is fitted here. The first steps of a run are left out as warm-up (allocators, caches, lazily built kernels).
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit import experiment as experiments
from toolkit import registry
from toolkit.errors import UserError
from toolkit.experiment import Experiment
from toolkit.trace import Span, read_run

Array = NDArray[np.float64]
IN_STEP = ("data", "forward", "backward", "compress", "wait", "merge", "optimize")
WARM_UP = 5  # steps, or a quarter of a short run


@dataclass(frozen=True)
class Run:
    """A run folder, read. ranks: the spans of each rank; tensors: (name, elements) in forward order."""

    folder: Path
    experiment: Experiment
    header: dict[str, Any]
    ranks: list[list[Span]]
    result: dict[str, Any]
    environment: dict[str, Any]
    machine: dict[str, Any] = field(default_factory=dict)

    @property
    def others(self) -> float:
        """Share of the machine's processors that others used meanwhile; 0 where it was not measured."""
        return float(self.machine.get("others_share", 0.0))

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def digest(self) -> str:
        """sha256 of rank 0's trace: tells this run from another one in a folder of the same name."""
        return hashlib.sha256((self.folder / "trace" / "rank0.jsonl").read_bytes()).hexdigest()

    @property
    def workers(self) -> int:
        return len(self.ranks)

    @property
    def cores(self) -> int:
        """Cores of the host that the ranks shared; 0 where the run does not say."""
        return int(self.header.get("cores") or self.environment.get("cores") or 0)

    @property
    def hosts(self) -> int:
        """Number of hosts that the ranks ran on."""
        named = self.header.get("hosts", 1)
        return max(1, len(set(named)) if isinstance(named, list) else int(named))

    @property
    def sharers(self) -> float:
        """Ranks that share a machine's cores; hosts of an emulated cluster are on one machine."""
        return float(self.header.get("core_sharers") or self.workers / self.hosts)

    @property
    def stretch(self) -> float:
        """How much longer computing takes because the ranks of a machine outnumber its cores; at least 1."""
        return max(1.0, self.sharers / self.cores) if self.cores else 1.0

    @property
    def paced(self) -> bool:
        """Whether forward and backward were slept through (toolkit/pace.py)."""
        return self.experiment.run.compute == "paced"

    @property
    def link_rate(self) -> float:
        """bytes/s that the experiment file says of the slowest host's link; 0 on one host."""
        cluster = self.experiment.cluster
        return min(self.experiment.faults.link_rates(self.hosts, cluster.bandwidth)) if self.hosts > 1 else 0.0

    @property
    def tensors(self) -> list[tuple[str, int]]:
        return [(str(name), int(elements)) for name, elements in self.header["tensors"]]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The tensors' shapes; empty ones where the trace does not tell them."""
        told = self.header.get("shapes") or [()] * len(self.tensors)
        return [tuple(int(size) for size in shape) for shape in told]

    @property
    def steps(self) -> int:
        return 1 + max((span.step for span in self.ranks[0] if span.what == "step"), default=-1)

    @property
    def first_step(self) -> int:
        """The first step that is not warm-up."""
        return min(WARM_UP, self.steps // 4)

    def is_full(self, step: int) -> bool:
        """Whether every rank has whole micro-batches in `step`: the last step of an epoch may be short."""
        shard = int(self.header["examples"]) // self.workers  # of the worker with the fewest examples
        longest = -(-int(self.header["examples"]) // self.workers)
        size = self.experiment.data.batch_size * self.experiment.pipeline.accumulation
        position = step % max(1, -(-longest // size))
        return shard >= (position + 1) * size


def load_run(folder: str | Path) -> Run:
    """Read a run folder. UserError where a file is missing or damaged, or where no whole step was traced."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder: one written by 'python -m toolkit train … --out' is wanted")
    header, ranks = read_run(folder)
    experiment = experiments.load(folder / "config.toml")
    tensors = header.get("tensors")
    good = isinstance(tensors, list) and tensors and all(isinstance(row, list) and len(row) == 2 for row in tensors)
    if not good:
        raise UserError(f"{folder}/trace: header: tensors = {tensors!r}: a list of [name, elements] is wanted")
    written = (_json(folder / f"{name}.json") for name in ("result", "environment", "machine"))
    run = Run(folder, experiment, header, ranks, *written)
    if run.steps < 2:
        raise UserError(f"{folder}: {run.steps} steps: at least 2 traced steps are wanted")
    return run


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None
    return document if isinstance(document, dict) else {}


@dataclass(frozen=True)
class Steps:
    """Seconds of one run, a row for each rank and step after warm-up, ranks one after the other.

    data, rest, optimize, checkpoint: (rows,); forward, backward: (rows, tensors), per micro-batch where there are
    several. rest is what a step holds beside its spans. rank, step: (rows,) whose row it is.
    """

    rank: NDArray[np.int64]
    step: NDArray[np.int64]
    data: Array
    forward: Array
    backward: Array
    optimize: Array
    rest: Array

    @property
    def compute(self) -> Array:
        """Seconds of data, forward and backward of each row (rows,)."""
        return np.asarray(self.data + self.forward.sum(axis=1) + self.backward.sum(axis=1))


def observe_steps(run: Run) -> Steps:
    """Fold the main-lane spans of each rank and step. Short steps at the end of an epoch count only if all are."""
    place = {name: i for i, (name, _) in enumerate(run.tensors)}
    micro = run.experiment.pipeline.accumulation
    short = not any(run.is_full(step) for step in range(run.first_step, run.steps))
    rows: list[tuple[int, int, float, Array, Array, float, float]] = []
    for rank, spans in enumerate(run.ranks):
        for grouped in _by_step(spans, run.first_step):
            step = next((span for span in grouped if span.what == "step"), None)
            if step is None or not (run.is_full(step.step) or short):
                continue
            inside = [s for s in grouped if s.what in IN_STEP and s.start >= step.start - 1e-9 and s.end <= step.end]
            rest = step.seconds - sum(span.seconds for span in inside)
            data = sum(s.seconds for s in inside if s.what == "data") / micro
            optimize = sum(s.seconds for s in inside if s.what == "optimize")
            forward, backward = _tensor_seconds(inside, place, run.folder)
            if not forward.any():
                forward = 0.0 * backward
            elif forward[-1] == forward.sum():  # only a total is known: in proportion to backward
                share = backward / backward.sum() if backward.sum() > 0 else np.full_like(backward, 1 / len(backward))
                forward = forward.sum() * share
            rows.append((rank, step.step, data, forward[:-1] / micro, backward[:-1] / micro, optimize, max(0.0, rest)))
    if not rows:
        raise UserError(f"{run.folder}: no whole step after the {run.first_step} steps of warm-up")
    columns = list(zip(*rows, strict=True))
    whole = [np.asarray(column, dtype=float) for column in columns[2:]]
    return Steps(np.asarray(columns[0], dtype=np.int64), np.asarray(columns[1], dtype=np.int64), *whole)


def _tensor_seconds(spans: Iterable[Span], place: dict[str, int], folder: Path) -> tuple[Array, Array]:
    """Seconds of forward and backward by tensor, (tensors + 1,); the last holds what has no tensor's name."""
    forward, backward = np.zeros(len(place) + 1), np.zeros(len(place) + 1)
    for span in spans:
        if span.what not in ("forward", "backward"):
            continue
        if span.name and span.name not in place:
            raise UserError(f"{folder}/trace: {span.what} '{span.name}': the header lists no such tensor")
        (forward if span.what == "forward" else backward)[place.get(span.name, -1)] += span.seconds
    backward[0] += backward[-1]  # what came after the last gradient belongs to the first tensor of the network
    backward[-1] = 0.0
    return forward, backward


def _by_step(spans: Iterable[Span], first: int) -> Iterable[list[Span]]:
    grouped: dict[int, list[Span]] = defaultdict(list)
    for span in spans:
        if span.step >= first:
            grouped[span.step].append(span)
    return [grouped[step] for step in sorted(grouped)]


@dataclass(frozen=True)
class CallPoint:
    """One call of a compressor, a merge or an optimizer: of n elements k were selected or merged, in `seconds`."""

    elements: int
    entries: int
    seconds: float
    density: float = 1.0


def compress_points(run: Run) -> list[CallPoint]:
    """Calls of the run's own compressor, without warm-up and without steps that were sent dense on purpose."""
    dense = registry.COMPRESSORS[run.experiment.compression.name].wire == "dense"
    points = []
    for span in stage(run, "compress"):
        detail = span.detail or {}
        density = float(detail.get("density", 1.0))
        if dense or density < 1.0:
            points.append(
                CallPoint(int(detail.get("elements", 0)), int(detail.get("selected", 0)), span.seconds, density)
            )
    return points


def merge_points(run: Run) -> dict[str, list[CallPoint]]:
    """Merges by wire; entries count over all ranks for "sparse" and are 0 for "dense" (elements say it all)."""
    known = wires(run)
    points: dict[str, list[CallPoint]] = {"dense": [], "sparse": []}
    for span in stage(run, "merge"):
        detail = span.detail or {}
        wire = known.get((span.step, span.name), "dense")
        entries = int(detail.get("entries", 0)) if wire == "sparse" else 0
        points[wire].append(CallPoint(int(detail.get("elements", 0)), entries, span.seconds))
    return points


def optimize_points(run: Run) -> list[CallPoint]:
    """Optimizer steps: n parameters of the model and, for an optimizer that skips the rest, the merged entries."""
    elements = sum(size for _, size in run.tensors)
    merged: dict[tuple[int, int], int] = defaultdict(int)
    if run.experiment.optimizer.name.startswith("sparse"):
        for span in stage(run, "merge"):
            detail = span.detail or {}
            merged[span.rank, span.step] += int(min(detail.get("elements", 0), detail.get("entries", 0)))
    return [CallPoint(elements, merged[s.rank, s.step], s.seconds) for s in stage(run, "optimize")]


def achieved_density(run: Run) -> float | None:
    """Selected over wanted entries, as a ratio of sums over calls and ranks; None where nothing sparse was sent."""
    if registry.COMPRESSORS[run.experiment.compression.name].wire != "sparse":
        return None
    points = compress_points(run)
    wanted = sum(max(1, int(point.elements * point.density)) for point in points)
    return sum(point.entries for point in points) / wanted if wanted else None


def stage(run: Run, what: str) -> list[Span]:
    return [span for spans in run.ranks for span in spans if span.what == what and span.step >= run.first_step]


def wires(run: Run) -> dict[tuple[int, str], str]:
    """How each bucket of each step travelled, told by the density of its compress span."""
    if registry.COMPRESSORS[run.experiment.compression.name].wire != "sparse":
        return {}
    sparse = {}
    for span in run.ranks[0]:
        if span.what == "compress" and float((span.detail or {}).get("density", 1.0)) < 1.0:
            sparse[span.step, span.name] = "sparse"
    return sparse
