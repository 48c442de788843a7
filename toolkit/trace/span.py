"""A span is one stage of one step on one rank; a trace is one rank's spans, a JSON object a line.

What a span may be. On the main lane of a rank, one after the other, never overlapping:
  data, forward, backward, compress, wait (blocked on an exchange), merge, optimize, checkpoint, evaluate.
Beside it: communicate (an exchange from its launch to its completion) and step (a whole optimizer step).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.errors import UserError

TRACE_SCHEMA = "sandtable-trace/1"
MAIN_LANE = ("data", "forward", "backward", "compress", "wait", "merge", "optimize", "checkpoint", "evaluate")
WHAT = (*MAIN_LANE, "communicate", "step")


@dataclass(frozen=True, slots=True)
class Span:
    """One stage: what, of which bucket or layer, how many bytes, from when to when (s), in which step on which rank."""

    what: str
    name: str
    bytes: int
    start: float
    end: float
    step: int
    rank: int
    detail: dict[str, float] | None = None

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass
class Recorder:
    """Collects the spans of one rank. `clock` gives seconds since the common origin of all ranks."""

    rank: int
    clock: Callable[[], float] = time.perf_counter
    spans: list[Span] = field(default_factory=list)
    step: int = 0

    def add(
        self, what: str, name: str, start: float, end: float, bytes: int = 0, detail: dict[str, float] | None = None
    ) -> None:
        self.spans.append(Span(what, name, bytes, start, end, self.step, self.rank, detail))

    @contextmanager
    def span(self, what: str, name: str = "") -> Iterator[None]:
        start = self.clock()
        yield
        self.add(what, name, start, self.clock())


def write_trace(path: Path, header: dict[str, Any], spans: Iterable[Span]) -> None:
    """Write one rank's trace: a header line (schema, rank, workers, ...), then a span a line."""
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps({"schema": TRACE_SCHEMA, **header}) + "\n")
        for s in spans:
            row = [s.what, s.name, s.bytes, round(s.start, 9), round(s.end, 9), s.step, s.rank]
            file.write(json.dumps([*row, s.detail] if s.detail else row) + "\n")


def read_trace(path: Path) -> tuple[dict[str, Any], list[Span]]:
    """Read one rank's trace: its header and spans. Raises UserError with file and line where it is damaged."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    header: Any = _json(path, 1, lines[0]) if lines else None
    if not isinstance(header, dict) or header.get("schema") != TRACE_SCHEMA:
        raise UserError(f"{path}:1: not a trace: the first line must hold schema '{TRACE_SCHEMA}'")
    return header, [_span(path, number, line) for number, line in enumerate(lines[1:], start=2)]


def read_run(folder: Path) -> tuple[dict[str, Any], list[list[Span]]]:
    """Read all ranks of a run folder: rank 0's header, and a list of spans a rank, in rank order."""
    paths = list((folder / "trace").glob("rank*.jsonl"))
    if not paths:
        raise UserError(f"{folder}: no trace/rank*.jsonl: a run folder written by 'toolkit train --out' is wanted")
    traces = sorted((read_trace(path) for path in paths), key=lambda trace: trace[0].get("rank", 0))
    header = traces[0][0]
    ranks = [trace[0].get("rank") for trace in traces]
    if ranks != list(range(header.get("workers", -1))):
        raise UserError(f"{folder}/trace: ranks {ranks}, but the header says {header.get('workers')} workers")
    return header, [spans for _, spans in traces]


def _json(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{number}: damaged trace line: {error}") from None


def _span(path: Path, number: int, line: str) -> Span:
    row = _json(path, number, line)
    types: tuple[Any, ...] = (str, str, int, (int, float), (int, float), int, int)
    good = isinstance(row, list) and len(row) in (7, 8)
    good = good and all(isinstance(item, kind) for item, kind in zip(row, types, strict=False))
    if not good or row[0] not in WHAT or row[4] < row[3] or row[2] < 0:
        raise UserError(f"{path}:{number}: damaged trace line: [what, name, bytes, start, end, step, rank] is wanted")
    return Span(*row)
