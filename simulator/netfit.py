"""The measured host's own network from the exchanges of its runs: fixed cost, latency a message, bandwidth of a port.

The numbers of messages and bytes are those that the simulator charges for the same exchange, so the constants mean the
same when they are fitted and when they are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simulator.collectives import choose, idle_times, schedule
from simulator.fitting import fit_nonnegative
from simulator.network import Topology
from simulator.observe import Exchanged
from simulator.profile import NetworkFit

PRIOR = (1e-3, 2e-5, 5e-10)  # seconds a call, seconds a message, seconds a byte
FASTEST = 1e12  # bytes/s: what stands for "no cost a byte was seen"


def messages_and_bytes(wire: str, workers: int, sizes: Sequence[int]) -> tuple[float, float]:
    """Messages one after the other, and bytes through one port, on the longest way of the exchange that is simulated.

    wire "dense": allreduce of sizes[0] bytes; "sparse": allgather of sizes[r] bytes from each rank r.
    """
    kind = "allreduce" if wire == "dense" else "allgather"
    algorithm = choose(kind, workers, sizes[0] if wire == "dense" else sum(sizes))
    rounds = schedule(kind, algorithm, [float(size) for size in sizes])
    if not rounds:
        return 0.0, 0.0
    messages = idle_times(rounds, Topology(workers, 1, np.inf, 1.0, np.inf, 1.0))
    port = idle_times(rounds, Topology(workers, 1, 1.0, 0.0, 1.0, 0.0))
    return float(messages.max()), float(port.max())


def fit_network(exchanges: Sequence[Exchanged], cycle_s: float) -> tuple[NetworkFit | None, dict[str, Any]]:
    """Fit call + messages * latency + bytes / bandwidth to the seconds of exchanges; None where there are too few.

    An exchange that was launched on an idle Horovod waits half a cycle on average until it is seen; that share is taken
    out of the fixed cost. Runs of one size of job cannot tell latency from fixed cost: the prior's proportions decide,
    and `fits` says so.
    """
    usable = [e for e in exchanges if e.workers > 1]
    if len(usable) < 3:
        return None, {}
    rows = [messages_and_bytes(e.wire, e.workers, e.bytes) for e in usable]
    seconds = np.array([e.seconds for e in usable])
    waited = np.array([0.0 if e.queued else cycle_s / 2 for e in usable])
    design = np.array([[1.0, messages, size] for messages, size in rows])
    fit = fit_nonnegative(design, np.maximum(seconds - waited, 1e-9), PRIOR)
    call, latency, per_byte = fit.constants
    bandwidth = min(FASTEST, 1.0 / per_byte) if per_byte > 0 else FASTEST
    return NetworkFit(latency, bandwidth, cycle_s, call), fit.note(("call_s", "latency_s", "seconds_per_byte"))
