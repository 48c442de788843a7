"""Links between hosts from the exchanges of runs on several of them: what the rates in the experiment file come to.

seconds = call + coordinate (on an idle Horovod) + messages x latency + bytes / (rate x efficiency) + bytes x byte_s

rate is what the experiment file says of the slowest host's link; efficiency is the share of it that payloads get
(headers of TCP, IP and Ethernet leave 1448 of 1514 bytes, acknowledgements a little less); byte_s is what software adds
a byte (copies, sums), whatever the rate. Messages and bytes are those that the simulator charges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simulator.fitting import fit_nonnegative
from simulator.netfit import messages_and_bytes
from simulator.observe import Exchanged
from simulator.profile import LinkFit

PRIOR = (2e-4, 1e-3, 1e-4, 1514 / 1448, 1e-10)  # seconds a call, a cycle, a message; slowness; seconds a byte
NAMES = ("call_s", "coordinate_s", "latency_s", "slowness", "byte_s")


def fit_links(
    exchanges: Sequence[Exchanged], relaxed: Sequence[float], cycle_s: float
) -> tuple[LinkFit | None, dict[str, Any]]:
    """Fit the law above to exchanges between hosts; None for too few. relaxed: see `fit_network`.

    Only software is relaxed: time on the wire does not care how many ranks share a core. Long exchanges scatter more,
    about as the root of their time, and are weighted so.
    """
    usable = [(e, factor) for e, factor in zip(exchanges, relaxed, strict=True) if e.rate > 0]
    if len(usable) < 3:
        return None, {}
    rows, seconds = [], []
    for e, factor in usable:
        messages, size = messages_and_bytes(e)
        idle = 0.0 if e.queued else 1.0
        rows.append([1.0 / factor, idle / factor, messages / factor, size / e.rate, size / factor])
        seconds.append(max(e.seconds - idle * cycle_s / 2, 1e-9))
    weight = 1.0 / np.sqrt(np.array(seconds))
    fit = fit_nonnegative(np.array(rows) * weight[:, None], np.array(seconds) * weight, PRIOR)
    call, coordinate, latency, slowness, byte_s = fit.constants
    efficiency = 1.0 / slowness if slowness > 0 else 1.0
    return LinkFit(latency, efficiency, cycle_s, call, coordinate, byte_s), fit.note(NAMES)
