"""Which tensors are compressed and exchanged together, in the order in which backward makes them ready."""

from __future__ import annotations

from collections.abc import Sequence


def plan_buckets(elements: Sequence[int], granularity: str, merge_elements: int) -> list[list[int]]:
    """Group tensors into buckets.

    elements: size of each tensor, in forward order. Returns lists of tensor positions; buckets and their members stand
    in backward order, so the first bucket is the first to be complete.
    "layer": a bucket a tensor; "model": one bucket; "merged": neighbours are joined while their sum stays within
    `merge_elements` (a larger tensor stands alone).
    """
    order = list(range(len(elements) - 1, -1, -1))
    if granularity == "layer":
        return [[position] for position in order]
    if granularity == "model":
        return [order] if order else []
    buckets: list[list[int]] = []
    filled = 0
    for position in order:
        if not buckets or filled + elements[position] > merge_elements:
            buckets.append([])
            filled = 0
        buckets[-1].append(position)
        filled += elements[position]
    return buckets
