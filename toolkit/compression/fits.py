"""Thresholds from moments: the three tail fits of SIDCo (MLSys 2021), as plain numbers in and out.

A fit answers: above which threshold lies a share `ratio` of magnitudes with this mean (and variance, or mean
logarithm)? All of them are scale-equivariant: magnitudes times c give the threshold times c.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from scipy.special import gammaincc, gammainccinv

import cext

ALL_EQUAL = 1e-14  # variance over squared mean that rounding alone may leave
LOG_EPSILON = 2.2e-16  # added to every magnitude under the logarithm, so that zeros have one


class Sums(Protocol):
    """What one pass over g + r gathers: of its magnitudes, and `sum` of itself; cext.Moments is one."""

    @property
    def count(self) -> int: ...
    @property
    def sum(self) -> float: ...
    @property
    def sum_abs(self) -> float: ...
    @property
    def sum_squares(self) -> float: ...
    @property
    def sum_log(self) -> float: ...
    @property
    def max_abs(self) -> float: ...


@dataclass(frozen=True)
class Shape:
    """Mean and unbiased variance of magnitudes, and the mean of ln(x + 2.2e-16); NaN where it was not gathered."""

    mean: float
    variance: float
    mean_log: float = math.nan

    @classmethod
    def of(cls, sums: Sums) -> Shape:
        """From the sums of a first pass; needs count >= 1."""
        shape = cls.of_tail(sums.count, sums.sum_abs, sums.sum_squares)
        return cls(shape.mean, shape.variance, sums.sum_log / sums.count)

    @classmethod
    def of_tail(cls, count: int, total: float, squares: float) -> Shape:
        """From count, sum and sum of squares of the excesses x - loc over a threshold; needs count >= 1."""
        mean = total / count
        # Rounding may leave a small negative number where all magnitudes are equal.
        variance = max(0.0, (squares - total * mean) / (count - 1)) if count > 1 else 0.0
        return cls(mean, variance)

    @classmethod
    def of_means(cls, count: float, mean: float, square: float, mean_log: float = math.nan) -> Shape:
        """From the means of magnitudes, of their squares and logarithms."""
        variance = max(0.0, square - mean * mean) * count / (count - 1) if count > 1 else 0.0
        return cls(mean, variance, mean_log)


Fit = Callable[[Shape, float], float]  # shape, ratio: the threshold


def exponential(shape: Shape, ratio: float) -> float:
    """η = μ·ln(1/δ)."""
    return shape.mean * -math.log(ratio)


def pareto(shape: Shape, ratio: float) -> float:
    """Generalised Pareto by its moments: a = ½μ(μ²/σ²+1), κ = ½(μ²/σ²−1), η = a(1−δ^κ)/κ; κ = −ξ > −½ always.

    κ -> 0 is the exponential; no variance (κ -> ∞) puts the whole mass at the mean.
    """
    if ratio >= 1.0:
        return 0.0
    if not math.isfinite(shape.mean) or not math.isfinite(shape.variance):
        return math.nan
    squared_mean = shape.mean * shape.mean
    if shape.variance <= ALL_EQUAL * squared_mean or squared_mean == 0.0:
        return shape.mean
    scale, kappa = pareto_parameters(shape)
    if abs(kappa) < 1e-12:
        return scale * -math.log(ratio)
    return scale * -math.expm1(kappa * math.log(ratio)) / kappa


def pareto_parameters(shape: Shape) -> tuple[float, float]:
    """(a, κ) of the generalised Pareto with survival (1 − κx/a)^(1/κ); needs a positive variance."""
    spread = shape.mean * shape.mean / shape.variance
    return 0.5 * shape.mean * (spread + 1.0), 0.5 * (spread - 1.0)


def gamma(shape: Shape, ratio: float) -> float:
    """Gamma by Minka's closed-form estimate: s = ln μ − mean ln x; η = β·P⁻¹(α, 1−δ).

    The mean where all are equal, which a variance, if there is one, tells better than s: logarithms are rounded.
    """
    if ratio >= 1.0:
        return 0.0
    if not (math.isfinite(shape.mean) and math.isfinite(shape.mean_log)):
        return math.nan
    if shape.mean == 0.0:
        return 0.0
    if shape.variance <= ALL_EQUAL * shape.mean * shape.mean:
        return shape.mean
    alpha, beta = gamma_parameters(shape)
    # The complement's inverse keeps its digits where the ratio is small.
    return beta * float(gammainccinv(alpha, ratio)) if math.isfinite(alpha) else shape.mean


def gamma_parameters(shape: Shape) -> tuple[float, float]:
    """(α, β) of the gamma; α is infinite where all magnitudes are equal. Needs a positive mean."""
    s = math.log(shape.mean) - shape.mean_log
    if s <= 1e-12:
        return math.inf, 0.0
    alpha = (3.0 - s + math.sqrt((s - 3.0) ** 2 + 24.0 * s)) / (12.0 * s)
    return alpha, shape.mean / alpha


FITS: dict[str, Fit] = {"exponential": exponential, "pareto": pareto, "gamma": gamma}
KERNEL_FITS: dict[Fit, int] = {exponential: cext.FIT_EXPONENTIAL, pareto: cext.FIT_PARETO}  # others are called


def survival(fit: str, shape: Shape, x: float) -> float:
    """Share of magnitudes above x >= 0 by the fit; the inverse of its threshold formula."""
    if fit == "exponential":
        return math.exp(-x / shape.mean) if shape.mean > 0 else 0.0
    if fit == "gamma":
        alpha, beta = gamma_parameters(shape)
        return float(gammaincc(alpha, x / beta)) if math.isfinite(alpha) else float(x < shape.mean)
    scale, kappa = pareto_parameters(shape)
    if abs(kappa) < 1e-12:
        return math.exp(-x / scale)
    inside = 1.0 - kappa * x / scale
    return float(inside ** (1.0 / kappa)) if inside > 0 else 0.0


def stage_ratios(density: float, stages: int, first_ratio: float) -> list[float]:
    """Ratio of each stage; their product is the density.

    One stage, or a density that the first stage alone reaches, is one stage. Otherwise δ₁ = first_ratio and the later
    stages share the rest evenly: δ_m = (δ/δ₁)^(1/(M−1)).
    """
    if stages <= 1 or density >= first_ratio:
        return [density]
    return [first_ratio] + [(density / first_ratio) ** (1.0 / (stages - 1))] * (stages - 1)


def most_stages(density: float) -> int:
    """Upper bound of the stages: ⌈log₂(1/δ)⌉, at least 1."""
    return max(1, math.ceil(-math.log2(density)))
