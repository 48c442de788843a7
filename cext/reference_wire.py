"""NumPy references of the coding of indices by their gaps."""

from __future__ import annotations

import numpy as np

from cext.places import Vector

KINDS: dict[int, type[np.uint8] | type[np.uint16]] = {1: np.uint8, 2: np.uint16}


def delta_size(indices: Vector) -> tuple[int, int]:
    """Codes that ascending int32 indices take in 1 byte each and in 2.

    A code is the gap to the index before, less one: the places that are skipped. A gap that reaches the largest code M
    (255 or 65535) is written as M, which means "M further, and go on", as often as needed, then the rest.
    ValueError: indices that do not ascend strictly from 0 or more.
    """
    gaps = _gaps(indices)
    return len(indices) + int((gaps // 255).sum()), len(indices) + int((gaps // 65535).sum())


def delta_encode(indices: Vector, width: int, codes: Vector) -> None:
    """Writes the codes of `width` bytes (1 or 2) into uint8 `codes`, which they fill; ValueError if they do not."""
    kind = KINDS[width]
    largest = int(np.iinfo(kind).max)
    gaps = _gaps(indices)
    long = np.flatnonzero(gaps >= largest)
    repeats = gaps[long] // largest
    gaps[long] %= largest
    written = np.insert(gaps.astype(kind), np.repeat(long, repeats), largest).astype(kind).view(np.uint8)
    if written.size != codes.size:
        raise ValueError(f"codes has {codes.size} bytes, indices need {written.size}")
    codes[:] = written


def delta_decode(codes: Vector, width: int, indices: Vector) -> None:
    """Reads what delta_encode wrote; ValueError unless it is the codes of exactly len(indices) indices below 2^31."""
    read: Vector = codes.view(KINDS[width])
    skipped = np.cumsum(read, dtype=np.int64)
    last = np.asarray(read != np.iinfo(KINDS[width]).max)
    ends = skipped[last] + np.arange(int(last.sum()))
    if ends.size != indices.size or (read.size and not last[-1]) or (ends.size and ends[-1] > 2**31 - 1):
        raise ValueError(f"{read.size} codes are not those of {indices.size} indices up to 2147483647")
    indices[:] = ends


def _gaps(indices: Vector) -> Vector:
    """Places skipped before each index, int64."""
    gaps = np.diff(indices.astype(np.int64), prepend=-1) - 1
    if (gaps < 0).any():
        raise ValueError("indices must ascend strictly from 0 or more")
    return gaps
