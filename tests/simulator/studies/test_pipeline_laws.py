"""StellaTrain's pipeline: closed forms, bounds, and what staleness and priorities can and cannot do."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.pipeline import Pipeline, Rules, Stages, even

seconds = st.floats(0.001, 1.0)
stages = st.builds(Stages, *([seconds] * 7))


def test_one_layer_without_staleness_runs_its_stages_one_after_the_other():
    layer = Stages(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    assert Pipeline([layer], Rules(staleness=0)).iteration_s() == pytest.approx(2.8)


def test_one_layer_with_staleness_is_bound_by_its_chain_or_its_device():
    layer = Stages(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    # at most two iterations are in flight, so no less than half of one
    assert 2.8 / 2 - 1e-9 <= Pipeline([layer], Rules()).iteration_s() < 2.8
    quick = Stages(1.0, 2.0, 0.01, 0.01, 0.01, 0.01, 0.01)
    assert Pipeline([quick], Rules()).iteration_s() == pytest.approx(3.0)


@settings(deadline=None, max_examples=60)
@given(st.lists(stages, min_size=1, max_size=6), st.integers(0, 2), st.booleans(), st.integers(1, 3))
def test_an_iteration_takes_at_least_what_each_resource_works(layers, staleness, by_priority, cores):
    found = Pipeline(layers, Rules(staleness, by_priority, cores)).iteration_s(40)
    device = sum(layer.forward + layer.backward for layer in layers)
    busy = {
        "to host": sum(layer.to_host for layer in layers),
        "cpu": sum(layer.compress + layer.update for layer in layers) / cores,
        "network": sum(layer.exchange for layer in layers),
        "to device": sum(layer.to_device for layer in layers),
    }
    slack = 1 - (staleness + 1) / 40  # at the end so many iterations may be under way
    assert found >= device - 1e-9
    assert all(found >= seconds * slack - 1e-9 for seconds in busy.values())


@settings(deadline=None, max_examples=40)
@given(st.lists(stages, min_size=1, max_size=5))
def test_staleness_helps_and_all_at_once_is_the_sum(layers):
    fresh, stale = (Pipeline(layers, Rules(staleness=s)).iteration_s(40) for s in (0, 1))
    whole = sum(sum(vars(layer).values()) for layer in layers)
    assert stale <= fresh * 1.05 + 1e-9
    assert fresh <= whole + 1e-9


def test_priorities_let_the_first_layers_go_first():
    """Late layers are large: as they come, the early layers' small exchanges wait behind them."""
    layers = [Stages(0.1, 0.1, 0.0, 0.0, size, 0.0, 0.0) for size in (0.05, 0.05, 0.6, 0.6)]
    fresh = {p: Pipeline(layers, Rules(0, p)).iteration_s() for p in (True, False)}
    assert fresh[True] < fresh[False]


def test_even_layers_add_up():
    whole = Stages(1.0, 2.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    assert sum(layer.exchange for layer in even(7, whole)) == pytest.approx(0.3)
