"""Which tensors PowerSGD factorises, and how many values travel: the same for trainer and simulator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """A tensor in a bucket's vector, from `start` on: a matrix (rows, columns) at `rank`, or sent whole (rank 0)."""

    start: int
    rows: int
    columns: int
    rank: int

    @property
    def elements(self) -> int:
        return self.rows * self.columns

    @property
    def entries(self) -> int:
        """Values that a worker sends for it, in all rounds."""
        return self.rank * (self.rows + self.columns) if self.rank else self.elements


def pieces(shapes: Sequence[Sequence[int]], rank: int) -> list[Piece]:
    """A piece a tensor, in the vector's order.

    A tensor is the matrix of its first dimension by all others (PowerSGD, NeurIPS 2019, section 3); vectors, and
    matrices whose factors hold no fewer values than they do, are sent whole.
    """
    found, start = [], 0
    for shape in shapes:
        elements = math.prod(shape)
        rows = shape[0] if len(shape) > 1 else 1
        columns = elements // rows if rows else 0
        used = min(rank, rows, columns)
        found.append(Piece(start, rows, columns, used if used * (rows + columns) < elements else 0))
        start += elements
    return found
