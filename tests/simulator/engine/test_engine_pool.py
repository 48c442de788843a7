"""Cores that are shared as tasks come: processor sharing in closed form, the other engines' time where none share."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simpy.events import AllOf

from simulator import fast
from simulator.clock import Clock
from simulator.engine import Engine
from simulator.job import run_plan, simulate
from simulator.plan import build
from simulator.pool import Pool
from simulator.pooled import PooledEngine
from toolkit.trace import RankSteps, joined, summarize


def done_at(cores, tasks):
    """When each (start, seconds, width) task is done."""
    clock = Clock()
    pool, times = Pool(clock, cores), [0.0] * len(tasks)

    def task(i, start, seconds, width):
        yield clock.at(start)
        yield pool.work(seconds, width)
        times[i] = clock.now

    clock.run(until=AllOf(clock, [clock.process(task(i, *row)) for i, row in enumerate(tasks)]))
    return times, pool


def test_tasks_share_cores_as_they_come():
    assert done_at(2, [(0.0, 1.0, 1), (0.0, 2.0, 1)])[0] == [1.0, 2.0]  # a core each
    assert done_at(1, [(0.0, 1.0, 1), (0.0, 2.0, 1)])[0] == pytest.approx([2.0, 3.0])  # half a core, then a whole
    # alone for a second, then shared; the late one is done first
    assert done_at(1, [(0.0, 3.0, 1), (1.0, 1.0, 1)])[0] == pytest.approx([4.0, 3.0])
    # four cores wanted by one, one by the other: both at 2/5 speed
    assert done_at(2, [(0.0, 2.0, 4), (0.0, 2.0, 1)])[0] == pytest.approx([5.0, 5.0])


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.floats(0, 5), st.floats(0.01, 3), st.sampled_from([1.0, 2.0])), min_size=1, max_size=8),
)
def test_work_is_conserved_and_no_core_idles(cores, tasks):
    times, pool = done_at(cores, tasks)
    work = sum(seconds * width for _, seconds, width in tasks)
    assert pool.busy == pytest.approx(work, rel=1e-9)
    assert max(times) >= min(start for start, *_ in tasks) + work / cores * (1 - 1e-9) - 5.0
    for (start, seconds, width), end in zip(tasks, times, strict=True):
        alone = seconds * max(1.0, width / cores)
        assert end - start >= alone * (1 - 1e-9)


CASES = st.fixed_dictionaries(
    {
        "compression": st.sampled_from(
            [
                {"name": "none"},
                {"name": "topk"},
                {"name": "powersgd"},
                {"name": "topk", "exchange": "gtopk"},
                {"name": "topk", "exchange": "gtopk", "bypass": "auto"},
            ]
        ),
        "workers": st.integers(1, 5),
        "per_host": st.integers(1, 3),
        "overlap": st.booleans(),
        "accumulation": st.integers(1, 2),
        "cv": st.sampled_from([0.0, 0.2]),
        "examples": st.sampled_from([130, 1437, 100_000]),
        "every": st.sampled_from([0, 2]),
    }
)


@settings(deadline=None, max_examples=60)
@given(CASES)
def test_with_cores_for_all_it_takes_the_time_of_the_event_engine(make_profile, make_experiment, case):
    experiment = make_experiment(
        cluster={
            "workers": case["workers"],
            "workers_per_host": case["per_host"],
            "cores_per_host": 3,
            "cycle_time": "10 us",
        },
        compression={**case["compression"], "granularity": "layer"},
        pipeline={"overlap": case["overlap"], "accumulation": case["accumulation"]},
        checkpoint={"every": case["every"]},
        faults={"slow_cpu": [{"host": 0, "factor": 1.5, "from_step": 2}]},
        run={"steps": 4},
    )
    plan = build(experiment, make_profile(compute_cv=case["cv"], examples=case["examples"]))
    results = [
        joined([engine(plan, 1).run().phase("bsp")], seed=1, samples=plan.samples(), workers=case["workers"])
        for engine in (Engine, PooledEngine)
    ]
    one, two = results
    assert two.total_time_s == pytest.approx(one.total_time_s, rel=1e-9)
    assert two.iteration_time_s == pytest.approx(one.iteration_time_s, rel=1e-9)
    assert two.time_share == pytest.approx(one.time_share, rel=1e-6, abs=1e-9)
    assert two.bytes_sent_per_worker == one.bytes_sent_per_worker


def settings_of(sharing, cores=1, **more):
    cluster = {"workers": 4, "workers_per_host": 4, "cores_per_host": cores, "cycle_time": "1 us"}
    return {"cluster": {**cluster, "cpu_sharing": sharing}, "run": {"steps": 4}, **more}


def test_the_fast_path_refuses_shared_cores(make_profile, make_experiment):
    plan = build(make_experiment(**settings_of("processor")), make_profile())
    assert "share their host's cores" in fast.refusal(plan, traced=False, flows=False)
    result = simulate(make_experiment(**settings_of("processor")), make_profile())
    assert result.sections["simulation"]["engine"] == "events"
    enough = build(make_experiment(**settings_of("processor", cores=4)), make_profile())
    assert fast.refusal(enough, traced=False, flows=False) is None


def test_workers_in_step_share_a_core_as_if_all_work_were_stretched(make_profile, make_experiment):
    """Without exchanges to wait for, nobody leaves a core to others: both ways to share give one time."""
    more = {"compression": {"granularity": "model"}, "pipeline": {"overlap": False}}
    shared, stretched = (
        simulate(make_experiment(**settings_of(how, **more)), make_profile()) for how in ("processor", "stretch")
    )
    assert shared.total_time_s == pytest.approx(stretched.total_time_s, rel=1e-3)


def test_a_worker_that_waits_leaves_its_core_to_a_straggler(make_profile, make_experiment):
    plan = build(make_experiment(**settings_of("processor", cores=2)), make_profile())
    even = run_plan(plan, 1).total_time_s
    plan.slowdown = np.array([1.0, 1.0, 1.0, 2.0])
    late = run_plan(plan, 1).total_time_s
    stretched = build(make_experiment(**settings_of("stretch", cores=2)), make_profile())
    stretched.slowdown = np.array([1.0, 1.0, 1.0, 2.0])
    assert even < late < run_plan(stretched, 1).total_time_s  # which would slow the straggler by the others to its end


def test_spans_of_shared_cores_fold_to_the_result(make_profile, make_experiment):
    spans = []
    experiment = make_experiment(**settings_of("processor"), compression={"name": "topk", "granularity": "layer"})
    result = simulate(experiment, make_profile(compute_cv=0.1), sink=spans.append)
    by_rank = [[span for span in spans if span.rank == rank] for rank in range(4)]
    folded = summarize([RankSteps.of(own) for own in by_rank], seed=1, samples=1)
    assert folded.total_time_s == pytest.approx(result.total_time_s, rel=1e-9)
    assert folded.time_share == pytest.approx(result.time_share, rel=1e-6, abs=1e-9)
    assert folded.bytes_sent_per_worker == result.bytes_sent_per_worker
