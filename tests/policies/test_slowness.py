"""Slow workers, slow cores and stragglers by chance: the same factors whoever asks, in whatever order."""

import numpy as np
import pytest

from toolkit.experiment import parse
from toolkit.policies.slowness import CHUNK, Slowness


def of(faults, workers=6, seed=1):
    document = {"cluster": {"workers": workers, "workers_per_host": 2}, "run": {"seed": seed}, "faults": faults}
    return Slowness.of(parse(document, "test"))


def drawn(row, steps=4000, **more):
    slow = of({"straggler": [row]}, **more)
    return np.stack([slow.compute(step) for step in range(steps)])


def test_all_well():
    assert of({}).compute(3) is None
    assert of({}).cpu(3) is None


def test_slow_workers_multiply_within_their_steps():
    rows = [{"worker": 1, "factor": 2.0, "from_step": 3, "to_step": 5}, {"worker": 1, "factor": 3.0, "from_step": 4}]
    slow = of({"slow_worker": rows})
    assert slow.compute(2) is None
    assert [slow.compute(step)[1] for step in (3, 4, 5)] == [2.0, 6.0, 3.0]
    assert slow.compute(4)[0] == 1.0


def test_slow_cores_slow_the_workers_of_their_host():
    slow = of({"slow_cpu": [{"host": 1, "factor": 2.5, "to_step": 4}]})
    assert slow.cpu(0).tolist() == [1.0, 1.0, 2.5, 2.5, 1.0, 1.0]
    assert slow.cpu(4) is None
    assert slow.compute(0) is None


@pytest.mark.parametrize("distribution", ["constant", "uniform", "exponential", "lognormal", "pareto"])
def test_spells_come_at_their_rate_with_their_mean(distribution):
    row = {"rate": 0.3, "factor": 2.0, "distribution": distribution, "spread": 0.5}
    factors = drawn(row)
    slow = factors > 1.0
    assert slow.mean() == pytest.approx(0.3, abs=0.02)
    assert factors[slow].mean() == pytest.approx(2.0, rel=0.05)
    assert (factors >= 1.0).all()


def test_a_spell_lasts_its_steps_with_one_factor():
    factors = drawn({"rate": 0.002, "factor": 5.0, "distribution": "exponential", "steps": 300, "worker": 2})
    assert (np.delete(factors, 2, axis=1) == 1.0).all()
    own = factors[:, 2]
    starts = np.flatnonzero(own[1:] > own[:-1]) + 1
    assert len(starts) > 3
    assert all((own[start : start + 300] >= own[start]).all() for start in starts)
    alone = [s for s in starts if own[s - 1] == 1.0 and (own[s : s + 300] == own[s]).all()]
    assert alone
    assert all(own[s + 300] != own[s] for s in alone if s + 300 < len(own))


def test_draws_depend_on_seed_worker_and_step_only():
    row = {"rate": 0.5, "factor": 2.0, "distribution": "exponential", "steps": 3}
    whole = drawn(row, 3 * CHUNK)
    late = of({"straggler": [row]})
    assert (late.compute(2 * CHUNK + 1) == whole[2 * CHUNK + 1]).all()  # as after a resume
    assert (late.compute(5) == whole[5]).all()
    assert (drawn(row, 10, workers=3) == whole[:10, :3]).all()
    assert (drawn(row, 10, seed=2) != whole[:10]).any()
    assert (drawn(row | {"seed": 1}, 10, seed=2) == whole[:10]).all()
