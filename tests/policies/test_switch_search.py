"""The binary search for the switching point: it finds it, it costs what it says, it goes on after any run."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.policies.timing import SwitchSearch


def search(quality, seconds, **settings_of):
    """A whole search over functions of the share of BSP."""
    found = SwitchSearch(**settings_of)
    while (request := found.request) is not None:
        found.record(quality(request.share), seconds(request.share))
    return found


def linear(share):
    return 1.0 + 9.0 * share


@settings(deadline=None, max_examples=100)
@given(st.floats(0.001, 0.999), st.integers(1, 4), st.integers(1, 8))
def test_it_brackets_the_smallest_share_that_is_good_enough(knee, runs, count):
    found = search(lambda share: float(share >= knee), linear, runs=runs, settings=count, tolerance=0.01)
    lower, upper = found.bounds
    assert lower < knee <= upper
    assert upper - lower == pytest.approx(0.5**count)
    assert found.best.share == upper
    assert len(found.trials) == count + 1
    assert [len(trial.outcomes) for trial in found.trials] == [runs] * (count + 1)


@settings(deadline=None, max_examples=100)
@given(st.floats(0.001, 0.999), st.integers(1, 4), st.integers(1, 8))
def test_cost_and_break_even_have_their_closed_forms(knee, runs, count):
    found = search(lambda share: float(share >= knee), linear, runs=runs, settings=count)
    assert found.cost == pytest.approx(runs * sum(linear(trial.share) for trial in found.trials) / 10.0)
    assert found.relative_time == pytest.approx(linear(found.best.share) / 10.0)
    if found.best.share < 1:
        assert found.break_even == pytest.approx(found.cost / (1 - found.relative_time))
    else:
        assert found.break_even == math.inf


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-5, 5) | st.just(math.nan), min_size=12, max_size=12), st.integers(0, 11))
def test_a_search_goes_on_from_its_written_state(qualities, stopped):
    whole, part = SwitchSearch(runs=3, settings=3), SwitchSearch(runs=3, settings=3)
    for number, quality in enumerate(qualities):
        whole.record(quality, 1.0 + number)
        if number < stopped:
            part.record(quality, 1.0 + number)
    part = SwitchSearch.from_json(json.loads(json.dumps(part.to_json(), allow_nan=False)))
    for number in range(stopped, 12):
        part.record(qualities[number], 1.0 + number)
    assert whole.request is None
    assert part.to_json() == whole.to_json()
    assert part.bounds == whole.bounds


def test_published_defaults_ask_for_thirty_runs():
    found = search(lambda share: 0.9188 if share >= 0.0625 else 0.90, linear)
    assert sum(len(trial.outcomes) for trial in found.trials) == 5 * 6
    assert found.best.share == 0.0625
    assert found.target == pytest.approx(0.9188)


def test_a_run_that_diverged_is_never_good_enough():
    found = search(lambda share: math.nan if share < 1 else 0.5, linear, runs=2, settings=2)
    assert found.best.share == 1.0
    assert found.break_even == math.inf


def test_what_nobody_asked_for_is_refused():
    found = search(lambda share: share, linear, runs=1, settings=1)
    with pytest.raises(ValueError, match="over"):
        found.record(1.0, 1.0)
    with pytest.raises(ValueError, match="takes time"):
        SwitchSearch().record(1.0, 0.0)
    with pytest.raises(ValueError, match="wanted"):
        SwitchSearch(runs=0)
    state = found.to_json()
    state["trials"][1]["share"] = 0.3
    with pytest.raises(ValueError, match="never requested"):
        SwitchSearch.from_json(state)
