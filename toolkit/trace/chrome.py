"""Export of spans to the Chrome trace format, which chrome://tracing and Perfetto open.

One process a worker, with its tracks; one process of all devices, a track a device (what it computes); one process of
all links, a track a link (what it carries): of simulated links where the spans tell, else of the hosts' links, which
carry an exchange from its last launch on, one exchange after the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from toolkit.trace.span import Span

TRACKS = ("main", "communicate", "serve")
COMPUTES = ("forward", "backward")
DEVICES, LINKS = 1_000_000, 1_000_001  # process numbers beyond those of workers

Event = dict[str, Any]


def write_chrome(path: Path, spans: Iterable[Span], hosts: Sequence[str] = ()) -> None:
    """Write the tracks of spans; hosts: the name of each rank's host, one a rank where they are not known."""
    spans = list(spans)
    workers = [span for span in spans if span.what != "link"]
    links = [span for span in spans if span.what == "link"] or list(_exchanges(workers, hosts))
    events = [_drawn(span, span.rank, TRACKS.index(span.what) if span.what in TRACKS else 0) for span in workers]
    ranks = sorted({span.rank for span in workers})
    for rank in ranks:
        events += [_called("thread_name", rank, track, name) for track, name in enumerate(TRACKS)]
        events.append(_called("process_name", rank, 0, f"worker {rank}"))
    events += [_drawn(span, DEVICES, span.rank) for span in workers if span.what in COMPUTES]
    events += [_called("thread_name", DEVICES, rank, f"device {rank}") for rank in ranks]
    events.append(_called("process_name", DEVICES, 0, "devices"))
    track_of = {name: track for track, name in enumerate(dict.fromkeys(span.name for span in links))}
    events += [_drawn(span, LINKS, track_of[span.name]) for span in links]
    events += [_called("thread_name", LINKS, track, name) for name, track in track_of.items()]
    events.append(_called("process_name", LINKS, 0, "links"))
    path.write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}), encoding="utf-8")


def _exchanges(spans: list[Span], hosts: Sequence[str]) -> Iterator[Span]:
    """A link span a host and exchange."""
    begins: dict[tuple[int, str], float] = {}
    ends: dict[tuple[int, str], float] = {}
    sent: dict[tuple[int, str, str], int] = {}
    for span in spans:
        if span.what == "communicate":
            host, key = hosts[span.rank] if hosts else f"host {span.rank}", (span.step, span.name)
            begins[key] = max(begins.get(key, span.start), span.start)
            ends[key] = max(ends.get(key, span.end), span.end)
            sent[*key, host] = sent.get((*key, host), 0) + span.bytes
    names, free = sorted({host for *_, host in sent}), 0.0
    for key in sorted(ends, key=lambda key: ends[key]):
        begin = min(max(begins[key], free), ends[key])
        free = ends[key]
        for host in names:
            yield Span("link", f"link of {host}", sent.get((*key, host), 0), begin, free, key[0], -1)


def _drawn(span: Span, process: int, track: int) -> Event:
    return {
        "name": f"{span.what} {span.name}".strip(),
        "cat": span.what,
        "ph": "X",
        "ts": span.start * 1e6,
        "dur": span.seconds * 1e6,
        "pid": process,
        "tid": track,
        "args": {"step": span.step, "bytes": span.bytes, **(span.detail or {})},
    }


def _called(what: str, process: int, track: int, name: str) -> Event:
    return {"name": what, "ph": "M", "pid": process, "tid": track, "args": {"name": name}}
