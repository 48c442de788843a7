"""Threshold selection equals its reference on every instruction set, and conserves the gradient exactly."""

import itertools

import numpy as np
import pytest

import cext
from cext import reference

THRESHOLDS = (0.0, 1e-45, 0.25, 1.0, 2.9999999999, 3.0, -1.0, -0.0, 1e300, np.inf)


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
class TestThresholdSelect:
    def test_equals_reference(self, level, length, kinds, make, room, same):
        for kind, threads in itertools.product(kinds, (1, 2)):
            x = make(length, kind)
            for threshold in THRESHOLDS:
                indices, values = room(length)
                count = cext.threshold_select(x, threshold, indices, values, threads)
                wanted_indices, wanted_values = room(length)
                assert count == reference.threshold_select(x, threshold, wanted_indices, wanted_values)
                assert np.array_equal(indices[:count], wanted_indices[:count])
                assert same(values[:count], wanted_values[:count])

    def test_feedback_equals_reference(self, level, length, kinds, make, room, same):
        for kind, threads in itertools.product(kinds, (1, 2)):
            gradient, before = make(length, kind, seed=1), make(length, kind, seed=2)
            for threshold in THRESHOLDS:
                outcomes = []
                for module in (cext, reference):
                    residual, payload = before.copy(), room(length)
                    count = module.threshold_select_feedback(gradient, residual, threshold, *payload, threads)
                    outcomes.append((count, residual, *payload))
                (count, residual, indices, values), wanted = outcomes
                assert count == wanted[0]
                assert np.array_equal(indices[:count], wanted[2][:count])
                assert same(residual, wanted[1])
                assert same(values[:count], wanted[3][:count])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("length", [300, 131_072 + 77])
@pytest.mark.parametrize("capacity_share", [0.0, 0.3, 0.999])
def test_overflow_stays_in_the_residual(level, length, threads, capacity_share, make, room, same):
    gradient, before = make(length, seed=3), make(length, seed=4)
    compensated = before + gradient
    selected = np.flatnonzero(np.abs(compensated) > 0.4)
    indices, values = room(int(capacity_share * len(selected)))
    residual = before.copy()
    count = cext.threshold_select_feedback(gradient, residual, 0.4, indices, values, threads)
    assert count == len(selected)
    assert np.array_equal(indices, selected[: len(indices)])
    residual[indices] += values
    assert same(residual, compensated)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_order_holds_over_many_tiles(level, threads, make, room):
    x = make(700_001)
    indices, values = room(len(x))
    for threshold in (3.5, 1.2, 0.0):
        count = cext.threshold_select(x, threshold, indices, values, threads)
        assert np.array_equal(indices[:count], np.flatnonzero(np.abs(x) > threshold))
        assert np.array_equal(values[:count], x[indices[:count]])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n", [200, 4097, 300_001])
def test_writes_nothing_behind_the_room(level, threads, n, make):
    """Whole registers are stored inside the room, so entries behind the count may change; behind the room none may."""
    x = make(n)
    everything = int(np.sum(np.abs(x) > 0.1))
    for capacity in (0, 1, 17, 63, 64, 100, everything // 2, everything - 1, everything, everything + 5):
        indices, values = np.full(capacity + 64, -7, np.int32), np.full(capacity + 64, np.float32(7e33))
        assert cext.threshold_select(x, 0.1, indices[:capacity], values[:capacity], threads) == everything
        assert (indices[capacity:] == -7).all()
        assert (values[capacity:] == np.float32(7e33)).all()


def test_a_threshold_between_two_floats_is_compared_in_double(level, room):
    low = np.float32(0.1)
    x = np.array([low, np.nextafter(low, np.float32(1))], np.float32)
    between = (float(x[0]) + float(x[1])) / 2
    indices, values = room(2)
    assert cext.threshold_select(x, between, indices, values) == 1
    assert indices[0] == 1
