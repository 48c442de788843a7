"""Robust non-negative least squares with standard errors: the statistics of calibration, free of any trace or file.

Times on a shared host have a long right tail (a preempted thread, a page fault), so residuals are weighted by Huber's
function. Physical costs are never negative, so the solver is `scipy.optimize.nnls` (Lawson & Hanson 1974, ch. 23).
Where the observations cannot separate two constants (one bucket size, one density), the split follows the proportions
of a prior and the standard error says that it is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Array = NDArray[np.float64]
HUBER = 1.345  # 95 % efficiency under normal errors (Huber 1981, section 4)
FLOOR = 1e-6  # least relative scatter that is believed
TRUST = 0.3  # weight of the prior's proportions against one group of observations
RESOLVED = 0.9  # share of a constant that the data must say for it to count as identified
ROUNDS = 50
DECADES = 0.1  # observations whose sizes differ by less (in log10) count as one: their errors have one cause


@dataclass(frozen=True)
class Fit:
    """Fitted constants x of y = A x.

    errors: standard errors; where the data leave a constant open, the most that it could be. resolved: share of what is
    known of a constant that the data say, 0 to 1 (the diagonal of Menke's model resolution matrix); the rest is the
    prior's. residual: median |y - A x| / median y.
    """

    constants: tuple[float, ...]
    errors: tuple[float, ...]
    resolved: tuple[float, ...]
    residual: float
    n: int

    def note(self, names: Sequence[str]) -> dict[str, Any]:
        """What a profile's `fits` says of these constants: value, standard error and whether the data fixed it."""
        rows = {}
        for name, value, error, share in zip(names, self.constants, self.errors, self.resolved, strict=True):
            known = bool(share > RESOLVED and error <= max(0.5 * value, 1e-12))
            rows[name] = {"value": value, "standard_error": error, "resolved": share, "identified": known}
        return {"constants": rows, "relative_residual": self.residual, "observations": self.n}


def fit_nonnegative(design: Array, seconds: Array, prior: Sequence[float]) -> Fit:
    """Fit seconds = design @ x with x >= 0.

    design: (observations, constants); seconds: (observations,); prior: (constants,) typical sizes > 0. All constants
    are pulled weakly towards one common multiple of the prior, and each group of like sizes has the weight of one
    observation against that: two sizes that differ by 2 % cannot tell constants apart through 10 % of scatter, however
    often they were timed. Raises ValueError without observations.
    """
    design, seconds = np.asarray(design, dtype=float), np.asarray(seconds, dtype=float)
    if design.ndim != 2 or design.shape[0] == 0 or design.shape[0] != seconds.shape[0]:
        raise ValueError(f"design {design.shape} and seconds {seconds.shape} must have the same, non-zero length")
    scale = float(np.median(seconds)) or 1.0
    typical = np.asarray(prior, dtype=float)
    basis = design * typical / scale  # in units of the prior, so that columns of 1 and of 1e7 elements are comparable
    target = seconds / scale
    pull = (np.eye(len(typical)) - 1.0 / len(typical)) * max(float(np.median(basis.sum(axis=1))), 1e-12)
    pull *= TRUST * np.sqrt(len(target) / _groups(design))
    weights, scatter, solution = np.ones_like(target), 1.0, np.zeros(len(typical))
    for _ in range(ROUNDS):
        root = np.sqrt(weights)
        rows = np.vstack([basis * root[:, None], pull * scatter])
        wanted = np.concatenate([target * root, np.zeros(len(typical))])
        update, _ = nnls(rows, wanted, maxiter=100 * len(typical))
        settled = np.allclose(update, solution, rtol=1e-9, atol=1e-15)
        solution = update
        if settled:
            break
        residuals = target - basis @ solution
        weights = huber_weights(residuals)
        scatter = max(FLOOR, 1.4826 * float(np.median(np.abs(residuals))))
    residuals = target - basis @ solution
    errors, resolved = _uncertainty(basis, pull * scatter, residuals, weights)
    constants = tuple(float(value) for value in solution * typical)
    relative = float(np.median(np.abs(residuals)))
    return Fit(constants, tuple((errors * typical).tolist()), tuple(resolved.tolist()), relative, len(seconds))


def _groups(design: Array) -> int:
    """Number of different sizes among the observations."""
    return len(np.unique(np.round(np.log10(np.maximum(design, 1e-300)) / DECADES), axis=0))


def _uncertainty(basis: Array, pull: Array, residuals: Array, weights: Array) -> tuple[Array, Array]:
    """Standard errors, the square roots of the diagonal of σ²(AᵀWA + PᵀP)⁻¹, and the resolution of each constant.

    A constant that the observations leave open could be anything from nothing to the whole of the seconds: its error is
    the latter.
    """
    variance = float((weights * residuals**2).sum()) / max(1, len(residuals) - basis.shape[1])
    information = basis.T @ (basis * weights[:, None])
    inverse = np.linalg.pinv(information + pull.T @ pull, hermitian=True)
    resolved = np.clip(np.diag(inverse @ information), 0.0, 1.0)
    largest = 1.0 / np.maximum(np.abs(basis).mean(axis=0), 1e-300)  # the median of the seconds is 1 in these units
    errors = np.sqrt(variance * np.maximum(np.diag(inverse), 0.0))
    return np.where(resolved > RESOLVED, errors, largest), resolved


def huber_weights(residuals: Array) -> Array:
    """Huber's weights of residuals (n,), their scale taken from the median absolute deviation."""
    spread = 1.4826 * float(np.median(np.abs(residuals - np.median(residuals))))
    if spread <= 1e-12:
        return np.ones_like(residuals)
    return np.asarray(np.minimum(1.0, HUBER * spread / np.maximum(np.abs(residuals), 1e-300)))


def trimmed_mean(values: Array, share: float = 0.1) -> float:
    """Mean without the largest and smallest `share` of values: keeps what recurs, drops the accidents of the host."""
    ordered = np.sort(np.asarray(values, dtype=float))
    cut = int(share * len(ordered))
    return float(ordered[cut : len(ordered) - cut].mean()) if len(ordered) else 0.0


def robust_cv(values: Array) -> float:
    """Relative standard deviation of values (n,) from the median absolute deviation; 0 for fewer than three."""
    values = np.asarray(values, dtype=float)
    middle = float(np.median(values)) if len(values) >= 3 else 0.0
    return 1.4826 * float(np.median(np.abs(values - middle))) / middle if middle > 0 else 0.0
