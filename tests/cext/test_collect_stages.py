"""One pass that settles on the threshold that stages end at: the same as collecting, asking and settling in turn."""

import math

import numpy as np
import pytest

import cext
from cext import reference

SUMS = cext.SUM_ABS + cext.SUM_SQUARES


def exponential(ratio):
    return (cext.FIT_EXPONENTIAL, ratio, lambda count, mean, *rest: mean * -math.log(ratio))


def asked(ratio, answer=lambda count, mean, *rest: mean):
    """A fit that only Python knows."""
    return (cext.FIT_OTHER, ratio, answer)


def around(x, ratios, by=0.02):
    """Brackets around the thresholds of exponential stages, and a low bound for the candidates."""
    threshold, bounds = 0.0, []
    for ratio in ratios:
        excess = np.abs(x[np.abs(x) > threshold]).astype(np.float64) - threshold if threshold else np.abs(x)
        threshold += float(excess.mean()) * -math.log(ratio)
        bounds.append((threshold * (1 - by), cext.short_above(threshold * (1 + by))))
    return np.array(bounds[:-1]).ravel(), bounds[-1][0], bounds[-1][1]


def run(module, gradient, residual, stages, bounds, room, *, threads=1, sums=SUMS, space=None, inside=None, seed=0):
    brackets, low, zero_above = bounds
    payload = room(len(residual) if space is None else space)
    between = np.empty(len(residual) if inside is None else inside, np.float32)
    workspace = np.empty(module.collect_workspace(len(residual)), np.uint8)
    arrays = (*payload, brackets, between, workspace)
    seen, kept, thresholds, _ = module.collect_stages(
        gradient, residual, low, zero_above, *arrays, sums, stages, threads, seed
    )
    return seen, kept, thresholds[-1] if thresholds else math.nan, payload


@pytest.mark.parametrize("ratios", [(0.02,), (0.25, 0.1), (0.25, 0.3, 0.3)])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n", [1000, 300_001])
def test_what_stages_end_at_is_selected(level, ratios, threads, n, make, room, same):
    gradient, before = make(n, seed=1), make(n, seed=2)
    total = before + gradient
    bounds = around(total, ratios)
    stages = [exponential(ratio) for ratio in ratios]
    residual, other = before.copy(), before.copy()
    seen, kept, threshold, payload = run(cext, gradient, residual, stages, bounds, room, threads=threads)
    _, _, right, _ = run(reference, gradient, other, stages, bounds, room)
    assert seen is None
    assert threshold == pytest.approx(right, rel=2.0**-20)
    assert threshold == float(np.float32(threshold))
    chosen = np.flatnonzero(np.abs(total) > threshold)
    assert np.array_equal(payload[0][:kept], chosen)
    assert same(payload[1][:kept], total[chosen])
    left = total.copy()
    left[chosen] = 0
    assert same(residual, left)


@pytest.mark.parametrize("module", [cext, reference])
def test_every_stage_is_told(level, module, make, room):
    n, ratios = 100_003, (0.25, 0.3, 0.3)
    gradient, before = make(n, seed=1), make(n, seed=2)
    total = np.abs(before + gradient).astype(np.float64)
    brackets, low, zero_above = around(before + gradient, ratios)
    arrays = (*room(n), brackets, np.empty(n, np.float32), np.empty(module.collect_workspace(n), np.uint8))
    stages = [exponential(ratio) for ratio in ratios]
    _, _, thresholds, inside = module.collect_stages(gradient, before, low, zero_above, *arrays, SUMS, stages)
    assert inside == sum(np.count_nonzero((total > a) & (total <= b)) for a, b in brackets.reshape(-1, 2))
    wanted = 0.0
    for threshold, ratio in zip(thresholds, ratios, strict=True):
        above = total[total > wanted]
        wanted = float(np.float32(wanted + (above - wanted).mean() * -math.log(ratio)))
        assert threshold == pytest.approx(wanted, rel=2.0**-20)


