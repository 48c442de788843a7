"""Predict, collect, settle: the one pass of the statistical thresholds, and SIDCo-E's stages made of it, exactly."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cext
from cext import reference

ROUNDED = 3 * 2.0**-24  # of sums whose words of 64 are added up in float first
BRACKETS = np.array([0.2, 0.3, 0.9, 1.1], np.float64)


def collect(
    module, gradient, residual, low, zero_above, room, *, brackets=BRACKETS, sums=cext.SUM_ALL, threads=1, space=None
):
    payload = room(len(residual) if space is None else space)
    between = np.empty(len(residual), np.float32)
    workspace = np.empty(module.collect_workspace(len(residual)), np.uint8)
    arrays = (*payload, brackets, between, workspace)
    seen = module.collect_feedback(gradient, residual, low, zero_above, *arrays, sums, threads)
    return seen, payload, np.sort(between[: seen.between])


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
@pytest.mark.parametrize("n", [0, 1, 17, 64, 2047, 2049, 5000, 300_001])
def test_collect_equals_reference(level, n, make, room, same):
    for kind in ("normal", "ties", "mostly_zeros", "denormals", "nan", "infinite"):
        gradient, before, wanted_residual = make(n, kind, seed=1), make(n, kind, seed=2), make(n, kind, seed=2)
        wanted, wanted_payload, wanted_between = collect(reference, gradient, wanted_residual, 0.5, 1.5, room)
        for threads in (1, 2):
            residual = before.copy()
            seen, payload, between = collect(cext, gradient, residual, 0.5, 1.5, room, threads=threads)
            assert (seen.candidates, seen.between) == (wanted.candidates, wanted.between)
            assert same(residual, wanted_residual)
            assert np.array_equal(payload[0][: seen.candidates], wanted_payload[0][: seen.candidates])
            assert same(payload[1][: seen.candidates], wanted_payload[1][: seen.candidates])
            assert same(between, wanted_between)
            for got, right in zip((seen.moments, *seen.tails), (wanted.moments, *wanted.tails), strict=True):
                np.testing.assert_allclose(got, right, rtol=ROUNDED, atol=ROUNDED * max(1, n))


@pytest.mark.parametrize("brackets", [[], [0.9, 1.1], [0.9, 1.1, 0.2, 0.3], [2.0, 2.5, 0.9, 1.1, 0.2, 0.3, 0.1, 0.15]])
@pytest.mark.parametrize("sums", [0, 2, 5, 6, 14, 15])
def test_same_bits_on_every_instruction_set_and_thread_count(brackets, sums, make, room):
    """Brackets may come in any order; whatever runs, the sums, the candidates and the residual are the same bits."""
    n, pairs, before = 900_003, np.array(brackets, np.float64), cext.simd()
    outcomes = set()
    for level in cext.capabilities():
        cext.use(level)
        for threads in (1, 2, 3):
            residual = make(n, seed=2)
            seen, payload, between = collect(
                cext, make(n, seed=1), residual, 0.5, 1.5, room, brackets=pairs, sums=sums, threads=threads
            )
            found = tuple(part[: seen.candidates].tobytes() for part in payload)
            outcomes.add((str(seen), between.tobytes(), *found, residual.tobytes()))
    cext.use(before)
    assert len(outcomes) == 1


@pytest.mark.parametrize("number", [0.1, 1.0, 1.3, 3e-39, 7.1e-5, 1e36])
def test_short_numbers_add_up_without_an_error(number):
    short, total = np.float32(cext.short_above(number)), np.float32(0)
    assert number <= short <= number * (1 + 2.0**-19) + 1e-43
    for count in range(1, 17):
        total += short
        assert float(total) == count * float(short)


@given(st.integers(1, 0x7F800000) | st.sampled_from([0x7F7FFFF0, 0x7F7FFFF1, 0x007FFFF1, 15, 16]), st.floats(0, 1))
def test_short_numbers_are_floats_without_their_last_four_bits(bits, share):
    one, other = (float(np.array(each, np.int32).view(np.float32)) for each in (bits - 1, bits))
    number = one + share * (other - one) if math.isfinite(other) else other
    up = bits - 1 if number == one else bits
    if number == 0:
        return
    wanted = float(np.array((up + 15) & ~15, np.int32).view(np.float32))
    assert cext.short_above(number) == wanted


def test_many_elements_at_a_threshold_leave_no_error(level, room):
    """Those that do not exceed it are no part of the sum, to the last bit."""
    n, high = 100_000, cext.short_above(1.3)
    x = np.full(n, np.float32(high))
    x[::100] = 2 * np.float32(high)
    seen, *_ = collect(cext, np.zeros(n, np.float32), x, 5.0, 5.0, room, brackets=np.array([1.0, high]), sums=2)
    assert seen.tails[0][:2] == (n // 100, pytest.approx(n // 100 * high, rel=1e-12))


@pytest.mark.parametrize("sums", range(16))
def test_only_what_was_asked_for_is_summed(level, sums, make, room):
    n, results = 10_001, []
    for module in (cext, reference):
        seen, *_ = collect(module, make(n), make(n, seed=2), 0.5, 1.5, room, sums=sums)
        results.append((*seen.moments, *(number for tail in seen.tails for number in tail)))
    np.testing.assert_allclose(results[0], results[1], rtol=ROUNDED, atol=1e-5)
    named = dict(zip(cext.Moments._fields, results[0], strict=False))
    asked = {"sum": 1, "sum_abs": 2, "sum_squares": 4, "sum_log": 8}
    assert all(math.isnan(named[name]) != bool(sums & flag) for name, flag in asked.items())
    assert named["max_abs"] > 0


def test_overlapping_brackets_are_refused(make, room):
    for module in (cext, reference):
        with pytest.raises(ValueError, match="overlap"):
            collect(module, make(100), make(100), 0.5, 1.5, room, brackets=np.array([0.2, 0.4, 0.9, 1.1, 0.3, 0.5]))


@pytest.mark.parametrize("threads", [1, 2])
def test_too_little_room_loses_nothing(level, threads, make, room, same):
    gradient, before = make(200_000, seed=1), make(200_000, seed=2)
    residual = before.copy()
    seen, (indices, values), _ = collect(cext, gradient, residual, 0.5, 0.7, room, threads=threads, space=1000)
    assert seen.candidates > 1000
    residual[indices] = values
    assert same(residual, before + gradient)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("threshold", [0.5, 0.9, 1.5, 1.51, 3.0, math.inf])
def test_settle_equals_reference_and_conserves(level, threads, threshold, make, room, same):
    gradient, before = make(300_001, seed=1), make(300_001, seed=2)
    compensated = before + gradient
    outcomes = []
    for module in (cext, reference):
        residual = before.copy()
        seen, payload, _ = collect(module, gradient, residual, 0.5, 1.5, room)
        kept = module.settle(residual, *payload, seen.candidates, 1.5, threshold, threads)
        outcomes.append((kept, residual, payload[0][:kept], payload[1][:kept]))
    (kept, residual, indices, values), wanted = outcomes
    assert kept == wanted[0] == np.sum(np.abs(compensated) > threshold)
    assert np.array_equal(indices, wanted[2])
    assert same(values, wanted[3])
    assert same(residual, wanted[1])
    assert (residual[indices] == 0).all()
    residual[indices] = values
    assert same(residual, compensated)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("threshold", [0.2, 0.5, 4.0])
def test_a_long_list_is_settled_in_parts(level, threads, threshold, make, same):
    """Enough entries for three threads, each of which packs a part of them in place."""
    residual, wanted_residual = make(2_000_003), make(2_000_003)
    indices = np.flatnonzero(np.abs(residual) > 0.15).astype(np.int32)
    values = residual[indices]
    residual[indices[np.abs(values) > 0.25]] = wanted_residual[indices[np.abs(values) > 0.25]] = 0
    wanted = indices.copy(), values.copy()
    assert len(indices) > 3 * 2**19
    kept = cext.settle(residual, indices, values, len(indices), 0.25, threshold, threads)
    assert kept == reference.settle(wanted_residual, *wanted, len(indices), 0.25, threshold)
    assert np.array_equal(indices[:kept], wanted[0][:kept])
    assert same(values[:kept], wanted[1][:kept])
    assert same(residual, wanted_residual)


def settled_on_largest(module, x, low, zeroed_above, k, threads=1):
    """The k largest of what lies above `low` in x, whose residual is zero above `zeroed_above`; and the residual."""
    with np.errstate(invalid="ignore"):
        indices = np.flatnonzero(~(np.abs(x) <= low)).astype(np.int32)
        residual = np.where(np.abs(x) <= zeroed_above, x, np.float32(0))
    values, k = x[indices], min(k, len(indices))
    assert module.settle_topk(residual, indices, values, len(indices), zeroed_above, k, threads) == k
    return indices[:k], values[:k], residual


@pytest.mark.parametrize("kind", ["normal", "ties", "mostly_zeros", "denormals", "nan", "infinite", "equal"])
def test_settling_on_the_largest_equals_reference(level, kind, make, same):
    for n in (0, 1, 40, 1000, 70_001):
        x = make(n, kind)
        for k in {0, 1, n // 50, n // 3, n}:
            for low, zeroed_above in ((-1.0, 0.0), (-1.0, math.inf), (0.1, 0.7), (0.4, 0.4)):
                got, wanted = (settled_on_largest(module, x, low, zeroed_above, k) for module in (cext, reference))
                assert all(same(ours, theirs) for ours, theirs in zip(got, wanted, strict=True)), (n, k, low)
                back = got[2].copy()
                back[got[0]] = got[1]
                assert same(back, x)


@pytest.mark.parametrize("kind", ["normal", "ties", "equal"])
def test_the_largest_of_a_long_list(level, kind, make, same):
    """Enough for three threads; of many that tie, those in the first parts stay."""
    x = make(2_000_003, kind)
    for k in (1, 300_000, 1_200_000):
        wanted = settled_on_largest(reference, x, 0.15, 0.5, k)
        for threads in (1, 2, 3):
            got = settled_on_largest(cext, x, 0.15, 0.5, k, threads)
            assert all(same(ours, theirs) for ours, theirs in zip(got, wanted, strict=True)), (k, threads)


def test_more_than_there_are_is_refused(make):
    residual, indices, values = make(10), np.arange(10, dtype=np.int32), make(10)
    with pytest.raises(ValueError, match="settle_topk: k = 6: allowed are 0 to 5"):
        cext.settle_topk(residual, indices, values, 5, 0.0, 6)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("wrong", [-1, 1_500_000])
def test_a_wrong_index_anywhere_changes_nothing(threads, wrong, make, same):
    residual = make(1_500_000)
    indices = np.arange(1_500_000, dtype=np.int32)
    values = residual.copy()
    indices[1_400_000] = wrong
    before = residual.copy(), indices.copy(), values.copy()
    with pytest.raises(ValueError, match=rf"indices\[1400000\] = {wrong}"):
        cext.settle(residual, indices, values, len(indices), 0.5, 1.0, threads)
    with pytest.raises(ValueError, match=rf"indices\[1400000\] = {wrong}"):
        cext.settle_topk(residual, indices, values, len(indices), 0.5, 700_000, threads)
    assert all(same(now, then) for now, then in zip((residual, indices, values), before, strict=True))


@pytest.mark.parametrize("n", [0, 5, 32, 1000, 50_000])
def test_sample_equals_reference(n, make, same):
    gradient, x = make(n), make(n, seed=1)
    for room, groups in ((0, 1), (31, 1), (32, 3), (100, 2), (16 * 300, 1), (16 * 300, 16), (16 * 300, 7)):
        for added in (None, gradient):
            got, wanted = np.zeros(room, np.float32), np.zeros(room, np.float32)
            assert cext.sample(added, x, got, groups) == reference.sample(added, x, wanted, groups)
            assert same(got, wanted)


def test_a_sample_in_groups_is_the_same_sample(make):
    """Every third grain is the first group's, and so on; none is lost."""
    x, alone, dealt = make(90_000), np.zeros(32 * 300, np.float32), np.zeros(32 * 300, np.float32)
    assert cext.sample(None, x, alone) == cext.sample(None, x, dealt, 3) == 9600
    grains = alone.reshape(300, 32)
    assert np.array_equal(dealt.reshape(3, 100, 32), np.stack([grains[number::3] for number in range(3)]))


