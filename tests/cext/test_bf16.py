"""Residuals in bfloat16: rounding without bias, the same bits from everyone, and passes that equal the float ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cext
from cext import reference
from cext.reference_bf16 import widened

BRACKETS = np.array([0.2, 0.3, 0.9, 1.1], np.float64)
SEED = 0x9ABCDEF0


def rounded(x, seed=SEED, module=cext, threads=1):
    out = np.empty(len(x), np.uint16)
    module.round_bf16(x, out, threads, seed)
    return out


def stored(make, n, kind):
    return rounded(make(n, kind, seed=3), 5)


@pytest.mark.parametrize("kind", ["normal", "ties", "denormals", "nan", "infinite", "heavy", "random_bits"])
def test_rounding_equals_reference(level, length, kind, make):
    x = make(length, kind, seed=1)
    wanted = rounded(x, module=reference)
    for threads in (1, 2):
        assert np.array_equal(rounded(x, threads=threads), wanted)
    assert np.array_equal(np.isnan(widened(wanted)), np.isnan(x))


@settings(deadline=None, max_examples=300)
@given(st.lists(st.floats(width=32), max_size=70), st.integers(0, 2**32 - 1))
def test_an_error_is_below_a_128th_and_what_fits_stays(values, seed):
    x = np.array(values, np.float32)
    back = widened(rounded(x, seed))
    special = ~np.isfinite(x)
    assert np.array_equal(back[special], x[special], equal_nan=True)
    assert np.isfinite(back[~special]).all()
    error = np.abs(back[~special].astype(np.float64) - x[~special])
    assert (error < np.maximum(np.abs(x[~special].astype(np.float64)) / 128, 2.0**-133)).all()
    assert np.array_equal(rounded(back, seed + 1 & 0xFFFFFFFF), rounded(back, seed))
    assert np.array_equal(widened(rounded(back, seed)), back, equal_nan=True)


@pytest.mark.parametrize("share", [0.003, 0.25, 0.5, 0.9])
def test_a_draw_is_fair_and_independent_of_its_neighbours_and_of_the_next_step(share):
    n = 1 << 20
    x = np.full(n, np.float32(1.0 + share / 128))
    up, next_step = (widened(rounded(x, seed)) > 1.0 for seed in (1, 2))
    spread = np.sqrt(share * (1 - share))
    assert abs(up.mean() - share) < 4 * spread / np.sqrt(n)
    for lag in (1, 2, 7, 8, 16, 64, 1024):
        correlation = ((up[lag:] - share) * (up[:-lag] - share)).mean() / spread**2
        assert abs(correlation) < 5 / np.sqrt(n), lag
    assert abs(((up - share) * (next_step - share)).mean() / spread**2) < 5 / np.sqrt(n)


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
@pytest.mark.parametrize("n", [0, 1, 17, 2047, 2049, 5000, 300_001])
def test_threshold_pass_equals_reference(level, n, make, room, same):
    for kind in ("normal", "ties", "mostly_zeros", "nan", "infinite"):
        gradient, before = make(n, kind, seed=1), stored(make, n, kind)
        for space in (n, n // 3):  # what has no room is rounded into the residual
            right, wanted = before.copy(), room(space)
            count = reference.threshold_select_feedback(gradient, right, 0.7, *wanted, seed=SEED)
            for threads in (1, 2):
                residual, payload = before.copy(), room(space)
                got = cext.threshold_select_feedback(gradient, residual, 0.7, *payload, threads, SEED)
                assert got == count
                assert np.array_equal(residual, right)
                written = min(count, space)
                assert np.array_equal(payload[0][:written], wanted[0][:written])
                assert same(payload[1][:written], wanted[1][:written])


@pytest.mark.parametrize(("n", "k"), [(16_384, 300), (100_003, 1), (300_001, 30_000), (300_001, 3000)])
def test_predicted_topk_equals_reference(level, n, k, make, room, same):
    assert cext.topk_predictable(n, k)
    for kind in ("normal", "heavy", "mostly_zeros", "nan"):
        gradient, before = make(n, kind, seed=1), stored(make, n, kind)
        right, wanted = before.copy(), room(k)
        reference.topk_select_feedback(gradient, right, k, *wanted, np.empty(0, np.uint8), seed=SEED)
        for threads in (1, 2):
            residual, payload = before.copy(), room(k)
            workspace = np.empty(cext.topk_workspace(n, k), np.uint8)
            assert cext.topk_select_feedback(gradient, residual, k, *payload, workspace, threads, SEED) == k
            assert np.array_equal(payload[0], wanted[0])
            assert same(payload[1], wanted[1])
            assert np.array_equal(residual, right)


@pytest.mark.parametrize(("n", "k", "kind"), [(100, 7, "normal"), (50_001, 20_000, "normal"), (100_003, 500, "ties")])
def test_a_topk_that_one_pass_does_not_find_loses_nothing(level, n, k, kind, make, room):
    """No prediction, or more ties than there is room for: the gradient is added and rounded, and that is all."""
    assert cext.topk_predictable(n, k) == (kind == "ties")
    gradient, residual = make(n, kind, seed=1), stored(make, n, kind)
    if kind == "ties":
        gradient[:], residual[:] = 1.0, 0
    wanted = rounded(gradient + widened(residual))
    workspace = np.empty(cext.topk_workspace(n, k), np.uint8)
    assert cext.topk_select_feedback(gradient, residual, k, *room(k), workspace, 2, SEED) == -1
    assert np.array_equal(residual, wanted)


def test_no_entry_wanted_adds_all_the_same(level, make, room):
    gradient, residual = make(5000, seed=1), stored(make, 5000, "normal")
    wanted = rounded(gradient + widened(residual))
    assert (
        cext.topk_select_feedback(
            gradient, residual, 0, *room(0), np.empty(cext.topk_workspace(5000, 0), np.uint8), 1, SEED
        )
        == 0
    )
    assert np.array_equal(residual, wanted)


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
@pytest.mark.parametrize("n", [0, 1, 2047, 2049, 5000, 300_001])
@pytest.mark.parametrize("settled", [0.4, 1.2, 1.5])
def test_collecting_and_settling_equal_reference(level, n, settled, make, room, same):
    for kind in ("normal", "ties", "mostly_zeros", "nan", "infinite"):
        gradient, before = make(n, kind, seed=1), stored(make, n, kind)
        outcomes = []
        for module, threads in ((reference, 1), (cext, 1), (cext, 2)):
            residual, payload, between = before.copy(), room(n), np.empty(n, np.float32)
            arrays = (*payload, BRACKETS, between, np.empty(module.collect_workspace(n), np.uint8))
            low = min(settled, 0.5)
            seen = module.collect_feedback(gradient, residual, low, 1.2, *arrays, cext.SUM_ALL, threads, seed=SEED)
            collected = residual.copy()
            kept = module.settle(residual, *payload, seen.candidates, 1.2, settled, threads, seed=SEED)
            outcomes.append((seen, np.sort(between[: seen.between]), collected, kept, payload, residual))
        wanted = outcomes[0]
        for got in outcomes[1:]:
            assert (got[0].candidates, got[0].between, got[3]) == (wanted[0].candidates, wanted[0].between, wanted[3])
            assert same(got[1], wanted[1])
            assert np.array_equal(got[2], wanted[2])
            assert np.array_equal(got[4][0][: got[3]], wanted[4][0][: got[3]])
            assert same(got[4][1][: got[3]], wanted[4][1][: got[3]])
            assert np.array_equal(got[5], wanted[5])
            for sums, right in zip((got[0].moments, *got[0].tails), (wanted[0].moments, *wanted[0].tails), strict=True):
                np.testing.assert_allclose(sums, right, rtol=3 * 2.0**-24, atol=3 * 2.0**-24 * max(1, n))


@pytest.mark.parametrize("n", [65, 5000, 300_001])
def test_settling_on_the_largest_equals_reference(level, n, make, room, same):
    for kind in ("normal", "ties", "mostly_zeros", "nan"):
        gradient, before, k = make(n, kind, seed=1), stored(make, n, kind), n // 20
        outcomes = []
        for module, threads in ((reference, 1), (cext, 1), (cext, 2)):
            residual, payload, between = before.copy(), room(n), np.empty(n, np.float32)
            arrays = (*payload, BRACKETS, between, np.empty(module.collect_workspace(n), np.uint8))
            seen = module.collect_feedback(gradient, residual, 0.5, 1.9, *arrays, 0, threads, seed=SEED)
            assert module.settle_topk(residual, *payload, seen.candidates, 1.9, k, threads, seed=SEED) == k
            outcomes.append((residual, payload[0][:k], payload[1][:k]))
        for got in outcomes[1:]:
            assert np.array_equal(got[0], outcomes[0][0])
            assert np.array_equal(got[1], outcomes[0][1])
            assert same(got[2], outcomes[0][2])


@pytest.mark.parametrize("added", [True, False])
def test_samples_equal_reference(level, added, make, same):
    n = 50_001
    x, gradient = stored(make, n, "normal"), make(n, seed=1) if added else None
    taken, wanted = np.empty(3200, np.float32), np.empty(3200, np.float32)
    assert cext.sample(gradient, x, taken, 7) == reference.sample(gradient, x, wanted, 7)
    assert same(taken, wanted)
    cext.sample_strided(gradient, x, 3, 15, taken, 2)
    reference.sample_strided(gradient, x, 3, 15, wanted)
    assert same(taken, wanted)


def test_wrong_arguments_are_refused(room):
    gradient, residual = np.zeros(10, np.float32), np.zeros(10, np.uint16)
    with pytest.raises(ValueError, match="seed = -1: allowed are 0 to 4294967295"):
        cext.threshold_select_feedback(gradient, residual, 1.0, *room(10), 1, -1)
    with pytest.raises(TypeError, match="residual must be a one-dimensional uint16 array"):
        cext.threshold_select_feedback(gradient, np.zeros(10, np.float16), 1.0, *room(10))
    with pytest.raises(ValueError, match="x has 10 elements, residual has 9"):
        cext.round_bf16(gradient, residual[:9])
    with pytest.raises(TypeError, match="float32"):
        cext.moments_feedback(gradient, residual)
