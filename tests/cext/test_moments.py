"""Moments: near the exact sums, the same bits for every thread count and instruction set, NaN and infinity carried."""

import itertools
import math

import numpy as np
import pytest

import cext
from cext import reference


def close(a, b, scale):
    return a == b or (math.isnan(a) and math.isnan(b)) or abs(a - b) <= 1e-12 * scale


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
class TestMoments:
    def test_equals_reference(self, level, length, kinds, make, same):
        for kind, threads in itertools.product(kinds, (1, 2)):
            gradient, before = make(length, kind, seed=1), make(length, kind, seed=2)
            residual, wanted_residual = before.copy(), before.copy()
            for got, wanted in (
                (cext.moments(before, threads), reference.moments(before)),
                (
                    cext.moments_feedback(gradient, residual, threads),
                    reference.moments_feedback(gradient, wanted_residual),
                ),
            ):
                assert got[:2] == wanted[:2]
                assert close(got.max_abs, wanted.max_abs, 0)
                assert close(got.sum, wanted.sum, wanted.sum_abs)
                assert close(got.sum_abs, wanted.sum_abs, wanted.sum_abs)
                assert close(got.sum_squares, wanted.sum_squares, wanted.sum_squares)
                assert close(got.sum_log, wanted.sum_log, 40.0 * max(1, length))  # |ln| of a float reaches 100
            assert same(residual, wanted_residual)

    def test_tail_equals_reference(self, level, length, kinds, make):
        for kind, threshold in itertools.product(kinds, (0.0, 0.25, 1.0, 3.0, -0.5)):
            x = make(length, kind)
            for threads in (1, 2):
                got, wanted = cext.tail_moments(x, threshold, threads), reference.tail_moments(x, threshold)
                assert got[0] == wanted[0]
                assert close(got[1], wanted[1], abs(wanted[1]))
                assert close(got[2], wanted[2], abs(wanted[2]))
            assert cext.count_above(x, threshold) == reference.count_above(x, threshold) == wanted[0]

    def test_counts_are_the_same_in_parts(self, level, make):
        x = make(2_000_003, "heavy")
        for threads in (1, 2, 3):
            assert cext.count_above(x, 1.5, threads) == np.count_nonzero(np.abs(x) > 1.5)


@pytest.mark.parametrize("n", [5, 33, 20_011, 700_001, 1_500_003])
def test_same_bits_on_every_instruction_set_and_thread_count(n, make):
    x, gradient = make(n), make(n, seed=1)
    before, outcomes = cext.simd(), set()
    for level in cext.capabilities():
        cext.use(level)
        for threads in (1, 2, 3):
            tail = cext.tail_moments(x, 0.7, threads)
            outcomes.add((*cext.moments(x, threads), *cext.moments_feedback(gradient, x.copy(), threads), *tail))
    cext.use(before)
    assert len(outcomes) == 1


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
class TestSumsThatAreAskedFor:
    NAMES = {"sum": cext.SUM_X, "sum_abs": cext.SUM_ABS, "sum_squares": cext.SUM_SQUARES, "sum_log": cext.SUM_LOGS}

    def test_they_are_those_of_the_reference(self, level, length, kinds, make, same):
        for kind, sums in itertools.product(kinds, (0, 2, 5, 6, 9, 14)):  # each loop of its own, and one that has none
            gradient, x = make(length, kind, seed=1), make(length, kind, seed=2)
            after, wanted_after = x.copy(), x.copy()
            got = cext.moments_feedback(gradient, after, 1, sums)
            wanted = reference.moments_feedback(gradient, wanted_after, 1, sums)
            assert same(after, wanted_after)
            assert got[:2] == wanted[:2] == (length, -1)
            assert close(got.max_abs, wanted.max_abs, 0)
            plain = cext.moments(after, 1, sums)
            for name, bit in self.NAMES.items():
                one, other = getattr(got, name), getattr(wanted, name)
                scale = 40.0 * max(1, length) if bit == cext.SUM_LOGS else max(abs(other), length * wanted.max_abs)
                assert close(one, other, 1e5 * scale), (kind, sums, name)  # some are added up in float for a while
                assert math.isnan(one) or sums & bit
                assert getattr(plain, name) == one or math.isnan(one)  # what is only read has the same bits


def test_sums_that_are_asked_for_have_the_same_bits_everywhere(make):
    x, gradient, before = make(700_001), make(700_001, seed=1), cext.simd()
    for sums in (0, cext.SUM_ABS, cext.SUM_X + cext.SUM_SQUARES, cext.SUM_ALL - cext.SUM_X):
        outcomes = set()
        for level in cext.capabilities():
            cext.use(level)
            for threads in (1, 2, 3):
                outcomes.add(str(cext.moments_feedback(gradient, x.copy(), threads, sums)))
        cext.use(before)
        assert len(outcomes) == 1


@pytest.mark.parametrize("n", [64, 20_000])
def test_sums_that_leave_float32_are_right_all_the_same(level, n):
    x = np.full(n, np.float32(-3e38))
    for got in (cext.moments(x, 1, cext.SUM_ABS), cext.moments_feedback(np.zeros_like(x), x, 1, cext.SUM_ABS)):
        assert got.sum_abs == pytest.approx(n * 3e38, rel=1e-6)
        assert math.isnan(got.sum)


def test_logarithms_are_those_of_libm(level):
    x = np.array([0, 1, math.e, 1e-30, 3e38, 1e-45, -2], np.float32)
    shifted = (np.abs(x) + np.float32(2.2e-16)).astype(np.float64)
    assert cext.moments(x).sum_log == pytest.approx(math.fsum(map(math.log, shifted)), rel=1e-14)


def test_long_products_of_mantissas_do_not_overflow(level):
    x = np.full(300_000, np.nextafter(np.float32(2), np.float32(0)))
    assert cext.moments(x).sum_log == pytest.approx(300_000 * math.log(float(x[0])), rel=1e-12)


def test_nan_and_infinity_are_carried(level, make):
    x = make(1000)
    x[500] = np.inf
    m = cext.moments(x)
    assert (m.sum_abs, m.sum_squares, m.sum_log, m.max_abs) == (math.inf,) * 4
    x[501] = -np.nan
    m = cext.moments(x)
    assert all(map(math.isnan, (m.sum_abs, m.sum_squares, m.sum_log, m.max_abs)))
    assert m.nonzero == 1000
