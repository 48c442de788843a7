"""Ascending lists of coordinates: (indices int32, values float32) pairs of NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import cext
from toolkit.exchange.wire import Entries

EMPTY: Entries = (np.empty(0, np.int32), np.empty(0, np.float32))


def join(parts: Sequence[Entries]) -> Entries:
    """The lists behind each other."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return EMPTY
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def merge_lists(parts: Sequence[Entries]) -> Entries:
    """Union of ascending lists; values of one index are added in list order: the same bits wherever this is done."""
    indices, values = join(parts)
    offsets = np.cumsum([0] + [part[0].size for part in parts], dtype=np.int64)
    merged_indices, merged_values = np.empty_like(indices), np.empty_like(values)
    count = cext.merge_sorted(indices, values, offsets, merged_indices, merged_values, torch.get_num_threads())
    return merged_indices[:count], merged_values[:count]


def largest(entries: Entries, k: int) -> tuple[Entries, Entries]:
    """The k entries of largest magnitude, ties by the lowest index, and the others; both ascending."""
    indices, values = entries
    if indices.size <= k:
        return entries, EMPTY
    places, chosen = np.empty(k, np.int32), np.empty(k, np.float32)
    workspace = np.empty(cext.topk_workspace(values.size, k), np.uint8)
    cext.topk_select(np.ascontiguousarray(values), k, places, chosen, workspace)
    rest = np.ones(indices.size, bool)
    rest[places] = False
    return (indices[places], chosen), (indices[rest], values[rest])


def is_in(indices: NDArray[Any], ascending: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of `indices` stand in the list `ascending`."""
    if not ascending.size:
        return np.zeros(indices.size, bool)
    places = np.minimum(np.searchsorted(ascending, indices), ascending.size - 1)
    found: NDArray[np.bool_] = ascending[places] == indices
    return found


def where(entries: Entries, chosen: NDArray[np.bool_]) -> Entries:
    return entries[0][chosen], entries[1][chosen]
