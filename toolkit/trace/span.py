"""A span is one stage of one step on one rank; a trace is one rank's spans, a JSON object a line.

What a span may be. On the main lane of a rank, one after the other, never overlapping:
  data, forward, backward, compress, wait (blocked on an exchange), merge, optimize, checkpoint, evaluate.
Beside it: communicate (an exchange from its launch to its completion), step (a whole optimizer step) and serve (what
this rank's parameter server did for a worker).
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
WHAT = (*MAIN_LANE, "communicate", "step", "serve")


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
    traces = []
    for path in paths:
        header, spans = read_trace(path)
        if not all(type(header.get(name)) is int for name in ("rank", "workers")):
            raise UserError(f"{path}:1: a run's trace wants whole numbers as rank and workers in its first line")
        if any(span.rank != header["rank"] for span in spans):
            raise UserError(f"{path}: spans of another rank than {header['rank']}, which the first line names")
        traces.append((header, spans))
    traces.sort(key=lambda trace: trace[0]["rank"])
    header = traces[0][0]
    workers = header["workers"]
    ranks = [trace[0]["rank"] for trace in traces]
    if len(ranks) != workers or ranks != list(range(workers)):
        raise UserError(f"{folder}/trace: ranks {ranks}, but the header says {workers} workers")
    return header, [spans for _, spans in traces]


def _json(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, or a number of thousands of digits
        raise UserError(f"{path}:{number}: damaged trace line: {error}") from None


def _span(path: Path, number: int, line: str) -> Span:
    row = _json(path, number, line)
    if not isinstance(row, list) or len(row) not in (7, 8) or not _is_span(*row):
        raise UserError(f"{path}:{number}: damaged trace line: [what, name, bytes, start, end, step, rank] is wanted")
    return Span(*row)


def _is_span(what: Any, name: Any, bytes: Any, start: Any, end: Any, step: Any, rank: Any, detail: Any = None) -> bool:
    """Whether a row's fields can be a span's; true and false are no numbers, and a time is finite."""
    stage = isinstance(what, str) and what in WHAT and isinstance(name, str)
    counts = all(type(count) is int for count in (bytes, step, rank)) and bytes >= 0
    times = all(_is_number(moment) for moment in (start, end)) and start <= end
    details = detail is None or (isinstance(detail, dict) and all(isinstance(n, (int, float)) for n in detail.values()))
    return stage and counts and times and details


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 2.0**63
