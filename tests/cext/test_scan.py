"""The scan of a carried threshold: in turn, or the largest; the reference's places, and the law behind them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cext
from cext import reference


def scan(module, scores, places, k, threshold, most, start, threads=1):
    out = np.full(k, -7, np.int32)
    most = min(most, len(scores))
    workspace = np.empty(module.scan_workspace(len(scores), k, most), np.uint8)
    return out, module.scan_select(scores, places, threshold, most, start, out, workspace, threads)


def equal(got, wanted):
    return np.array_equal(got[0], wanted[0]) and np.array_equal(got[1], wanted[1], equal_nan=True)


@pytest.mark.parametrize("kind", ["normal", "ties", "mostly_zeros", "denormals", "nan", "infinite", "equal"])
def test_scan_equals_reference(level, kind, make):
    for n in (1, 16, 65, 1000, 70_001):
        scores = make(n, kind)
        places = np.sort(np.random.default_rng(n).choice(4 * n, n, replace=False)).astype(np.int32)
        for k in {1, max(1, n // 50), n}:
            for threshold in (-1.0, 0.5, float(np.nan_to_num(np.partition(np.abs(scores), n - k)[n - k])), math.inf):
                for most, start in ((0, 0), (n, 0), (2 * k, 2 * n), (n, 4 * n)):
                    wanted = scan(reference, scores, places, k, threshold, most, start)
                    for threads in (1, 2):
                        got = scan(cext, scores, places, k, threshold, most, start, threads)
                        assert equal(got, wanted), (n, k, threshold, most, start)


@given(
    scores=st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=200),
    share=st.floats(0, 1),
    threshold=st.floats(0, 10, width=32),
    start=st.integers(0, 220),
)
def test_each_score_above_gets_its_turn(scores, share, threshold, start):
    """From the first place at or behind `start` on, as many as are wanted, and on from the lowest place."""
    x, places = np.array(scores, np.float32), np.arange(len(scores), dtype=np.int32) + 10
    k = 1 + int(share * (len(scores) - 1))
    out, (count, lowest, largest) = scan(cext, x, places, k, threshold, len(x), start)
    above = [int(place) for place, score in zip(places, x, strict=True) if abs(score) > threshold]
    assert count == len(above)
    assert largest == np.abs(x).max()
    if count >= k:
        turn = [place for place in above if place >= start] + [place for place in above if place < start]
        assert out.tolist() == sorted(turn[:k])
        assert math.isnan(lowest)
    else:
        assert lowest == np.sort(np.abs(x))[-k]
        assert out.tolist() == sorted(sorted(places.tolist(), key=lambda place: -abs(x[place - 10]))[:k])


def test_what_does_not_fit_is_refused(make):
    scores, places, out = make(10), np.arange(10, dtype=np.int32), np.empty(5, np.int32)
    work = np.empty(cext.scan_workspace(10, 5, 10), np.uint8)
    with pytest.raises(ValueError, match="scan_select: workspace has room for 3, needed are"):
        cext.scan_select(scores, places, 0.5, 10, 0, out, work[:3])
    with pytest.raises(ValueError, match="scan_select: out has room for 0, allowed are 1 to 10"):
        cext.scan_select(scores, places, 0.5, 10, 0, out[:0], work)
    with pytest.raises(ValueError, match="scan_select: scores has 10 elements, places has 9"):
        cext.scan_select(scores, places[:9], 0.5, 10, 0, out, work)
    with pytest.raises(ValueError, match="threshold = nan"):
        cext.scan_select(scores, places, math.nan, 10, 0, out, work)
    with pytest.raises(ValueError, match="scan_select: most = 11: allowed are 0 to 10"):
        cext.scan_select(scores, places, 0.5, 11, 0, out, work)
    with pytest.raises(ValueError, match="scan_workspace: k = 11: allowed are 1 to 10"):
        cext.scan_workspace(10, 11, 0)
