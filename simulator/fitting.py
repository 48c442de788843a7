"""Robust non-negative least squares with standard errors: the statistics of calibration, free of any trace or file.

Times on a shared host have a long right tail (a preempted thread, a page fault), so residuals are weighted by Huber's
function. Physical costs are never negative, so the solver is `scipy.optimize.nnls` (Lawson & Hanson 1974, ch. 23).
Where the observations cannot separate two constants (one bucket size, one density), the split follows the proportions
of a prior and the standard error says that it is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Array = NDArray[np.float64]
HUBER = 1.345  # 95 % efficiency under normal errors (Huber 1981, section 4)
PULL = 1e-3  # weight of the prior's proportions against one observation: it decides only what the data leave open
ROUNDS = 25


@dataclass(frozen=True)
class Fit:
    """Fitted constants x of y = A x. residual: median |y - A x| / median y. errors: one standard error a constant."""

    constants: tuple[float, ...]
    errors: tuple[float, ...]
    residual: float
    n: int

    def note(self, names: Sequence[str]) -> dict[str, object]:
        """What a profile's `fits` says of these constants: value, standard error and whether the data fixed it."""
        rows = {
            name: {"value": value, "standard_error": error, "identified": bool(error <= max(0.5 * value, 1e-12))}
            for name, value, error in zip(names, self.constants, self.errors, strict=True)
        }
        return {"constants": rows, "relative_residual": self.residual, "observations": self.n}


def fit_nonnegative(design: Array, seconds: Array, prior: Sequence[float]) -> Fit:
    """Fit seconds = design @ x with x >= 0.

    design: (observations, constants); seconds: (observations,); prior: (constants,) typical sizes > 0, whose
    proportions decide only the directions that the observations leave open. Raises ValueError without observations.
    """
    design, seconds = np.asarray(design, dtype=float), np.asarray(seconds, dtype=float)
    if design.ndim != 2 or design.shape[0] == 0 or design.shape[0] != seconds.shape[0]:
        raise ValueError(f"design {design.shape} and seconds {seconds.shape} must have the same, non-zero length")
    scale = float(np.median(seconds)) or 1.0
    typical = np.asarray(prior, dtype=float)
    basis = design * typical / scale  # in units of the prior, so that columns of 1 and of 1e7 elements are comparable
    target = seconds / scale
    level = max(float(np.median(basis.sum(axis=1))), 1e-12)
    tie = PULL * level * (np.eye(len(typical)) - 1.0 / len(typical))  # pulls all constants to one multiple of the prior
    weights = np.ones_like(target)
    solution = np.zeros(len(typical))
    for _ in range(ROUNDS):
        root = np.sqrt(weights)
        rows = np.vstack([basis * root[:, None], tie])
        update, _ = nnls(rows, np.concatenate([target * root, np.zeros(len(typical))]), maxiter=100 * len(typical))
        settled = np.allclose(update, solution, rtol=1e-9, atol=1e-15)
        solution = update
        if settled:
            break
        weights = huber_weights(target - basis @ solution)
    residuals = target - basis @ solution
    errors = _standard_errors(basis, tie, residuals, weights, solution)
    relative = float(np.median(np.abs(residuals)))
    constants = tuple(float(value) for value in solution * typical)
    return Fit(constants, tuple(float(error) for error in errors * typical), relative, len(seconds))


def huber_weights(residuals: Array) -> Array:
    """Huber's weights of residuals (n,), their scale taken from the median absolute deviation."""
    spread = 1.4826 * float(np.median(np.abs(residuals - np.median(residuals))))
    if spread <= 1e-12:
        return np.ones_like(residuals)
    return np.asarray(np.minimum(1.0, HUBER * spread / np.maximum(np.abs(residuals), 1e-300)))


def _standard_errors(basis: Array, tie: Array, residuals: Array, weights: Array, solution: Array) -> Array:
    """Square roots of the diagonal of σ²(AᵀWA + TᵀT)⁻¹.

    A constant that the observations leave open (it takes part in a direction of A that is as good as null) could be
    anything from nothing to the whole of the seconds: its error is the latter.
    """
    freedom = max(1, len(residuals) - int(np.count_nonzero(solution)))
    variance = float((weights * residuals**2).sum()) / freedom
    information = basis.T @ (basis * weights[:, None])
    strength, directions = np.linalg.eigh(information)
    null = directions[:, strength < 1e-8 * max(float(strength[-1]), 1e-300)]
    openness = (null**2).sum(axis=1)
    inverse = np.linalg.inv(information + tie.T @ tie)
    errors = np.sqrt(variance * np.maximum(np.diag(inverse), 0.0))
    largest = 1.0 / np.maximum(np.abs(basis).mean(axis=0), 1e-300)  # the median of the seconds is 1 in these units
    return np.asarray(np.where(openness > 1e-6, largest, errors))


def trimmed_mean(values: Array, share: float = 0.02) -> float:
    """Mean without the largest and smallest `share` of values: keeps the tail that recurs, drops the accident."""
    ordered = np.sort(np.asarray(values, dtype=float))
    cut = int(share * len(ordered))
    return float(ordered[cut : len(ordered) - cut].mean()) if len(ordered) else 0.0


def robust_cv(values: Array) -> float:
    """Relative standard deviation of values (n,) from the median absolute deviation; 0 for fewer than three."""
    values = np.asarray(values, dtype=float)
    middle = float(np.median(values)) if len(values) >= 3 else 0.0
    return 1.4826 * float(np.median(np.abs(values - middle))) / middle if middle > 0 else 0.0
