"""Phases of a run in units of work, what a switch does to rates and momenta, and where a run stands in its plan."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.experiment import Experiment, parse
from toolkit.policies.configuration import momentum_at
from toolkit.policies.learning_rate import learning_rate
from toolkit.policies.protocol import plan_phases, total_units
from toolkit.policies.switch import Course


def experiment(workers: int = 8, **sync: Any) -> Experiment:
    content = {"cluster": {"workers": workers}, "optimizer": {"learning_rate": 0.8}, "sync": sync}
    return parse(content, "drawn")


def test_the_published_run_in_units() -> None:
    """exp1: 8,000 BSP or 64,000 ASP steps; rates 0.8 and 0.1; batch 128 a worker in both."""
    bsp, asp, both = (
        plan_phases(experiment(**sync), 8000)
        for sync in ({}, {"policy": "asp"}, {"policy": "switch", "switch_at": 0.0625})
    )
    assert [(p.protocol, p.steps, p.step_units) for p in bsp + asp] == [("bsp", 8000, 8), ("asp", 64000, 1)]
    assert [(p.protocol, p.steps, p.start) for p in both] == [("bsp", 500, 0), ("asp", 60000, 4000)]
    assert [p.learning_rate for p in both] == [0.8, 0.1]
    assert len({p.batch for p in both}) == 1
    assert total_units(bsp) == total_units(asp) == total_units(both) == 64000


def test_a_global_batch_that_is_not_scaled() -> None:
    phases = plan_phases(experiment(policy="switch", switch_at=0.5, scale_batch=False), 100)
    assert [(p.protocol, p.steps, p.step_units, p.batch) for p in phases] == [("bsp", 50, 1, 4), ("asp", 50, 1, 32)]
    assert [p.learning_rate for p in phases] == [0.8, 0.8]


def test_settings_of_each_phase() -> None:
    lists = {"phase_steps": [3, 40, 5], "phase_checkpoint_every": [1, 20, 0], "phase_learning_rate": [0.4, 0.1, 0.2]}
    phases = plan_phases(experiment(policy="switch", order="101", phase_momentum=[0.9, 0.5, 0], **lists), 7)
    assert [(p.steps, p.checkpoint_every, p.learning_rate, p.momentum) for p in phases] == [
        (3, 1, 0.4, 0.9),
        (40, 20, 0.1, 0.5),
        (5, 0, 0.2, 0.0),
    ]


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 16), st.integers(1, 400), st.floats(0, 1), st.sampled_from(["10", "01", "1", "0"]))
def test_work_is_the_same_in_any_order(workers: int, steps: int, share: float, order: str) -> None:
    phases = plan_phases(experiment(workers, policy="switch", order=order, switch_at=share), steps)
    assert total_units(phases) == steps * workers
    assert [p.start for p in phases] == [sum(q.units for q in phases[:i]) for i in range(len(phases))]


@settings(deadline=None, max_examples=100)
@given(st.integers(2, 16), st.integers(10, 500), st.data())
def test_a_cut_stays_at_its_sample_across_a_switch(workers: int, half: int, data: st.DataObject) -> None:
    """Sync-Switch's remapping: a cut at half of the work W falls on raw step W/2 - (n-1)·(BSP steps before it)."""
    before = data.draw(st.integers(0, half - 1))
    run = experiment(workers, policy="switch", phase_steps=[before, (2 * half - before) * workers])
    section = parse({"optimizer": {"milestones": [1.0]}}, "drawn").optimizer
    whole = section.learning_rate
    phases = plan_phases(run, 1)
    asp = phases[-1]
    rates = [learning_rate(section, (asp.start + i) / workers, half) for i in range(asp.units)]
    cut = half * workers - (workers - 1) * before  # in raw steps of the whole run
    assert [rate == whole for rate in rates] == [before + i < cut for i in range(asp.units)]


@given(st.floats(0, 1), st.integers(1, 64), st.floats(0, 1))
def test_momentum_policies(momentum: float, workers: int, progress: float) -> None:
    assert momentum_at("keep", momentum, workers, progress) == momentum
    assert momentum_at("zero", momentum, workers, progress) == 0.0
    assert momentum_at("scaled", momentum, workers, progress) == momentum / workers
    assert momentum_at("ramp", momentum, workers, 0.0) == 0.0
    assert momentum_at("ramp", momentum, workers, 1.0) == momentum
    assert 0.0 <= momentum_at("ramp", momentum, workers, progress) <= momentum


def walk(course: Course, wanted: list[str]) -> list[str]:
    """Run to the end, taking a step or two of what an online policy wants; the protocols of the steps made."""
    made: list[str] = []
    for count in range(10_000):
        due = course.due
        if due is None:
            return made
        number = course.instead(wanted[count % len(wanted)]) if wanted else due
        number = due if number is None else number
        steps = min(1 + count % 2, course.steps_left(number))
        assert steps > 0
        course.advance(number, steps)
        made += [course.phases[number].protocol] * steps
    raise AssertionError("the run does not end")


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 6), st.integers(1, 30), st.floats(0, 1), st.lists(st.sampled_from(["bsp", "asp"]), max_size=5))
def test_whatever_is_decided_online_all_the_work_is_done_once(
    workers: int, steps: int, share: float, wanted: list[str]
) -> None:
    course = Course(plan_phases(experiment(workers, policy="switch", switch_at=share), steps))
    made = walk(course, wanted)
    assert course.units == steps * workers
    assert made.count("bsp") * workers + made.count("asp") == steps * workers
    assert made.count("bsp") <= round(share * steps)
    if not wanted:
        assert made == sorted(made, reverse=True)  # BSP first, then ASP


def test_a_course_goes_on_where_a_checkpoint_left_it() -> None:
    phases = plan_phases(experiment(2, policy="switch", order="101", phase_steps=[3, 4, 2]), 1)
    course = Course(phases, [3, 1, 0])
    assert (course.due, course.units, course.raw_steps, course.steps_left(1)) == (1, 7, 4, 3)
    with pytest.raises(ValueError, match="more than the plan's work"):
        course.advance(2, 5)
