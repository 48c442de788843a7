"""Choosing entries of a vector: by size, by whole blocks, or by lot; see cext and cext.reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cext.levels import _kernels
from cext.moments_type import SUM_ALL, Collected, Moments, StageFit, asked_for, asked_tails
from cext.places import Vector


def threshold_select(x: Vector, threshold: float, indices: Vector, values: Vector, threads: int = 1) -> int:
    """Entries with |x| > threshold, ascending; returns the true count, writes at most len(indices) of them."""
    count: int = _kernels.threshold_select(x, threshold, indices, values, threads)
    return count


def threshold_select_feedback(
    gradient: Vector,
    residual: Vector,
    threshold: float,
    indices: Vector,
    values: Vector,
    threads: int = 1,
    seed: int = 0,
) -> int:
    """residual += gradient, then threshold_select from residual, which becomes 0 where an entry is written."""
    count: int = _kernels.threshold_select_feedback(gradient, residual, threshold, indices, values, threads, seed)
    return count


def topk_predictable(n: int, k: int) -> bool:
    """Whether one pass finds the k largest of n, as a rule: a bfloat16 residual has nothing else."""
    found: bool = _kernels.topk_predictable(n, k)
    return found


def topk_workspace(n: int, k: int) -> int:
    """Bytes (uint8 elements) of workspace that the exact top-k of n elements needs."""
    size: int = _kernels.topk_workspace(n, k)
    return size


def topk_select(x: Vector, k: int, indices: Vector, values: Vector, workspace: Vector, threads: int = 1) -> int:
    """Exactly the k largest |x|, ties by the lowest index, ascending indices; returns k."""
    count: int = _kernels.topk_select(x, k, indices, values, workspace, threads)
    return count


def topk_select_feedback(
    gradient: Vector,
    residual: Vector,
    k: int,
    indices: Vector,
    values: Vector,
    workspace: Vector,
    threads: int = 1,
    seed: int = 0,
) -> int:
    """residual += gradient, then topk_select from residual, which becomes 0 where an entry is written.

    Returns k; with a bfloat16 residual -1 where one pass does not do: then nothing is selected.
    """
    count: int = _kernels.topk_select_feedback(gradient, residual, k, indices, values, workspace, threads, seed)
    return count


def collect_workspace(n: int) -> int:
    """Bytes (uint8 elements) of workspace that collect_feedback of n elements needs."""
    size: int = _kernels.collect_workspace(n)
    return size


def collect_feedback(
    gradient: Vector,
    residual: Vector,
    low: float,
    zero_above: float,
    indices: Vector,
    values: Vector,
    brackets: Vector,
    between: Vector,
    workspace: Vector,
    sums: int = SUM_ALL,
    threads: int = 1,
    seed: int = 0,
) -> Collected:
    """residual += gradient, sums, the brackets' tails and the candidates above `low`, in one pass over memory."""
    arrays = (indices, values, brackets, between, workspace)
    seen = _kernels.collect_feedback(gradient, residual, low, zero_above, *arrays, sums, threads, seed)
    return _collected(seen, sums)


def _collected(seen: tuple[Any, ...], sums: int) -> Collected:
    candidates, all_sums, tails, inside = seen
    return Collected(candidates, asked_for(Moments(*all_sums), sums), asked_tails(tails, sums), inside)


def collect_stages(
    gradient: Vector,
    residual: Vector,
    low: float,
    zero_above: float,
    indices: Vector,
    values: Vector,
    brackets: Vector,
    between: Vector,
    workspace: Vector,
    sums: int,
    stages: Sequence[StageFit],
    threads: int = 1,
    seed: int = 0,
) -> tuple[Collected | None, int, tuple[float, ...], int]:
    """collect_feedback and settling on the threshold that stages end at: None, the count, every stage's threshold, and
    how many elements lay in brackets; what was collected, -1 and no threshold, where it does not tell.
    """
    arrays = (indices, values, brackets, between, workspace)
    seen, kept, thresholds, inside = _kernels.collect_stages(
        gradient, residual, low, zero_above, *arrays, sums, stages, threads, seed
    )
    return None if seen is None else _collected(seen, sums), kept, thresholds, inside


def settle(
    residual: Vector,
    indices: Vector,
    values: Vector,
    count: int,
    zeroed_above: float,
    threshold: float,
    threads: int = 1,
    seed: int = 0,
) -> int:
    """Keeps the entries with |value| > threshold, in place, and mends the residual; returns how many they are."""
    kept: int = _kernels.settle(residual, indices, values, count, zeroed_above, threshold, threads, seed)
    return kept


def settle_topk(
    residual: Vector,
    indices: Vector,
    values: Vector,
    count: int,
    zeroed_above: float,
    k: int,
    threads: int = 1,
    seed: int = 0,
) -> int:
    """Keeps the k entries with the largest |value|, in place, and mends the residual; returns k."""
    kept: int = _kernels.settle_topk(residual, indices, values, count, zeroed_above, k, threads, seed)
    return kept


def select_blocks(
    gradient: Vector | None, x: Vector, low: float, blocks: Vector, scores: Vector, threads: int = 1
) -> int:
    """x += gradient, if there is one; then the blocks of 16 elements with a sum of |x| above `low`, and these sums."""
    count: int = _kernels.select_blocks(gradient, x, low, blocks, scores, threads)
    return count


def take_blocks(
    residual: Vector, blocks: Vector, indices: Vector, values: Vector, threads: int = 1, zero: bool = True
) -> int:
    """Whole blocks of 16 of residual, which become 0 there unless `zero` is false; returns the number of entries."""
    count: int = _kernels.take_blocks(residual, blocks, indices, values, threads, zero)
    return count


def scan_workspace(n: int, k: int, most: int) -> int:
    """Bytes (uint8 elements) of workspace that scan_select of k of n needs."""
    size: int = _kernels.scan_workspace(n, k, most)
    return size


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
    """Places of len(out) scores: of those above the threshold in turn, if these are enough to `most`; else the largest.

    Returns how many are above it, the lowest of the largest, and the largest.
    """
    count, lowest, largest = _kernels.scan_select(scores, places, threshold, most, start, out, workspace, threads)
    return count, lowest, largest


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
    """x += gradient, if there is one; then entries at places that are drawn, so many a block of DRAW_BLOCK elements."""
    _kernels.select_drawn(gradient, x, n, ends, seed, indices, values, threads)
