"""What the NumPy references share: the type of a vector, the refusal of places outside it, and mixed numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[Any]
DRAW_BLOCK = 65536  # elements of which select_drawn draws a subset by itself; one number of 64 bits holds four places
MIX_STEP = np.uint64(0x9E3779B97F4A7C15)  # between neighbours that are mixed


def check_places(indices: Vector, n: int) -> None:
    """Raise ValueError unless every index is in [0, n)."""
    bad = np.flatnonzero((indices < 0) | (indices >= n))
    if len(bad):
        raise ValueError(f"indices[{bad[0]}] = {indices[bad[0]]}: allowed are 0 to {n - 1}")


def mixed(z: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    """splitmix64: a well mixed number for each of a sequence of neighbouring ones, the same in every run."""
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)))
