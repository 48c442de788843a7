"""Stages that follow one another, in one call: the reference's thresholds, entries and residual, and nothing lost."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import cext
from cext import reference
from toolkit.compression.fits import FITS, stage_ratios
from toolkit.compression.predict import stages_of

PLANS = ("exponential", "pareto pareto", "gamma pareto", "exponential exponential exponential exponential")
SUMS = {
    "exponential": cext.SUM_ABS,
    "pareto": cext.SUM_ABS + cext.SUM_SQUARES,
    "gamma": cext.SUM_ABS + cext.SUM_SQUARES + cext.SUM_LOGS,
}
Vector = NDArray[Any]
Found = tuple[tuple[int, float, float], Vector, Vector, Vector]


def plan(names: str, density: float) -> list[cext.StageFit]:
    fits = [FITS[name] for name in names.split()]
    return stages_of(list(zip(fits, stage_ratios(density, len(fits), 0.25), strict=False)))


def run(module: Any, gradient: Vector | None, x: Vector, names: str, density: float, room: int) -> Found:
    """What is said, the entries that were written, and the vector afterwards."""
    after, indices, values = x.copy(), np.full(room, -7, np.int32), np.full(room, np.float32(7e33))
    work = np.empty(module.stages_workspace(len(x)), np.uint8)
    stages, sums = plan(names, density), SUMS[names.split()[0]]
    told = module.select_stages(gradient, after, stages, sums, indices, values, work)
    return told, indices[: told[0]], values[: told[0]], after


def assert_alike(got: Found, wanted: Found) -> None:
    """Thresholds agree to rounding; unless an entry lies between them, so does all else."""
    (count, threshold, total), (wanted_count, wanted_threshold, wanted_total) = got[0], wanted[0]
    np.testing.assert_allclose([threshold, total], [wanted_threshold, wanted_total], rtol=1e-6)
    if threshold == wanted_threshold or count == wanted_count:
        assert count == wanted_count
        for a, b in zip(got[1:], wanted[1:], strict=True):
            assert a.tobytes() == b.tobytes()


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
@pytest.mark.parametrize("names", PLANS)
def test_kernel_equals_reference(level: str, length: int, kinds: tuple[str, ...], make: Any, names: str) -> None:
    for kind in kinds:
        if kind == "random_bits":
            continue  # its NaN are of many bits, which adding keeps or not
        x, gradient = make(length, kind, seed=1), make(length, kind, seed=2)
        for density in (0.3, 0.05, 0.001):
            for added in (None, gradient):
                wanted = run(reference, added, x, names, density, length)
                assert_alike(run(cext, added, x, names, density, length), wanted)


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(0, 200),
    seed=st.integers(0, 2**31),
    names=st.sampled_from(PLANS),
    density=st.floats(1e-4, 1.0),
    room=st.integers(0, 200),
    feedback=st.booleans(),
)
def test_nothing_is_lost_whatever_the_room(
    n: int, seed: int, names: str, density: float, room: int, feedback: bool
) -> None:
    rng = np.random.default_rng(seed)
    x = np.concatenate((np.zeros(1), rng.standard_t(2, n) * (rng.random(n) < 0.7))).astype(np.float32)[1:]
    gradient = rng.standard_normal(n).astype(np.float32) if feedback else None
    whole = x + gradient if gradient is not None else x
    (count, threshold, total), indices, values, after = run(cext, gradient, x, names, density, room)
    chosen = np.flatnonzero(np.abs(whole).astype(np.float64) > threshold)
    assert count == len(chosen)
    assert total == pytest.approx(np.abs(whole).sum(dtype=np.float64), rel=1e-6)
    np.testing.assert_array_equal(indices, chosen[:room])
    np.testing.assert_array_equal(values, whole[indices])
    left = whole.copy()
    if feedback:
        left[indices] = 0
    assert after.tobytes() == left.tobytes()


@pytest.mark.parametrize("names", PLANS)
def test_the_same_bits_on_every_instruction_set_and_with_feedback_or_without(make: Any, names: str) -> None:
    x, gradient, before, said = make(70_003), make(70_003, seed=1), cext.simd(), []
    for level in cext.capabilities():
        cext.use(level)
        said += [run(cext, gradient, x, names, 0.01, 70_003), run(cext, None, x + gradient, names, 0.01, 70_003)]
    cext.use(before)
    assert {each[0] for each in said} == {said[0][0]}
    assert all(a.tobytes() == b.tobytes() for each in said for a, b in zip(each[1:3], said[0][1:3], strict=True))


def test_a_threshold_that_cannot_be_told_selects_nothing(level: str, make: Any) -> None:
    for value in (math.nan, math.inf):
        x, gradient = make(5000), make(5000, seed=1)
        x[77] = value
        for names in PLANS:
            (count, threshold, total), *_, after = run(cext, gradient, x, names, 0.01, 5000)
            assert count == 0
            assert not math.isfinite(threshold)
            assert not math.isfinite(total)
            np.testing.assert_array_equal(after, x + gradient)


@pytest.mark.parametrize("module", [cext, reference])
def test_a_stage_that_nothing_is_left_for_is_none(module: Any) -> None:
    x = np.full(1000, np.float32(0.5))
    (count, threshold, total), *_ = run(module, None, x, "exponential exponential exponential", 0.01, 1000)
    assert (count, total) == (0, 500.0)
    assert threshold == pytest.approx(0.5 * math.log(4.0))


def only(of: Callable[..., Any]) -> list[Any]:
    return [(cext.FIT_OTHER, 0.1, of)] * 2


def call(stages: Any, sums: int = cext.SUM_ABS, work: int | None = None, n: int = 4000) -> Any:
    x, gradient = np.ones(n, np.float32), np.ones(n, np.float32)
    bytes_ = np.empty(cext.stages_workspace(n) if work is None else work, np.uint8)
    try:
        return cext.select_stages(gradient, x, stages, sums, np.empty(n, np.int32), np.empty(n, np.float32), bytes_)
    finally:
        call.after = x  # type: ignore[attr-defined]


def test_what_a_fit_raises_comes_through_and_nothing_is_taken() -> None:
    def fails(*_: float) -> float:
        raise RuntimeError("no such threshold")

    with pytest.raises(RuntimeError, match="no such threshold"):
        call(only(fails))
    assert (call.after == 2.0).all()  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="select_stages: a fit's threshold must be a number, not str"):
        call(only(lambda *_: "much"))


def test_a_fit_may_change_the_list_that_it_is_called_from() -> None:
    stages: list[Any] = []

    def clears(*means: float) -> float:
        stages.clear()
        return 0.5 * means[1]

    stages += only(clears)
    assert call(stages)[:2] == (4000, 1.5)


def test_a_fit_that_writes_into_the_workspace_is_refused() -> None:
    n = 4000
    work = np.empty(cext.stages_workspace(n), np.uint8)
    x, out = np.arange(n, dtype=np.float32), (np.empty(n, np.int32), np.empty(n, np.float32))

    def spoils(count: float, *_: float) -> float:
        if count < n:
            work[:] = 0x7F
        return 100.0

    with pytest.raises(ValueError, match="the workspace was written to by a fit"):
        cext.select_stages(np.ones(n, np.float32), x, [(cext.FIT_OTHER, 0.1, spoils)] * 2, cext.SUM_ABS, *out, work)
    assert np.array_equal(x, np.arange(1, n + 1, dtype=np.float32))


@pytest.mark.parametrize("module", [cext, reference])
def test_a_threshold_beyond_the_floats_is_infinite(module: Any) -> None:
    x = np.full(100, np.float32(1e38))
    assert run(module, None, x, "exponential", 0.001, 100)[0][:2] == (0, math.inf)


def test_means_that_were_not_asked_for_are_not_told() -> None:
    for module in (cext, reference):
        asked: list[tuple[float, ...]] = []

        def of(*means: float, told: list[tuple[float, ...]] = asked) -> float:
            told.append(means)
            return 1.0

        x, out = np.full(10, np.float32(-2.0)), (np.empty(10, np.int32), np.empty(10, np.float32))
        for sums in (cext.SUM_ABS, cext.SUM_ABS + cext.SUM_X, cext.SUM_ALL):
            work = np.empty(module.stages_workspace(10), np.uint8)
            module.select_stages(None, x, only(of)[:1], sums, *out, work)
        assert asked[0][:2] == (10, 2.0)
        assert all(map(math.isnan, asked[0][2:]))
        assert asked[1][4] == -2.0
        assert math.isnan(asked[1][2])
        np.testing.assert_allclose(asked[2], (10, 2.0, 4.0, math.log(2.0), -2.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stages": []}, "0 stages: at least 1 are allowed"),
        ({"stages": [(1, 0.5, abs)] * 65}, "65 stages: at most 64 are allowed"),
        ({"stages": [(9, 0.1, abs)]}, "fit = 9: allowed are 0 to 2"),
        ({"stages": [(1, 0.1, abs)], "sums": cext.SUM_SQUARES}, "sums must have SUM_ABS among them"),
        ({"stages": [(1, 0.1, abs)], "sums": 16}, "sums = 16: allowed are 0 to 15"),
        ({"stages": [(1, 0.1, abs)], "work": 7}, "workspace has room for 7, needed are"),
    ],
)
def test_what_is_refused_changes_nothing(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(**arguments)
    assert (call.after == 1.0).all()  # type: ignore[attr-defined]