@pytest.mark.parametrize("module", [cext, reference])
def test_stages_end_where_nothing_survives(level, module, make, room):
    gradient, before = make(5000, seed=1), make(5000, seed=2)
    bounds = (np.array([9e5, 2e6]), 1.0, 1.5)
    stages = [asked(0.1, lambda *means: 1e6), exponential(0.1)]
    arrays = (*room(5000), bounds[0], np.empty(5000, np.float32), np.empty(module.collect_workspace(5000), np.uint8))
    found = module.collect_stages(gradient, before, *bounds[1:], *arrays, SUMS, stages)
    assert found == (None, 0, (1e6,), 0)


@pytest.mark.parametrize("wide", [True, False], ids=["much inside", "little inside"])
@pytest.mark.parametrize("sums", [cext.SUM_ABS, SUMS])
@pytest.mark.parametrize("threads", [1, 2])
def test_however_much_lies_inside_brackets(level, wide, sums, threads, make, room, same):
    """A tile notes where so many parts of what lies inside brackets are; of more of them all is looked at."""
    gradient, before = make(300_001, seed=1), make(300_001, seed=2)
    total = before + gradient
    ratios = (0.25, 0.3, 0.3)
    brackets, low, zero_above = around(total, ratios, 0.05)
    if wide:
        middle = float(np.sqrt(brackets[1] * brackets[2]))
        brackets = np.array([0.2, middle, middle, 2 * zero_above])
    residual = before.copy()
    stages = [exponential(ratio) for ratio in ratios]
    seen, kept, threshold, payload = run(
        cext, gradient, residual, stages, (brackets, low, zero_above), room, threads=threads, sums=sums
    )
    assert seen is None
    other = before.copy()
    _, _, right, _ = run(reference, gradient, other, stages, (brackets, low, zero_above), room, sums=sums)
    assert threshold == pytest.approx(right, rel=2.0**-20)
    chosen = np.flatnonzero(np.abs(total) > threshold)
    assert np.array_equal(payload[0][:kept], chosen)
    assert same(payload[1][:kept], total[chosen])
    total[chosen] = 0
    assert same(residual, total)


@pytest.mark.parametrize("stored", [np.float32, np.uint16])
def test_equals_collecting_and_settling(level, stored, make, room, same):
    """With a fit that C does not know at the first stage, as SIDCo-GP has."""
    n, ratios = 200_003, (0.25, 0.2)
    gradient, start = make(n, seed=1), make(n, seed=2)
    if stored is np.uint16:
        rounded = np.empty(n, np.uint16)
        cext.round_bf16(start, rounded)
        start = rounded
    wide = reference.widened(start) if stored is np.uint16 else start
    bounds = around(wide + gradient, ratios)
    stages = [asked(0.25, lambda count, mean, *rest: mean * -math.log(0.25)), exponential(0.2)]
    residual, other = start.copy(), start.copy()
    seen, kept, threshold, payload = run(cext, gradient, residual, stages, bounds, room, threads=2, seed=5)
    assert seen is None
    workspace = np.empty(cext.collect_workspace(n), np.uint8)
    indices, values = room(n)
    arrays = (indices, values, bounds[0], np.empty(n, np.float32), workspace)
    found = cext.collect_feedback(gradient, other, *bounds[1:], *arrays, SUMS, 2, 5)
    count = cext.settle(other, indices, values, found.candidates, bounds[2], threshold, 2, 5)
    assert count == kept
    assert np.array_equal(indices[:kept], payload[0][:kept])
    assert same(values[:kept], payload[1][:kept])
    assert np.array_equal(residual, other)


