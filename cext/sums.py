"""Sums, counts and the largest number of a vector; what they are is said in cext and cext.reference."""

from __future__ import annotations

import math

from cext.levels import _kernels
from cext.moments_type import SUM_ALL, Moments, asked_for
from cext.places import Vector


def moments(x: Vector, threads: int = 1, sums: int = SUM_ALL) -> Moments:
    """Count, non-zeros, and the sums of x, |x|, x², ln(|x| + 2.2e-16), with the largest |x|, in one pass."""
    found = Moments(*_kernels.moments(x, threads, sums))
    return found if sums == SUM_ALL else asked_for(found, sums)


def moments_feedback(gradient: Vector, residual: Vector, threads: int = 1, sums: int = SUM_ALL) -> Moments:
    """residual += gradient, and the moments of the residual, in the same pass."""
    found = Moments(*_kernels.moments_feedback(gradient, residual, threads, sums))
    return found if sums == SUM_ALL else asked_for(found, sums)


def tail_moments(x: Vector, threshold: float, threads: int = 1, limit: float = math.inf) -> tuple[int, float, float]:
    """Count, sum and sum of squares of |x| - threshold over threshold < |x| <= limit; no limit: over NaN, too."""
    count, total, squares = _kernels.tail_moments(x, threshold, threads, limit)
    return count, total, squares


def count_above(x: Vector, threshold: float, threads: int = 1) -> int:
    """Elements with |x| > threshold, NaN among them."""
    count: int = _kernels.count_above(x, threshold, threads)
    return count


def max_abs(x: Vector, threads: int = 1) -> float:
    """The largest |x|, 0.0 for an empty vector: one pass that only reads, the floor of what looks at every element."""
    largest: float = _kernels.max_abs(x, threads)
    return largest
