"""The search for the number of SIDCo's stages, on ratios given as a function of M."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.compression.stages import StageSearch


def run(search: StageSearch, ratio_of: dict[int, float], calls: int, most: int = 10) -> list[float]:
    seen = []
    for _ in range(calls):
        ratio = ratio_of[min(search.stages, most)]
        seen.append(ratio)
        search.record(ratio, most)
    return seen


def test_moves_only_every_window_and_only_outside_the_tolerance() -> None:
    search = StageSearch(5, 0.2)
    for _ in range(4):
        search.record(0.0, 10)
        assert search.stages == 1
    search.record(0.0, 10)
    assert search.stages == 2
    for ratio in (0.81, 1.19, 1.0, 0.9, 1.1) * 4:
        search.record(ratio, 10)
    assert search.stages == 2


def test_several_times_too_much_is_not_sent_for_a_whole_window() -> None:
    """Young real gradients at M = 1: 20 k in each of five calls would be half of what 200 calls may send."""
    search = StageSearch(5, 0.2)
    search.record(20.0, 10)
    assert search.stages == 2
    for ratio in (1.0, 1.0, 7.0, 0.5):
        search.record(ratio, 10)
        assert search.stages == 2, "one call among good ones is left to the mean"


def test_too_little_adds_stages_until_it_fits() -> None:
    """SIDCo-E on half-normal data at δ = 0.001: the spec's row."""
    search = StageSearch(5, 0.2)
    run(search, {1: 0.0, 2: 0.09, 3: 0.70, 4: 1.08}, 100, most=4)
    assert search.stages == 4


def test_too_much_at_one_stage_does_not_stick() -> None:
    """SIDCo-P on half-normal data: 6.9 at M = 1, where the paper's rule would stay."""
    search = StageSearch(5, 0.2)
    run(search, {1: 6.9, 2: 1.24, 3: 0.92, 4: 0.93}, 100, most=4)
    assert search.stages == 3


def test_a_move_that_does_not_help_is_taken_back() -> None:
    """SIDCo-E on Student's t₃: the count falls as M grows, so the paper's rule would run the wrong way."""
    search = StageSearch(5, 0.2)
    run(search, {1: 4.7, 2: 3.5, 3: 1.17, 4: 0.64}, 100, most=4)
    assert search.stages == 3


def test_where_no_stage_count_fits_it_settles_on_the_best_and_looks_again() -> None:
    search = StageSearch(5, 0.2)
    seen = run(search, {1: 3.0, 2: 1.3, 3: 0.5, 4: 0.2}, 1000, most=4)
    assert seen.count(1.3) > 0.75 * len(seen)
    assert set(seen[-300:]) - {1.3}, "neighbours are tried again now and then"


def test_it_follows_data_that_change() -> None:
    search = StageSearch(5, 0.2)
    run(search, {1: 0.1, 2: 0.5, 3: 1.0, 4: 2.0}, 100, most=4)
    assert search.stages == 3
    run(search, {1: 1.0, 2: 1.5, 3: 2.5, 4: 4.0}, 100, most=4)
    assert search.stages == 1


@settings(deadline=None, max_examples=100)
@given(ratios=st.lists(st.floats(0, 1e9), max_size=300), most=st.integers(1, 10))
def test_always_within_bounds_and_restored_exactly(ratios: list[float], most: int) -> None:
    search = StageSearch(5, 0.2)
    for number, ratio in enumerate(ratios):
        search.record(ratio, most)
        assert 1 <= search.stages <= most
        if number == len(ratios) // 2:
            again = StageSearch(5, 0.2)
            again.load_state_dict(search.state_dict())
            search = again
    straight = StageSearch(5, 0.2)
    for ratio in ratios:
        straight.record(ratio, most)
    assert straight.state_dict() == search.state_dict()


@pytest.mark.parametrize("most", [1, 2])
def test_few_stages_allowed(most: int) -> None:
    search = StageSearch(1, 0.2)
    for ratio in (5.0, 0.1, 0.0, 1e9, 0.3):
        search.record(ratio, most)
        assert 1 <= search.stages <= most
