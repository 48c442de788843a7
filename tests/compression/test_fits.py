"""The fits against the distributions they are named after, and their limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from toolkit.compression import fits
from toolkit.compression.fits import FITS, Shape

RATIOS = [0.5, 0.25, 0.1, 0.01, 0.001, 1e-5]


@pytest.mark.parametrize("ratio", RATIOS)
def test_exact_moments_give_the_exact_quantile(ratio: float) -> None:
    assert fits.exponential(Shape(2.0, 4.0), ratio) == pytest.approx(stats.expon(scale=2.0).isf(ratio))
    for xi in (-0.4, -0.1, 0.2, 0.4):
        law = stats.genpareto(xi, scale=3.0)
        assert fits.pareto(Shape(law.mean(), law.var()), ratio) == pytest.approx(law.isf(ratio), rel=1e-9)


@pytest.mark.parametrize("alpha", [0.3, 0.7, 1.0, 4.0])
def test_the_gamma_estimate_recovers_the_shape(alpha: float) -> None:
    """Minka's closed form is within 1.5 % of the maximum-likelihood shape; the threshold follows."""
    law = stats.gamma(alpha, scale=2.0)
    mean_log = float(stats.loggamma(alpha).mean() + math.log(2.0))
    shape = Shape(law.mean(), law.var(), mean_log)
    assert fits.gamma_parameters(shape)[0] == pytest.approx(alpha, rel=0.02)
    assert fits.gamma(shape, 0.001) == pytest.approx(law.isf(0.001), rel=0.02)


@settings(deadline=None, max_examples=100)
@given(
    mean=st.floats(1e-8, 1e4),
    spread=st.floats(0.3, 20.0),
    gap=st.floats(1e-3, 30.0),
    ratio=st.floats(1e-6, 0.9),
    scale=st.floats(1e-6, 1e6),
)
def test_scale_equivariant_monotone_and_inverse_to_the_survival(mean, spread, gap, ratio, scale) -> None:
    shape = Shape(mean, mean * mean * spread, math.log(mean) - gap)
    scaled = Shape(mean * scale, mean * mean * spread * scale * scale, math.log(mean * scale) - gap)
    for name, fit in FITS.items():
        threshold = fit(shape, ratio)
        assert threshold >= 0
        assert fit(scaled, ratio) == pytest.approx(threshold * scale, rel=1e-6, abs=1e-300)
        assert fit(shape, ratio / 2) >= threshold
        if threshold > 1e-250:
            assert fits.survival(name, shape, threshold) == pytest.approx(ratio, rel=1e-6)


def test_kappa_zero_is_the_exponential() -> None:
    for off in (0.0, 1e-13, -1e-13, 1e-9, -1e-9):
        shape = Shape(1.0, 1.0 + off)
        assert fits.pareto(shape, 0.001) == pytest.approx(math.log(1000), rel=1e-6)


@pytest.mark.parametrize("name", FITS)
def test_no_spread_no_mass_and_no_number(name: str) -> None:
    equal = Shape(2.0, 0.0, math.log(2.0))
    if name != "exponential":
        assert FITS[name](equal, 0.001) == 2.0
    zero = Shape(0.0, 0.0, math.log(fits.LOG_EPSILON))
    assert FITS[name](zero, 0.001) == 0.0
    assert not math.isfinite(FITS[name](Shape(math.nan, math.nan, math.nan), 0.001))
    assert not math.isfinite(FITS[name](Shape(math.inf, math.nan, math.inf), 0.001))
    for shape in (Shape(2.0, 3.0, 0.1), equal, zero):
        assert FITS[name](shape, 1.0) == 0.0


def test_shape_from_sums() -> None:
    x = np.abs(np.random.default_rng(0).standard_normal(1000))
    shape = Shape.of_tail(1000, float(x.sum()), float((x * x).sum()))
    assert shape.mean == pytest.approx(x.mean())
    assert shape.variance == pytest.approx(x.var(ddof=1))
    assert Shape.of_tail(1, 5.0, 25.0).variance == 0.0


@settings(deadline=None, max_examples=200)
@given(density=st.floats(1e-6, 1.0), stages=st.integers(1, 20), first=st.floats(0.01, 1.0))
def test_stage_ratios_multiply_to_the_density(density: float, stages: int, first: float) -> None:
    ratios = fits.stage_ratios(density, stages, first)
    assert math.prod(ratios) == pytest.approx(density)
    assert all(0 < ratio <= 1 for ratio in ratios)
    assert len(ratios) == (1 if density >= first else stages)


def test_most_stages() -> None:
    assert [fits.most_stages(density) for density in (1.0, 0.5, 0.25, 0.1, 0.01, 0.001)] == [1, 1, 2, 4, 7, 10]


def test_equal_magnitudes_are_told_by_their_variance_where_logarithms_are_rounded() -> None:
    assert fits.gamma(Shape(130.0, 0.0, math.log(130.0) - 4e-8), 0.01) == 130.0
    assert fits.gamma(Shape(130.0, 1.0, math.log(130.0) - 3e-5), 0.01) > 130.5


def test_means_give_the_shape_of_their_sums() -> None:
    x = np.random.default_rng(1).exponential(size=200)
    wanted = Shape.of_tail(200, x.sum(), (x * x).sum())
    got = Shape.of_means(200, x.mean(), (x * x).mean(), 0.5)
    assert (got.mean, got.variance, got.mean_log) == pytest.approx((wanted.mean, wanted.variance, 0.5))
    assert Shape.of_means(5, 3.0, 9.0).variance == Shape.of_means(1, 3.0, 10.0).variance == 0.0