def test_logarithms_of_one_pass_are_near(level, make, room):
    """SIDCo-GP's sums multiply mantissas in float32: 2^-24 an element at most, and errors cancel out."""
    for kind, close in (("normal", 2.0**-30), ("equal", 2.0**-24)):
        x = make(1_000_003, kind)
        seen, *_ = collect(cext, np.zeros_like(x), x.copy(), 9.0, 9.0, room, brackets=np.empty(0), sums=14)
        assert seen.moments.sum_log == pytest.approx(cext.moments(x).sum_log, abs=close * len(x))


@pytest.mark.parametrize(("start", "stride", "count"), [(0, 1, 100_000), (3, 2, 49_998), (99_999, 7, 1), (5, 3000, 33)])
@pytest.mark.parametrize("threads", [1, 2])
def test_strided_sample_equals_reference(start, stride, count, threads, make, same):
    gradient, x = make(100_000), make(100_000, seed=1)
    for added in (None, gradient):
        got, wanted = np.zeros(count, np.float32), np.zeros(count, np.float32)
        cext.sample_strided(added, x, start, stride, got, threads)
        reference.sample_strided(added, x, start, stride, wanted)
        assert same(got, wanted)


@pytest.mark.parametrize("module", [cext, reference])
def test_strided_sample_stays_inside(module, make):
    with pytest.raises(ValueError, match="3 elements from 5 on, 3 apart, reach beyond the vector's 11"):
        module.sample_strided(None, make(11), 5, 3, np.empty(3, np.float32))