UNKNOWN = {  # what makes a threshold unknown, as changes to a good call
    "no bracket": {"bounds": lambda good: (np.empty(0), good[1], good[2])},
    "another bracket": {"bounds": lambda good: (np.array([50.0, 51.0]), good[1], good[2])},
    "low too high": {"bounds": lambda good: (good[0], 2 * good[2], 3 * good[2])},
    "no room": {"space": 10},
    "no room inside": {"inside": 3},
    "not finite": {"stages": [exponential(0.25), asked(0.1, lambda *means: math.inf)]},
    "nan": {"data": "nan"},
    "infinite": {"data": "infinite"},
    "zeros": {"data": "zeros"},
}


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
@pytest.mark.parametrize("kind", list(UNKNOWN))
@pytest.mark.parametrize("module", [cext, reference])
def test_what_is_not_known_is_collected_only(level, module, kind, make, room, same):
    n = 20_000
    wrong = UNKNOWN[kind]
    gradient, before = make(n, wrong.get("data", "normal"), seed=1), make(n, seed=2)
    if kind == "zeros":
        gradient, before = np.zeros(n, np.float32), np.zeros(n, np.float32)
    bounds = wrong.get("bounds", lambda good: good)(around(make(n, seed=2) + make(n, seed=1), (0.25, 0.1)))
    stages = wrong.get("stages", [exponential(0.25), exponential(0.1)])
    residual, other = before.copy(), before.copy()
    sizes = {"space": wrong.get("space"), "inside": wrong.get("inside")}
    seen, kept, threshold, payload = run(module, gradient, residual, stages, bounds, room, **sizes)
    assert kept == -1
    assert math.isnan(threshold)
    space, inside = wrong.get("space") or n, wrong.get("inside") or n
    workspace = np.empty(module.collect_workspace(n), np.uint8)
    indices, values = room(space)
    arrays = (indices, values, bounds[0], np.empty(inside, np.float32), workspace)
    only = module.collect_feedback(gradient, other, *bounds[1:], *arrays, SUMS)
    assert str(seen) == str(only), "NaN is not equal to itself"
    assert same(residual, other)
    assert np.array_equal(payload[0], indices)
    assert same(payload[1], values)


def test_nothing_above_the_last_threshold_leaves_all(level, make, room, same):
    gradient, before = make(5000, seed=1), make(5000, seed=2)
    total = before + gradient
    residual = before.copy()
    bounds = (np.empty(0), 1.0, 1.5)
    seen, kept, threshold, _ = run(cext, gradient, residual, [asked(0.1, lambda *means: 1e6)], bounds, room)
    assert (seen, kept, threshold) == (None, 0, 1e6)
    assert same(residual, total)


@pytest.mark.parametrize("module", [cext, reference])
def test_a_fit_that_fails_puts_everything_back(level, module, make, room, same):
    gradient, before = make(5000, seed=1), make(5000, seed=2)
    total = before + gradient

    def fails(*means):
        raise KeyError("no such fit")

    for stages in ([asked(0.1, fails)], [exponential(0.25), asked(0.1, fails)]):
        residual = before.copy()
        with pytest.raises(KeyError, match="no such fit"):
            run(module, gradient, residual, stages, around(total, (0.25, 0.1)), room)
        assert same(residual, total)
        stored, wanted = np.empty(5000, np.uint16), np.empty(5000, np.uint16)
        cext.round_bf16(before, stored)
        cext.round_bf16(reference.widened(stored) + gradient, wanted, 1, 5)
        with pytest.raises(KeyError, match="no such fit"):
            run(module, gradient, stored, stages, around(total, (0.25, 0.1)), room, seed=5)
        assert np.array_equal(stored, wanted)


def test_a_fit_that_writes_to_the_candidates_is_found_out(make):
    gradient, residual = make(5000, seed=1), make(5000, seed=2)
    total = residual + gradient
    brackets, low, zero_above = around(total, (0.25, 0.1))
    indices, values = np.zeros(5000, np.int32), np.zeros(5000, np.float32)

    def writes(*means):
        indices[:] = 5000
        return 3.0  # above all candidates: these are settled on

    workspace = np.empty(cext.collect_workspace(5000), np.uint8)
    arrays = (indices, values, brackets, np.empty(5000, np.float32), workspace)
    with pytest.raises(ValueError, match="collect_stages: the candidates were written to by a fit"):
        cext.collect_stages(gradient, residual, low, zero_above, *arrays, SUMS, [exponential(0.25), asked(0.1, writes)])


