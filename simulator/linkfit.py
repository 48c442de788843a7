"""Links between hosts from the exchanges of runs on several of them: what the rates in the experiment file come to.

seconds = call + coordinate (on an idle Horovod) + messages x latency + bytes / (rate x efficiency) + bytes x byte_s

rate is what the experiment file says of the slowest host's link; efficiency, the share of it that payloads get, is
known and not fitted; byte_s is what software adds a byte (copies, sums), whatever the rate. Messages and bytes are
those that the simulator charges.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from simulator.exchanged import Exchanged
from simulator.fitting import fit_nonnegative
from simulator.netfit import messages_and_bytes
from simulator.profile import LinkFit

PRIOR = (2e-4, 1e-3, 1e-4, 1e-10)  # seconds a call, a cycle, a message, a byte
NAMES = ("call_s", "coordinate_s", "latency_s", "byte_s")
SIZES = 0.1  # decades within which exchanges count as of one size
EFFICIENCY = 1448 / 1514  # of a frame of 1514 bytes, headers of Ethernet, IP and TCP with timestamps take 66


def fit_links(
    exchanges: Sequence[Exchanged], relaxed: Sequence[float], cycle_s: float
) -> tuple[LinkFit | None, dict[str, Any]]:
    """Fit the law above to exchanges between hosts; None for too few. relaxed: see `fit_network`.

    Only software is relaxed: time on the wire does not care how many ranks share a core. Exchanges that are alike count
    once, with their median: what else the machine does lengthens some of them. Long ones scatter more, about as the
    root of their time, and are weighted so.
    """
    usable = [(e, factor) for e, factor in zip(exchanges, relaxed, strict=True) if e.rate > 0]
    if len(usable) < 3:
        return None, {}
    groups = _alike(usable)
    rows, beyond, whole = [], [], []
    for group in groups:
        seconds = float(np.median([e.seconds for e, _ in group]))
        terms = np.mean([_terms(e, factor, cycle_s) for e, factor in group], axis=0)
        rows.append(terms[:-1])
        beyond.append(max(0.0, seconds - float(terms[-1])))
        whole.append(seconds)
    weight = np.array(whole) ** -0.5
    fit = fit_nonnegative(np.array(rows) * weight[:, None], np.array(beyond) * weight, PRIOR)
    call, coordinate, latency, byte_s = fit.constants
    left = np.array(rows) @ np.array(fit.constants) - np.array(beyond)
    note = fit.note(NAMES) | {
        "relative_residual": float(np.median(np.abs(left) / whole)),
        "observations": len(usable),
        "groups": len(groups),
        "efficiency": EFFICIENCY,
    }
    return LinkFit(latency, EFFICIENCY, cycle_s, call, coordinate, byte_s), note


def _terms(e: Exchanged, factor: float, cycle_s: float) -> list[float]:
    """What multiplies each fitted constant, and last the seconds that are known: on the wire, and until a tick."""
    messages, size = messages_and_bytes(e)
    idle = 0.0 if e.queued else 1.0
    known = size / (e.rate * EFFICIENCY) + idle * cycle_s / 2
    return [1.0 / factor, idle / factor, messages / factor, size / factor, known]


def _alike(seen: Sequence[tuple[Exchanged, float]]) -> list[list[tuple[Exchanged, float]]]:
    """Exchanges of one kind and about one size, together: the steps of a run repeat them, and some are disturbed."""
    groups: dict[Any, list[tuple[Exchanged, float]]] = defaultdict(list)
    for e, factor in seen:
        size = round(math.log10(max(1, max(e.bytes))) / SIZES)
        groups[e.wire, e.workers, e.queued, e.cached, e.rate, factor, size].append((e, factor))
    return list(groups.values())
