"""Laws over arbitrary small vectors: every float there is, every size from 0 to 200, every instruction set."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import cext
from cext import reference

FEW = settings(deadline=None, max_examples=60)
floats = st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True)
coarse = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, 1e-45, -1e-45, 3e38])


@st.composite
def pairs(draw):
    """Gradient and residual of one length, at an offset that spoils their alignment; often with many ties."""
    n, offset = draw(st.integers(0, 200)), draw(st.integers(0, 5))
    element = draw(st.sampled_from([floats, coarse]))
    rows = [draw(st.lists(element, min_size=n, max_size=n)) for _ in range(2)]
    return [np.concatenate((np.zeros(offset), row)).astype(np.float32)[offset:] for row in rows]


def equal(a, b):
    return np.all((a.view(np.int32) == b.view(np.int32)) | (np.isnan(a) & np.isnan(b)))


@pytest.mark.parametrize("name", cext.capabilities())
@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
class TestLaws:
    @FEW
    @given(pair=pairs(), density=st.floats(0, 1), threads=st.sampled_from([1, 2]))
    def test_topk_conserves_and_takes_the_largest(self, name, pair, density, threads):
        cext.use(name)
        gradient, residual = pair
        compensated, k = residual + gradient, int(density * len(residual))
        indices, values = np.empty(k, np.int32), np.empty(k, np.float32)
        workspace = np.empty(cext.topk_workspace(len(residual), k), np.uint8)
        assert cext.topk_select_feedback(gradient, residual, k, indices, values, workspace, threads) == k
        assert (np.diff(indices) > 0).all()
        assert equal(values, compensated[indices])
        rest = np.setdiff1d(np.arange(len(residual)), indices)
        assert equal(residual[rest], compensated[rest])
        assert (residual[indices].view(np.int32) == 0).all()
        keys = reference.magnitude_key(compensated)
        if 0 < k < len(residual):
            assert keys[indices].min() >= keys[rest].max()
            border = keys[indices].min()
            ties_left = rest[keys[rest] == border]
            ties_taken = indices[keys[indices] == border]
            assert not len(ties_left) or ties_taken.max() < ties_left.min()

    @FEW
    @given(pair=pairs(), threshold=floats.filter(lambda t: t == t), room=st.integers(0, 210))
    def test_threshold_conserves_with_any_room(self, name, pair, threshold, room):
        cext.use(name)
        gradient, residual = pair
        compensated = residual + gradient
        indices, values = np.empty(room, np.int32), np.empty(room, np.float32)
        count = cext.threshold_select_feedback(gradient, residual, threshold, indices, values)
        written = min(count, room)
        above = np.flatnonzero(~(np.abs(compensated).astype(np.float64) <= threshold))
        assert count == len(above)
        assert np.array_equal(indices[:written], above[:written])
        assert equal(values[:written], compensated[indices[:written]])
        residual[indices[:written]] = values[:written]
        assert equal(residual, compensated)

    @FEW
    @given(pair=pairs())
    def test_moments_are_near_the_reference(self, name, pair):
        cext.use(name)
        got, wanted = cext.moments(pair[0]), reference.moments(pair[0])
        assert got[:2] == wanted[:2]
        np.testing.assert_allclose(got.sum, wanted.sum, rtol=0, atol=1e-12 * min(wanted.sum_abs, 1e300))
        np.testing.assert_allclose(got.sum_abs, wanted.sum_abs, rtol=1e-12)
        np.testing.assert_allclose(got.sum_squares, wanted.sum_squares, rtol=1e-12)
        np.testing.assert_allclose(got.sum_log, wanted.sum_log, rtol=1e-12, atol=1e-10)
        np.testing.assert_array_equal(got.max_abs, wanted.max_abs)

    @FEW
    @given(
        parts=st.lists(st.lists(st.integers(0, 300), max_size=60), max_size=6),
        apart=st.sampled_from([1, 70, 7_000_000]),
        seed=st.integers(0, 99),
    )
    def test_merging_equals_the_reference(self, name, parts, apart, seed):
        cext.use(name)
        parts = [sorted(apart * index for index in part) for part in parts]
        indices = np.array([i for part in parts for i in part], np.int32)
        offsets = np.concatenate(([0], np.cumsum([len(p) for p in parts]))).astype(np.int64)
        rng = np.random.default_rng(seed)
        values = rng.standard_normal(len(indices)).astype(np.float32)
        values[rng.random(len(indices)) < 0.4] = rng.choice(np.array([-0.0, 0.0], np.float32))
        outcomes = []
        for module in (cext, reference):
            out = np.empty(len(indices), np.int32), np.empty(len(indices), np.float32)
            count = module.merge_sorted(indices, values, offsets, *out)
            outcomes.append((out[0][:count], out[1][:count]))
        assert np.array_equal(outcomes[0][0], outcomes[1][0])
        assert equal(outcomes[0][1], outcomes[1][1])
