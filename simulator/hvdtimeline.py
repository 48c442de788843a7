"""Exchanges from a Horovod timeline (HOROVOD_TIMELINE=FILE): how long each operation took, without coordination.

The file is a Chrome trace: a process a tensor, named "allreduce.NAME" or "allgather.NAME"; an operation is the pair of
events that begins with ALLREDUCE or ALLGATHER and ends with the type and shape of its output. A job that was killed
leaves the list open. Source: horovod/common/timeline.cc of Horovod 0.28.1.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from simulator.exchanged import Exchanged
from simulator.observe import Run
from toolkit.errors import UserError

WIRE = {"ALLREDUCE": "dense", "ALLGATHER": "sparse"}
WIDTH = {"float64": 8, "int64": 8, "float32": 4, "int32": 4, "float16": 2, "int16": 2, "uint16": 2}  # others: a byte
MICRO = 1e-6


def read_timeline(path: Path, run: Run) -> list[Exchanged]:
    """Operations of the file, which rank 0 of `run` wrote, without those of its first steps; UserError if it is none.

    An output of an allgather holds what all ranks sent; their shares are taken to be equal.
    """
    found: list[Exchanged] = []
    seen: dict[int, int] = {}
    stacks: dict[int, list[tuple[str, float]]] = {}
    for number, event in enumerate(_events(path)):
        try:
            kind, process = event["ph"], event["pid"] if event["ph"] in "BE" else -1
            if kind == "B":
                stacks.setdefault(process, []).append((event["name"], float(event["ts"])))
            elif kind == "E":
                name, began = stacks[process].pop()
                if name in WIRE and "args" in event:
                    seen[process] = seen.get(process, 0) + 1
                    if seen[process] > run.first_step:
                        found.append(_exchanged(name, (float(event["ts"]) - began) * MICRO, event["args"], run))
        except (KeyError, IndexError, TypeError, ValueError):
            raise UserError(f"{path}: event {number}: not of a Horovod timeline: {event!r:.120}") from None
    return found


def _exchanged(name: str, seconds: float, output: dict[str, str], run: Run) -> Exchanged:
    elements = math.prod(int(number) for number in re.findall(r"\d+", output["shape"]))
    size = elements * WIDTH.get(output["dtype"], 1)
    each = size if name == "ALLREDUCE" else size // run.workers
    return Exchanged(WIRE[name], run.workers, (each,) * run.workers, seconds, True, True, run.link_rate)


def _events(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    if not text.endswith("]"):
        text = text.rstrip(",") + "]"
    try:
        events = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a Horovod timeline: {error}") from None
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise UserError(f"{path}: not a Horovod timeline: a list of events is wanted")
    return events
