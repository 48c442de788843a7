"""Means over seeds and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Mean:
    """A mean, and half the width of its 95 % interval; NaN where it cannot be told."""

    value: float
    half: float

    def above(self, limit: float) -> bool:
        """Whether the whole interval lies above."""
        return self.value - self.half > limit

    def below(self, limit: float) -> bool:
        """Whether the whole interval lies below."""
        return self.value + self.half < limit


def mean(values: Sequence[float]) -> Mean:
    """Mean of independent values with Student's t interval: mean ± t(0.975, n - 1) s / sqrt(n)."""
    if not values or not all(math.isfinite(value) for value in values):
        return Mean(math.nan, math.nan)
    count, middle = len(values), float(np.mean(values))
    if count < 2:
        return Mean(middle, math.nan)
    return Mean(middle, float(stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count)))
