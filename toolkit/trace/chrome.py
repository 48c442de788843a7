"""Export of spans to the Chrome trace format, which chrome://tracing and Perfetto open."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from toolkit.trace.span import Span

TRACKS = ("main", "communicate", "serve")


def write_chrome(path: Path, spans: Iterable[Span]) -> None:
    """Write one process a rank with a main, a communication and a server track; times become microseconds."""
    events: list[dict[str, object]] = []
    ranks: set[int] = set()
    for span in spans:
        ranks.add(span.rank)
        track = TRACKS.index(span.what) if span.what in TRACKS else 0
        arguments = {"step": span.step, "bytes": span.bytes, **(span.detail or {})}
        events.append(
            {
                "name": f"{span.what} {span.name}".strip(),
                "cat": span.what,
                "ph": "X",
                "ts": span.start * 1e6,
                "dur": span.seconds * 1e6,
                "pid": span.rank,
                "tid": track,
                "args": arguments,
            }
        )
    for rank in sorted(ranks):
        for track, name in enumerate(TRACKS):
            row = {"name": "thread_name", "ph": "M", "pid": rank, "tid": track, "args": {"name": name}}
            events.append(row)
        events.append({"name": "process_name", "ph": "M", "pid": rank, "args": {"name": f"worker {rank}"}})
    path.write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}), encoding="utf-8")
