"""The window's rule: smallest that hides, widest where none does, rates that no window mends."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.policies.window import LayerTimes, choose_window, unmendable

seconds = st.floats(1e-4, 1.0)
layers = st.integers(1, 12).flatmap(
    lambda n: st.builds(
        LayerTimes,
        *(st.lists(seconds, min_size=n, max_size=n).map(tuple) for _ in range(5)),
        st.floats(0.0, 0.1),
    )
)


def hides(times: LayerTimes, window: int) -> bool:
    """The conditions, written out layer by layer."""
    n = len(times.forward)
    if window >= n:
        return True
    moved = max(times.to_device[i] + times.to_host[i] for i in range(n)) + times.call
    updated = max(times.to_device[i] + times.to_host[i] + times.update[i] for i in range(n)) + times.call
    runs = [range(i, i + window) for i in range(n - window + 1)]
    return all(
        sum(times.forward[i] for i in run) >= moved * (1 - 1e-9)
        and sum(times.backward[i] for i in run) >= updated * (1 - 1e-9)
        for run in runs
    )


@settings(deadline=None, max_examples=200)
@given(layers, st.integers(1, 12))
def test_the_smallest_window_that_hides_or_the_widest_that_fits(times, room):
    choice = choose_window(times, lambda window: window <= room)
    widest = min(room, len(times.forward))
    assert 1 <= choice.window <= widest
    latency = {"forward", "backward"} & set(choice.unmet)
    if latency:
        assert choice.window == widest
    else:
        assert hides(times, choice.window)
    smaller = [w for w in range(1, choice.window) if hides(times, w)]
    assert smaller == [] or min(smaller) == choice.window - 1  # equal but for rounding
    if choice.window < len(times.forward):
        assert set(unmendable(times)) <= set(choice.unmet)
        assert choice.hidden == (not choice.unmet)


def test_the_paper_s_case_is_bound_by_the_update():
    """One V100: forward 39 ms, backward 117 ms, transfers 18 and 23 ms, update 224 ms: no window mends the update."""
    times = LayerTimes((0.039,) * 32, (0.117,) * 32, (0.018,) * 32, (0.0233,) * 32, (0.224,) * 32)
    choice = choose_window(times, lambda window: window <= 20)
    assert choice.window == 3
    assert choice.unmet == ("rate of updating",)


def test_all_layers_in_the_window_move_nothing():
    times = LayerTimes((1e-3,) * 4, (1e-3,) * 4, (1.0,) * 4, (1.0,) * 4, (1.0,) * 4)
    choice = choose_window(times, lambda window: True)
    assert (choice.window, choice.hidden) == (4, True)
    assert choose_window(times, lambda window: window < 4).window == 3
    assert not choose_window(times, lambda window: window < 4).hidden


def test_what_does_not_fit_or_does_not_match_is_refused():
    times = LayerTimes((1.0,), (1.0,), (1.0,), (1.0,), (1.0,))
    with pytest.raises(ValueError, match="not even a window of one layer fits"):
        choose_window(times, lambda window: False)
    with pytest.raises(ValueError, match="the same number of layers"):
        LayerTimes((1.0,), (1.0, 1.0), (1.0,), (1.0,), (1.0,))
    with pytest.raises(ValueError, match="at least 1"):
        LayerTimes((), (), (), (), ())