def stages_of_sidco_e(mean, tail, ratios):
    """Thresholds of SIDCo-E (MLSys 2021): `tail(eta)` gives count and sum of the excess above eta."""
    thresholds = [mean * math.log(1 / ratios[0])]
    for ratio in ratios[1:]:
        count, excess = tail(thresholds[-1])
        thresholds.append(thresholds[-1] + excess / count * math.log(1 / ratio))
    return thresholds


@pytest.mark.parametrize("threads", [1, 2])
def test_sidco_e_in_one_pass_is_exact(level, threads, make, room, same):
    """Three stages predicted from a sample, collected and settled, equal three stages computed pass by pass."""
    n, ratios = 400_000, [0.25, 0.2, 0.2]
    gradient, before = make(n, seed=1), make(n, seed=2)
    compensated = before + gradient
    exact = stages_of_sidco_e(np.abs(compensated).mean(dtype=np.float64), lambda t: _tail(compensated, t), ratios)
    lines = np.empty(16 * 2048, np.float32)
    taken = lines[: cext.sample(gradient, before, lines)]
    guess = stages_of_sidco_e(np.abs(taken).mean(dtype=np.float64), lambda t: _tail(taken, t), ratios)
    brackets = np.array([[0.95 * t, 1.05 * t] for t in guess[:-1]]).ravel()
    residual, low = before.copy(), 0.85 * guess[-1]
    seen, payload, between = collect(cext, gradient, residual, low, guess[-1], room, brackets=brackets, threads=threads)

    def tail(threshold):
        stage = next(m for m in range(2) if brackets[2 * m] <= threshold <= brackets[2 * m + 1])
        high = brackets[2 * stage + 1]
        count, excess, _ = seen.tails[stage]
        inside = np.abs(between.astype(np.float64))
        inside = inside[(inside > threshold) & (inside <= high)]
        return count + len(inside), excess + count * (high - threshold) + float((inside - threshold).sum())

    thresholds = stages_of_sidco_e(seen.moments.sum_abs / n, tail, ratios)
    np.testing.assert_allclose(thresholds, exact, rtol=1e-8)  # far less than a float's last bit
    assert low <= thresholds[-1]
    kept = cext.settle(residual, *payload, seen.candidates, guess[-1], thresholds[-1], threads)
    chosen = np.flatnonzero(np.abs(compensated) > thresholds[-1])
    assert np.array_equal(payload[0][:kept], chosen)
    residual[chosen] = payload[1][:kept]
    assert same(residual, compensated)


