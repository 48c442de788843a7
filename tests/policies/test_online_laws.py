"""Laws of the straggler detector and of the online policies."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.policies.online import POLICIES, Decision, online_policy, shares
from toolkit.policies.straggler import StragglerDetector

speeds = st.floats(1.0, 1e4)


def feed(detector, rows):
    found = set()
    for row in rows:
        found = detector.observe(row)
    return found


@settings(deadline=None, max_examples=100)
@given(speeds, st.integers(3, 40), st.integers(0, 39), st.floats(0.01, 0.9), st.integers(1, 5), st.integers(1, 4))
def test_a_slow_worker_is_flagged_exactly_after_window_and_persistence(speed, workers, slow, factor, window, persist):
    slow %= workers
    row = [speed * factor if rank == slow else speed for rank in range(workers)]
    detector = StragglerDetector(window, 1.0, persist)
    found = [detector.observe(row) for _ in range(window + persist)]
    first = window + persist - 2
    assert found[:first] == [set()] * first
    assert found[first:] == [{slow}] * 2


@settings(deadline=None, max_examples=100)
@given(speeds, st.integers(1, 20), st.floats(0.0, 0.04))
def test_nobody_is_flagged_where_all_are_nearly_equal(speed, workers, spread):
    rows = [[speed * (1 - spread * (rank % 2)) for rank in range(workers)] for _ in range(8)]
    assert feed(StragglerDetector(2, 1.0, 2), rows) == set()


@settings(deadline=None, max_examples=50)
@given(speeds, speeds)
def test_the_slower_of_two_is_never_flagged(one, other):
    assert feed(StragglerDetector(1, 1.0, 1), [[one, other]] * 4) == set()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(speeds, min_size=4, max_size=4), min_size=1, max_size=12), st.floats(1e-3, 1e3))
def test_flags_do_not_depend_on_the_unit(rows, unit):
    one, other = StragglerDetector(2, 1.0, 2), StragglerDetector(2, 1.0, 2)
    for row in rows:
        assert one.observe(row) == other.observe([value * unit for value in row])


def test_a_flag_is_cleared_by_one_window_that_is_well():
    detector = StragglerDetector(2, 1.0, 2)
    assert feed(detector, [[4, 4, 4, 1]] * 3) == {3}
    assert detector.observe([4, 4, 4, 4]) == {3}  # its window is still half slow
    assert detector.observe([4, 4, 4, 4]) == set()


def test_a_worker_that_takes_no_part_keeps_its_flag_and_moves_nobody_else():
    detector = StragglerDetector(1, 1.0, 2)
    assert feed(detector, [[4, 4, 4, 1]] * 2) == {3}
    assert feed(detector, [[4, 4, 4, math.nan]] * 5) == {3}


def test_more_deviations_flag_fewer():
    row = [10.0, 10.0, 10.0, 10.0, 7.0, 4.0]
    flagged = [feed(StragglerDetector(1, deviations, 1), [row]) for deviations in (0.1, 1.0, 3.0)]
    assert flagged == [{4, 5}, {5}, set()]


@pytest.mark.parametrize("row", [[1.0, 2.0], [1.0, -2.0, 1.0]])
def test_a_strange_observation_is_refused(row):
    detector = StragglerDetector()
    detector.observe([1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match=r"throughputs"):
        detector.observe(row)


flags = st.lists(st.tuples(st.sampled_from(["bsp", "asp"]), st.sets(st.integers(0, 3))), max_size=20)


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(sorted(POLICIES)), flags)
def test_whatever_happens_a_decision_is_lawful(name, story):
    policy = online_policy(name)
    before = frozenset()
    for due, flagged in story:
        decision = policy.decide(due, flagged, 4)
        assert len(decision.removed) < 4
        if due == "asp":
            assert decision == Decision("asp")
        if name == "elastic" and due == "bsp":
            assert decision.protocol == "bsp"
            assert before <= decision.removed
            assert flagged <= decision.removed or len(before | flagged) == 4
        if name == "greedy":
            assert decision == Decision("asp" if flagged else due)
        if name in ("none", "baseline"):
            assert decision == Decision(due)
        before = decision.removed


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 5000), st.integers(1, 32), st.data())
def test_shares_hold_the_global_batch(batch, workers, data):
    removed = data.draw(st.sets(st.integers(0, workers - 1), max_size=workers - 1))
    dealt = shares(batch, workers, removed)
    assert sum(dealt) == batch
    active = [count for rank, count in enumerate(dealt) if rank not in removed]
    assert max(active) - min(active) <= 1
    assert all(dealt[rank] == 0 for rank in removed)


def test_shares_of_nobody_are_refused():
    with pytest.raises(ValueError, match="nobody is left"):
        shares(10, 2, {0, 1})
