"""g(r, x): what compression rate and total batch cost in loss, learnt from short runs (StellaTrain, SIGCOMM 2024).

A profile is a list of measured points, kept as JSON and never as a pickle. Between them g is a Gaussian process with a
Matern-5/2 kernel and white noise over (log10(1 / (1 - r)), log2 of the batch over the middle one): equal steps on these
axes are equal factors of bytes and of samples.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from toolkit.errors import UserError

SCHEMA = "sandtable-penalty/1"
LEAST_POINTS = 4
SMOOTHING = 0.99  # of the loss, over steps


@dataclass(frozen=True)
class Point:
    """A measured run: compression rate in [0, 1), its total batch over the middle one, its loss over the base's - 1."""

    rate: float
    batch: float
    penalty: float


@dataclass(frozen=True)
class Profile:
    """Measured points and where they are from."""

    points: tuple[Point, ...]
    source: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "source": self.source, "points": [vars(point) for point in self.points]}


def load(path: str | Path) -> Profile:
    """Read a profile; UserError names the file and what is wrong with it."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise ValueError(content["schema"])
        points = tuple(Point(*(float(row[name]) for name in ("rate", "batch", "penalty"))) for row in content["points"])
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a penalty profile ('python -m toolkit penalty' writes one): {error!r}") from None
    for number, point in enumerate(points, start=1):
        if not (0 <= point.rate < 1 and 0 < point.batch < math.inf and math.isfinite(point.penalty)):
            raise UserError(f"{path}: point {number}: {vars(point)}: rate in [0, 1) and batch > 0 are wanted")
    if len(points) < LEAST_POINTS:
        raise UserError(f"{path}: {len(points)} points: at least {LEAST_POINTS} are wanted")
    return Profile(points, content.get("source", {}))


def smoothed(losses: Sequence[float]) -> float:
    """The exponential moving average of a run's losses, corrected for its start as Adam does it."""
    value = 0.0
    for loss in losses:
        value = SMOOTHING * value + (1 - SMOOTHING) * loss
    return value / (1 - SMOOTHING ** len(losses))


class Penalty:
    """g as a function: `Penalty(profile)(rate, batch)`, batch over the middle one; never below -1."""

    def __init__(self, profile: Profile) -> None:
        from sklearn.gaussian_process import GaussianProcessRegressor  # slow to import
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        kernel = ConstantKernel(0.1, (1e-6, 1e3)) * Matern([1.0, 1.0], (0.1, 30.0), nu=2.5) + WhiteKernel(
            1e-3, (1e-8, 1.0)
        )
        self._process = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=4, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a length scale at its bound: the axis does not matter
            self._process.fit([_axes(p.rate, p.batch) for p in profile.points], [p.penalty for p in profile.points])
        self._mean = lru_cache(maxsize=100_000)(self._predict)

    def __call__(self, rate: float, batch: float) -> float:
        return self._mean(rate, batch)

    def _predict(self, rate: float, batch: float) -> float:
        return max(-0.99, float(self._process.predict([_axes(rate, batch)])[0]))

    def deviation(self, rate: float, batch: float) -> float:
        """One standard deviation of what a run there would show, its noise included."""
        return float(self._process.predict([_axes(rate, batch)], return_std=True)[1][0])


def _axes(rate: float, batch: float) -> tuple[float, float]:
    return -math.log10(max(1e-9, 1 - rate)), math.log2(batch)
