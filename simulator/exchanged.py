"""How long the exchanges of a run took, where its trace tells both ends of one for certain."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from simulator.observe import Run, stage, wires
from toolkit import registry
from toolkit.trace import Span

CLOSE = 0.95  # share of an exchange whose time must be certain for it to be used


@dataclass(frozen=True)
class Exchanged:
    """One exchange whose duration is known: from when it could start to the completion that a blocked rank saw.

    bytes: (workers,) of each rank. queued: it began right after another one, without waiting for a cycle. cached: its
    sizes are the same in every step, so Horovod does not negotiate them anew. rate: bytes/s of the slowest link between
    hosts, 0 on one host.
    """

    wire: str
    workers: int
    bytes: tuple[int, ...]
    seconds: float
    queued: bool
    cached: bool
    rate: float = 0.0


def observe_exchanges(run: Run) -> list[Exchanged]:
    """Exchanges with an exact end. Operations run one at a time, in the order in which their last rank launched them.

    An operation can start when its last rank has launched it and the one before it is complete. Nobody sees that
    completion while all ranks compute, only that it lies before the first rank found it done; where this leaves the
    start open by more than a twentieth of the duration, the operation is left out.
    """
    if run.experiment.compression.name == "powersgd":  # two rounds in one span
        return []
    known = wires(run)
    launched: dict[tuple[int, str], list[Span]] = defaultdict(list)
    for span in stage(run, "communicate"):
        launched[span.step, span.name].append(span)
    ready = {key: max(s.start for s in spans) for key, spans in launched.items() if len(spans) == run.workers}
    observed: list[Exchanged] = []
    step, earliest, latest = -1, 0.0, 0.0  # when the operation before was complete
    for key in sorted(ready, key=lambda key: (key[0], ready[key])):
        if key[0] != step:
            step, earliest, latest = key[0], 0.0, 0.0
        spans = sorted(launched[key], key=lambda s: s.rank)
        exact = [s.end for s in spans if (s.detail or {}).get("exact_end", 1.0) > 0]
        start, last_start = max(ready[key], earliest), max(ready[key], latest)
        if exact:
            end = float(np.mean(exact))
            if end - last_start > CLOSE * (end - start):
                sizes = tuple(s.bytes for s in spans)
                wire = known.get(key, "dense")
                cached = wire == "dense" or registry.COMPRESSORS[run.experiment.compression.name].exact_count
                queued = earliest > ready[key]
                observed.append(Exchanged(wire, run.workers, sizes, end - start, queued, cached, run.link_rate))
            earliest = latest = end
        else:
            earliest, latest = start, min(s.end for s in spans)
    return observed
