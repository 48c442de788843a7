"""Links between hosts from the exchanges of runs on several of them: what the rates in the experiment file come to.

seconds = call + coordinate (on an idle Horovod) + messages x latency + bytes / (rate x efficiency) + bytes x byte_s

rate is what the experiment file says of the slowest host's link; efficiency, the share of it that payloads get, is
known and not fitted; byte_s is what software adds a byte (copies, sums), whatever the rate. Messages and bytes are
those that the simulator charges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.fitting import fit_nonnegative
from simulator.netfit import messages_and_bytes
from simulator.observe import Exchanged
from simulator.profile import LinkFit

PRIOR = (2e-4, 1e-3, 1e-4, 1e-10)  # seconds a call, a cycle, a message, a byte
NAMES = ("call_s", "coordinate_s", "latency_s", "byte_s")
EFFICIENCY = 1448 / 1514  # of a frame of 1514 bytes, headers of Ethernet, IP and TCP with timestamps take 66


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
    rows, beyond, weights = [], [], []
    for e, factor in usable:
        messages, size = messages_and_bytes(e)
        idle = 0.0 if e.queued else 1.0
        rows.append([1.0 / factor, idle / factor, messages / factor, size / factor])
        beyond.append(max(0.0, e.seconds - idle * cycle_s / 2 - size / (e.rate * EFFICIENCY)))
        weights.append(e.seconds**-0.5)
    weight = np.array(weights)
    fit = fit_nonnegative(np.array(rows) * weight[:, None], np.array(beyond) * weight, PRIOR)
    call, coordinate, latency, byte_s = fit.constants
    whole = float(np.median(np.abs(fit_residuals(rows, fit.constants, beyond)) / [e.seconds for e, _ in usable]))
    note = fit.note(NAMES) | {"relative_residual": whole, "efficiency": EFFICIENCY}
    return LinkFit(latency, EFFICIENCY, cycle_s, call, coordinate, byte_s), note


def fit_residuals(rows: list[list[float]], constants: Sequence[float], seconds: list[float]) -> NDArray[np.float64]:
    """What a fit leaves of each observation, in its own unit."""
    return np.asarray(np.array(rows) @ np.array(constants) - np.array(seconds))
