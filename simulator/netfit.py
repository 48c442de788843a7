"""The measured host's own network from the exchanges of its runs: software costs, latency, bandwidth of a port.

The numbers of messages and bytes are those that the simulator charges for the same exchange, so the constants mean the
same when they are fitted and when they are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simulator.exchanged import Exchanged
from simulator.fitting import fit_nonnegative
from simulator.horovod import Cycle
from simulator.profile import NetworkFit
from simulator.timing import Timing
from simulator.topology import Topology

PRIOR = (1e-4, 1e-3, 2e-5, 5e-10)  # seconds a call, a cycle, a message, a byte
FASTEST = 1e12  # bytes/s: what stands for "no cost a byte was seen"


def messages_and_bytes(exchange: Exchanged) -> tuple[float, float]:
    """Messages one after the other, coordination included, and bytes through one port on the exchange's longest way."""
    kind = "allreduce" if exchange.wire == "dense" else "allgather"
    sizes = tuple(float(size) for size in exchange.bytes)
    if exchange.wire == "dense":
        sizes = sizes[:1]
    workers = exchange.workers
    only_latency = Topology(workers, workers, np.inf, 1.0, np.inf, 1.0)
    only_bytes = Topology(workers, workers, 1.0, 0.0, 1.0, 0.0)
    coordination = 0.0 if exchange.queued else Cycle.of(only_latency, 1.0).coordination(exchange.cached)
    return coordination + Timing(only_latency).seconds(kind, sizes), Timing(only_bytes).seconds(kind, sizes)


def fit_network(
    exchanges: Sequence[Exchanged], relaxed: Sequence[float], cycle_s: float
) -> tuple[NetworkFit | None, dict[str, Any]]:
    """Fit call + coordinate + messages * latency + bytes / bandwidth to the seconds of exchanges; None for too few.

    relaxed: for each exchange, the factor that brings its computing (copies, system calls) to one rank a core; waiting
    for the cycle is no computing. An exchange that was launched on an idle Horovod waits half a cycle on average until
    it is seen, and its cycle's coordination; one that was queued behind another pays neither. Runs of one size of job
    with one exchange a step cannot tell these apart: the prior's proportions decide, and `fits` says so.
    """
    usable = [(e, factor) for e, factor in zip(exchanges, relaxed, strict=True) if e.workers > 1]
    if len(usable) < 3:
        return None, {}
    rows = [(0.0 if e.queued else 1.0, *messages_and_bytes(e)) for e, _ in usable]
    waited = np.array([row[0] * cycle_s / 2 for row in rows])
    seconds = np.array([e.seconds for e, _ in usable]) - waited
    seconds = np.maximum(seconds * np.array([factor for _, factor in usable]), 1e-9)
    fit = fit_nonnegative(np.array([[1.0, *row] for row in rows]), seconds, PRIOR)
    call, coordinate, latency, per_byte = fit.constants
    bandwidth = min(FASTEST, 1.0 / per_byte) if per_byte > 0 else FASTEST
    names = ("call_s", "coordinate_s", "latency_s", "seconds_per_byte")
    return NetworkFit(latency, bandwidth, cycle_s, call, coordinate), fit.note(names)
