"""The scan of a carried threshold (StellaTrain), in NumPy; see cext.reference."""

from __future__ import annotations

import math

import numpy as np

from cext.places import Vector
from cext.reference_sums import above, largest, magnitude_key


def scan_workspace(n: int, k: int, most: int) -> int:
    """Bytes (uint8 elements) of workspace; the reference needs none."""
    return 0


def scan_select(
    scores: Vector,
    places: Vector,
    threshold: float,
    most: int,
    start: int,
    out: Vector,
    workspace: Vector,
    threads: int = 1,
) -> tuple[int, float, float]:
    """Takes k = len(out) of the scores, 1 <= k <= n, and writes their places (int32, ascending), in ascending order.

    If k to `most` of them are above the threshold and all are finite: k of these, in turn from place `start` on, and on
    from the first after the last (the scan of StellaTrain's threshold-v, SIGCOMM 2024). Otherwise the k largest, ties
    by the lowest place. Returns how many are above the threshold; the lowest of the k largest, where these are taken,
    else NaN; and the largest of all.
    """
    k, over, top = len(out), np.flatnonzero(above(scores, threshold)), float(np.abs(scores).max())
    if not (k <= len(over) <= most and math.isfinite(top)):
        chosen = largest(scores, k)
        out[:] = places[chosen]
        return len(over), float(np.abs(scores[chosen][magnitude_key(scores[chosen]).argmin()])), top
    first = int(np.searchsorted(places[over], start))
    out[:] = np.sort(places[np.take(over, np.arange(first, first + k), mode="wrap")])
    return len(over), math.nan, top
