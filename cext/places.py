"""What the NumPy references share: the type of a vector, and the refusal of places outside it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[Any]
DRAW_BLOCK = 65536  # elements of which select_drawn draws a subset by itself; one number of 64 bits holds four places


def check_places(indices: Vector, n: int) -> None:
    """Raise ValueError unless every index is in [0, n)."""
    bad = np.flatnonzero((indices < 0) | (indices >= n))
    if len(bad):
        raise ValueError(f"indices[{bad[0]}] = {indices[bad[0]]}: allowed are 0 to {n - 1}")
