"""Coordinates drawn without looking at the values, in NumPy; see cext.reference."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cext.places import DRAW_BLOCK, MIX_STEP, Vector, mixed


def select_drawn(
    gradient: Vector | None,
    x: Vector | None,
    n: int,
    ends: Vector,
    seed: int,
    indices: Vector,
    values: Vector,
    threads: int = 1,
) -> None:
    """x += gradient, if there is one; then entries of x at uniformly drawn places, ascending, which become 0 in x where
    there is a gradient. Without x its values are zeros.

    ends: int64, one a block of 65536 elements: entries up to its end; the last is len(indices). The places of a block
    are a uniform subset of it and depend on the seed, taken modulo 2^64, and on the block's number alone: the first
    distinct ones of a splitmix64 sequence, or, where more than half are wanted, all but those.
    """
    bounds = np.concatenate(([0], ends))
    lengths = np.minimum(DRAW_BLOCK, n - DRAW_BLOCK * np.arange(-(-n // DRAW_BLOCK)))
    if len(ends) != len(lengths):
        raise ValueError(f"select_drawn: ends has {len(ends)} elements, the blocks has {len(lengths)}")
    counts = np.diff(bounds)
    if (counts < 0).any() or (counts > lengths).any() or bounds[-1] != len(indices):
        raise ValueError("select_drawn: ends must ascend by at most a block's elements, to the length of indices")
    if gradient is not None:
        assert x is not None
        x += gradient
    for block, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        at = slice(bounds[block], bounds[block + 1])
        indices[at] = DRAW_BLOCK * block + _places(int(length), int(count), seed, block)
    values[:] = 0.0 if x is None else x[indices]
    if gradient is not None and x is not None:
        x[indices] = 0.0


def _places(length: int, count: int, seed: int, block: int) -> NDArray[np.int64]:
    wanted = min(count, length - count) if count > length // 2 else count
    state = mixed(np.uint64((seed + (block + 1) * int(MIX_STEP)) % 2**64))
    numbers, found = 16 + wanted, np.empty(0, np.int64)
    while len(found) < wanted:
        numbers *= 2
        said = mixed(state + MIX_STEP * np.arange(1, numbers + 1, dtype=np.uint64))
        shifts = np.array([0, 16, 32, 48], np.uint64)
        drawn = (said[:, None] >> shifts).ravel() & np.uint64(2 ** (length - 1).bit_length() - 1)
        drawn = drawn[drawn < length].astype(np.int64)
        _, first = np.unique(drawn, return_index=True)
        found = drawn[np.sort(first)[:wanted]]
    taken = np.zeros(length, bool)
    taken[found] = True
    return np.flatnonzero(taken if wanted == count else ~taken)