@pytest.mark.parametrize("number", [1, -1, 1 << 45, 2**63 - 1])
def test_a_fit_that_writes_to_the_workspace_does_no_harm(number, make, room):
    n = 300_001
    gradient, residual = make(n, seed=1), make(n, seed=2)
    brackets, low, zero_above = around(residual + gradient, (0.25, 0.1))
    words = np.zeros(cext.collect_workspace(n) // 8 + 1, np.int64)
    workspace = words.view(np.uint8)

    def writes(count, mean, *rest):
        words[:] = np.where((words >= 1) & (words <= 4), words, number)
        return mean * -math.log(0.25)

    arrays = (*room(n), brackets, np.empty(n, np.float32), workspace)
    stages = [asked(0.25, writes), exponential(0.1)]
    cext.collect_stages(gradient, residual, low, zero_above, *arrays, SUMS, stages, 2)


@pytest.mark.parametrize("module", [cext, reference])
def test_low_is_compared_as_candidates_are(module, make, room):
    x, low = make(20_000), float(np.float32(1.1)) + 1e-9
    answer = asked(0.1, lambda *means: float(np.float32(1.1)))
    _, kept, threshold, _ = run(module, x, np.zeros_like(x), [answer], (np.empty(0), low, 2.0), room)
    assert (kept, threshold) == (np.count_nonzero(np.abs(x) > np.float32(1.1)), float(np.float32(1.1)))


@pytest.mark.parametrize("module", [cext, reference])
def test_brackets_may_reach_above_what_is_zeroed(level, module, make, room):
    """Much goes on: what lies inside brackets is found where it lies, and must be so before it is zeroed."""
    gradient, before = np.zeros(131_072, np.float32), make(131_072, seed=2)
    inside = before[(np.abs(before) > 1) & (np.abs(before) <= 2)]
    between, workspace = np.empty(131_072, np.float32), np.empty(module.collect_workspace(131_072), np.uint8)
    arrays = (*room(131_072), np.array([1.0, 2.0]), between, workspace)
    seen = module.collect_feedback(gradient, before.copy(), 0.3, 0.6, *arrays, cext.SUM_ABS)
    assert seen.between == len(inside)
    assert np.array_equal(np.sort(between[: seen.between]), np.sort(inside))


@pytest.mark.parametrize("module", [cext, reference])
@pytest.mark.parametrize("scale", [1e-22, 1e19])
def test_squares_that_float32_cannot_hold_are_not_told(module, scale, make, room):
    x = make(20_000) * np.float32(scale)
    bounds = around(x, (0.25, 0.1))
    for sums, known in ((cext.SUM_ABS, True), (SUMS, False)):
        _, kept, _, _ = run(module, x, np.zeros_like(x), [exponential(0.25), exponential(0.1)], bounds, room, sums=sums)
        assert (kept >= 0) == known


@pytest.mark.parametrize("module", [cext, reference])
@pytest.mark.parametrize("sums", [0, 4, 8, 14 - 2])
def test_the_sum_of_magnitudes_is_needed(module, sums, make, room, same):
    residual = make(100, seed=2)
    before = residual.copy()
    with pytest.raises(ValueError, match="collect_stages: sums must have SUM_ABS among them"):
        run(module, make(100), residual, [exponential(0.1)], (np.empty(0), 1.0, 1.0), room, sums=sums)
    assert same(residual, before)


def test_large_sums_are_not_told(room):
    """A few magnitudes are added up in float32: where that overflows, the threshold is somebody else's to find."""
    x = np.full(64_000, np.float32(1e38))
    seen, kept, _, _ = run(
        cext, x.copy(), np.zeros_like(x), [exponential(0.1)], (np.empty(0), 1e38, 2e38), room, sums=cext.SUM_ABS
    )
    assert kept == -1
    assert math.isinf(seen.moments.sum_abs)
    assert math.isfinite(seen.moments.max_abs)


@pytest.mark.parametrize(
    ("stages", "message"),
    [([], "0 stages"), ([exponential(0.1)] * 65, "65 stages"), ([(9, 0.1, None)], "fit"), (7, "must be a sequence")],
)
def test_refuses_stages_that_are_none(stages, message, make, room, same):
    residual = make(100, seed=2)
    before = residual.copy()
    with pytest.raises((ValueError, TypeError), match=message):
        run(cext, make(100), residual, stages, (np.empty(0), 1.0, 1.0), room)
    assert same(residual, before)
