"""What a sample says of an estimate's error: Tukey's jackknife over groups, to first order."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.compression.fits import FITS, Fit, Shape
from toolkit.compression.predict import GROUPS, estimate

RATIO = 0.05


def sums(x: NDArray[np.float64]) -> tuple[float, float, float, float]:
    return len(x), float(x.sum()), float((x * x).sum()), float(np.log(x + 1e-9).sum())


def threshold(fit: Fit, groups: list[tuple[float, float, float, float]]) -> float:
    count, total, squares, logs = map(sum, zip(*groups, strict=True))
    return fit(Shape.of_means(count, total / count, squares / count, logs / count), RATIO)


def test_of_a_mean_it_is_the_jackknife_exactly() -> None:
    groups = [(50, float(x)) for x in np.random.default_rng(2).random(GROUPS)]
    value, error = estimate(groups, lambda _, mean: mean)
    total = sum(x for _, x in groups)
    rest = np.array([(total - x) / (50 * (GROUPS - 1)) for _, x in groups])
    assert value == pytest.approx(total / (50 * GROUPS))
    assert error == pytest.approx(math.sqrt((GROUPS - 1) / GROUPS * ((rest - rest.mean()) ** 2).sum()))


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("law", ["exponential", "normal", "gamma"])
def test_of_a_fit_it_is_near_the_jackknife_and_the_truth(fit: str, law: str) -> None:
    draw = {
        "exponential": lambda g: g.exponential(size=(GROUPS, 300)),
        "normal": lambda g: np.abs(g.normal(size=(GROUPS, 300))),
        "gamma": lambda g: g.gamma(0.6, size=(GROUPS, 300)),
    }[law]
    values, errors = [], []
    for seed in range(60):
        groups = [sums(x) for x in draw(np.random.default_rng(seed))]
        value, error = estimate(groups, lambda *means: FITS[fit](Shape.of_means(*means), RATIO))
        assert value == pytest.approx(threshold(FITS[fit], groups))
        rest = np.array([threshold(FITS[fit], groups[:g] + groups[g + 1 :]) for g in range(GROUPS)])
        assert error == pytest.approx(math.sqrt((GROUPS - 1) / GROUPS * ((rest - rest.mean()) ** 2).sum()), rel=0.25)
        values.append(value)
        errors.append(error)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(values), rel=0.35)


def test_neighbours_that_resemble_each_other_widen_it() -> None:
    generator = np.random.default_rng(3)
    alone = [sums(generator.exponential(size=320)) for _ in range(GROUPS)]
    alike = [sums(np.repeat(generator.exponential(size=10), 32)) for _ in range(GROUPS)]
    errors = [estimate(groups, lambda _, mean, *__: mean)[1] for groups in (alone, alike)]
    assert errors[1] > 3 * errors[0]


@pytest.mark.parametrize(
    "groups",
    [
        [(10, 5.0)],
        [(0, 0.0)] * (GROUPS - 1) + [(10, 5.0)],
        [(10, 5.0)] * (GROUPS - 1) + [(10, math.nan)],
        [(10, 5.0)] * (GROUPS - 1) + [(10, math.inf)],
    ],
)
def test_what_cannot_be_told_has_an_infinite_error(groups: list[tuple[float, ...]]) -> None:
    assert estimate(groups, lambda _, mean: mean)[1] == math.inf
