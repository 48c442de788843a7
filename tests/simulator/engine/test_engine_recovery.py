"""Failures in a run: work since the last checkpoint is done again, and nothing else changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.job import simulate
from simulator.recovery import Course, suffer
from toolkit.errors import UserError
from toolkit.experiment import parse


def faults(*failures, **keys):
    rows = [{"at": f"{at!r} s", "kind": kind} for at, kind in failures]
    return parse({"faults": {"failure": rows, "detect": "1 s", "restart": "2 s", "replace": "4 s", **keys}}, "t").faults


COURSE = Course.of([1.0] * 10, every=3, stop=0.5)  # checkpoints whole at 3.5, 7.0 and 10.5; done at 11.5


def test_the_course_of_a_run():
    assert COURSE.total == 11.5
    assert COURSE.saved == {3: 3.5, 6: 7.0, 9: 10.5}
    assert COURSE.kept(6.9) == 3.5


def test_no_failure_no_change():
    assert suffer(COURSE, faults(), 0.25, 1).total == COURSE.total
    late = suffer(COURSE, faults((11.5, "hardware")), 0.25, 1)
    assert (late.total, late.events) == (COURSE.total, [])


def test_a_failure_costs_lost_work_and_its_recovery():
    outcome = suffer(COURSE, faults((6.0, "hardware")), 0.25, 1)
    assert (outcome.lost, outcome.down) == (2.5, 1 + 2 + 4 + 0.25)
    assert outcome.total == pytest.approx(11.5 + 2.5 + 7.25)
    assert outcome.events == [
        {"kind": "failure", "time_s": 6.0, "software": False, "machines": 1, "lost_s": 2.5},
        {"kind": "recovery", "time_s": 13.25, "step": 3},
    ]


def test_software_needs_no_machine_and_a_standby_is_there_at_once():
    software = suffer(COURSE, faults((6.0, "software")), 0.25, 1)
    standby = suffer(COURSE, faults((6.0, "hardware"), standbys=1), 0.25, 1)
    assert software.down == standby.down == 3.25


def test_a_failure_while_a_checkpoint_is_written_goes_back_to_the_one_before():
    assert suffer(COURSE, faults((6.8, "software")), 0.0, 1).lost == pytest.approx(3.3)


def test_a_failure_during_a_recovery_starts_it_anew():
    outcome = suffer(COURSE, faults((6.0, "hardware"), (10.0, "software")), 0.0, 1)
    assert outcome.lost == 2.5
    assert outcome.down == pytest.approx(4.0 + 3.0)
    assert outcome.total == pytest.approx(11.5 + 2.5 + 7.0)


def test_a_failure_of_software_does_not_bring_the_awaited_machine():
    alone = suffer(COURSE, faults((6.0, "hardware")), 0.0, 1)
    both = suffer(COURSE, faults((6.0, "hardware"), (6.0, "software")), 0.0, 1)
    assert both.total == alone.total


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.floats(0.1, 2.0), min_size=1, max_size=20),
    st.integers(0, 5),
    st.lists(st.tuples(st.floats(0, 60), st.sampled_from(["software", "hardware"])), max_size=6),
)
def test_time_is_the_run_and_what_was_lost_and_waited_for(seconds, every, failures):
    course = Course.of(seconds, every, 0.25 if every else 0.0)
    outcome = suffer(course, faults(*failures), 0.5, 1)
    assert outcome.total == pytest.approx(course.total + outcome.lost + outcome.down, rel=1e-9)
    between = np.diff([0.0, *course.saved.values(), course.total]).max()
    lost = [event["lost_s"] for event in outcome.events if event["kind"] == "failure"]
    assert all(0 <= each <= between * (1 + 1e-9) for each in lost)
    fewer = suffer(course, faults(*sorted(failures)[:-1]), 0.5, 1) if failures else outcome
    assert fewer.total <= outcome.total * (1 + 1e-12)


def test_failures_come_at_their_rate_and_are_the_same_for_a_seed():
    course = Course.of([100.0] * 1000, every=10, stop=0.0)
    often = faults(failures_per_day=24.0, software_share=0.25)
    outcome = suffer(course, often, 0.0, 3)
    count = sum(event["kind"] == "failure" for event in outcome.events)
    assert count == pytest.approx(24 * outcome.total / 86400, rel=0.5)
    assert outcome.events == suffer(course, often, 0.0, 3).events
    assert outcome.events != suffer(course, often, 0.0, 4).events


def test_a_run_that_never_ends_is_refused():
    with pytest.raises(UserError, match=r"\[faults\] failures_per_day = 8640: the run never ends"):
        suffer(Course.of([100.0] * 20, 0, 0.0), faults(failures_per_day=8640.0), 0.0, 1)


@pytest.mark.parametrize("engine", ["fast", "events"])
def test_a_simulated_run_with_a_failure(make_profile, make_experiment, engine):
    settings = {"checkpoint": {"every": 5}, "run": {"steps": 20}}
    calm = simulate(make_experiment(**settings), make_profile(), engine=engine)
    at = calm.total_time_s * 0.6
    rows = {"failure": [{"at": f"{at!r} s"}], "restart": "3 s", "detect": "0 s", "replace": "0 s"}
    result = simulate(make_experiment(**settings, faults=rows), make_profile(), engine=engine)
    section = result.sections["failures"]
    assert section["count"] == 1
    assert 0 < section["lost_s"] < calm.total_time_s / 3.5
    assert result.total_time_s == pytest.approx(calm.total_time_s + section["lost_s"] + section["down_s"])
    assert sum(result.time_share.values()) == pytest.approx(1.0)
    assert result.iteration_time_s == calm.iteration_time_s
    assert [event["kind"] for event in result.events] == ["failure", "recovery"]
    assert result.events[1]["step"] == 10


def test_failures_are_refused_where_they_are_not_simulated(make_profile, make_experiment):
    experiment = make_experiment(sync={"policy": "asp"}, faults={"failure": [{"at": "1 s"}]})
    with pytest.raises(UserError, match="simulated with"):
        simulate(experiment, make_profile())