def _tail(x, threshold):
    count, excess, _ = reference.tail_moments(x, threshold)
    return count, excess


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"brackets": np.array([0.3, 0.2])}, "brackets must be pairs 0 <= low <= high"),
        ({"brackets": np.array([0.3])}, "brackets must be pairs"),
        ({"brackets": np.zeros(34)}, "brackets must be pairs .* at most 16 stages"),
        ({"zero_above": 0.4}, "zero_above must be at least low"),
        ({"low": math.nan}, "low = nan"),
    ],
)
def test_refusals(changes, message, make, room):
    gradient, residual = make(100), make(100, seed=1)
    before = residual.copy()
    arguments = {"low": 0.5, "zero_above": 0.6, **changes}
    with pytest.raises(ValueError, match=message):
        collect(cext, gradient, residual, arguments.pop("low"), arguments.pop("zero_above"), room, **arguments)
    assert np.array_equal(residual, before)


@pytest.mark.parametrize("module", [cext, reference])
def test_sums_up_to_a_limit(module, level, make):
    x = make(10_001, "nan")
    every, above = module.tail_moments(np.nan_to_num(x), 0.5), module.tail_moments(np.nan_to_num(x), 0.9)
    between = module.tail_moments(x, 0.5, 1, 0.9)
    higher = above[1] + 0.4 * above[0]  # over the lower threshold
    assert between[0] == every[0] - above[0]
    assert between[1] == pytest.approx(every[1] - higher, rel=1e-9)
    assert math.isnan(module.tail_moments(x, 0.5)[1])
    with pytest.raises(ValueError, match="limit must be at least the threshold"):
        module.tail_moments(x, 0.5, 1, 0.4)


def test_settle_refuses_places_outside(make):
    residual = make(10)
    with pytest.raises(ValueError, match=r"indices\[1\] = 10: allowed are 0 to 9"):
        cext.settle(residual, np.array([0, 10], np.int32), np.ones(2, np.float32), 2, 0.5, 0.5)
    with pytest.raises(ValueError, match="count = 3: allowed are 0 to 2"):
        cext.settle(residual, np.array([0, 9], np.int32), np.ones(2, np.float32), 3, 0.5, 0.5)
