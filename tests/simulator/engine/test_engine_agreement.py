"""Two engines, one answer; the same seed, the same bytes; spans that fold to the very result."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import fast
from simulator.engine import Engine
from simulator.job import run_plan, simulate
from simulator.plan import build
from toolkit.errors import UserError
from toolkit.trace import RankSteps, summarize
from toolkit.trace.span import MAIN_LANE

CASES = st.fixed_dictionaries(
    {
        "workers": st.integers(1, 6),
        "per_host": st.integers(1, 3),
        "compression": st.sampled_from(
            [
                {"name": "none"},
                {"name": "fp16"},
                {"name": "bf16"},
                {"name": "topk"},
                {"name": "sidco-e"},
                {"name": "randomk"},
                {"name": "powersgd"},
                {"name": "topk", "exchange": "gtopk"},
                {"name": "sidco-e", "exchange": "oktopk"},
                {"name": "topk", "wire_indices": "delta", "wire_values": "bf16"},
                {"name": "topk", "exchange": "gtopk", "bypass": "auto"},
                {"name": "topk", "density": 0.9, "bypass": "auto"},
            ]
        ),
        "cluster": st.sampled_from(
            [
                {},
                {"allreduce": "hierarchical"},
                {"allreduce": "parameter-server", "allgather": "bruck"},
                {"hosts_per_rack": 2, "oversubscription": 4.0},
                {"hosts_per_rack": 1, "racks_per_site": 2, "site_bandwidth": "1 MB/s", "site_latency": "3 ms"},
                {"switch_bandwidth": "1 MB/s"},
            ]
        ),
        "faults": st.sampled_from(
            [
                {},
                {"slow_cpu": [{"host": 0, "factor": 2.5, "from_step": 1}]},
                {"straggler": [{"rate": 0.4, "factor": 3.0, "distribution": "pareto", "steps": 2}]},
                {"slow_link": [{"host": 0, "bandwidth": "200 kB/s"}]},
            ]
        ),
        "grain": st.sampled_from(["layer", "merged", "model"]),
        "overlap": st.booleans(),
        "accumulation": st.integers(1, 3),
        "cycle": st.sampled_from([1e-6, 1e-3, 7e-3]),
        "bandwidth": st.floats(1e5, 1e9),
        "cv": st.sampled_from([0.0, 0.2]),
        "examples": st.sampled_from([5, 130, 1437, 100_000]),
        "dense_steps": st.integers(0, 3),
        "every": st.sampled_from([0, 2]),
        "seed": st.integers(0, 1000),
    }
)


def prepare(case, make_profile, make_experiment):
    experiment = make_experiment(
        cluster={"workers": case["workers"], "workers_per_host": case["per_host"], **case["cluster"]},
        compression={
            **case["compression"],
            "granularity": case["grain"],
            "merge_elements": 3000,
            "dense_steps": case["dense_steps"],
        },
        pipeline={"overlap": case["overlap"], "accumulation": case["accumulation"]},
        checkpoint={"every": case["every"]},
        run={"steps": 6},
        faults=case["faults"],
    ).replace(cluster={"bandwidth": case["bandwidth"], "cycle_time": case["cycle"]})
    return experiment, make_profile(compute_cv=case["cv"], examples=case["examples"])


def comparable(result):
    content = result.to_json()
    for key in ("engine", "why"):
        del content["simulation"][key]
    return content


def assert_close(one, other, rel, path="result"):
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_close(one[key], other[key], rel, f"{path}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), path
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_close(a, b, rel, f"{path}[{i}]")
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=rel, abs=1e-12), path
    else:
        assert one == other, path


@settings(deadline=None, max_examples=150)
@given(CASES)
def test_engines_agree(make_profile, make_experiment, case):
    experiment, profile = prepare(case, make_profile, make_experiment)
    plan = build(experiment, profile)
    refused = fast.refusal(plan, traced=False, flows=False)
    engines = ("events", "flows") if refused else ("fast", "events", "flows")
    results = [comparable(simulate(experiment, profile, seed=case["seed"], engine=engine)) for engine in engines]
    if refused is None:
        assert_close(results[0], results[1], 1e-12)
    else:
        assert plan.mixed_step() is not None
    assert_close(results[-2], results[-1], 1e-9)


@settings(deadline=None, max_examples=40)
@given(CASES)
def test_spans_fold_to_the_result_and_never_overlap(make_profile, make_experiment, case):
    experiment, profile = prepare(case, make_profile, make_experiment)
    spans = []
    result = simulate(experiment, profile, seed=case["seed"], sink=spans.append)
    by_rank = [[span for span in spans if span.rank == rank] for rank in range(case["workers"])]
    events = build(experiment, profile).scenario.events()
    folded = summarize(
        [RankSteps.of(own) for own in by_rank], seed=case["seed"], samples=build(experiment, profile).samples()
    )
    expected = {key: value for key, value in result.to_json().items() if key != "simulation"}
    assert expected.pop("events") == events
    assert_close({key: value for key, value in folded.to_json().items() if key != "events"}, expected, 1e-9)
    for own in by_rank:
        lane = sorted((s for s in own if s.what in MAIN_LANE), key=lambda s: (s.start, s.end))
        assert all(after.start >= before.end - 1e-12 for before, after in itertools.pairwise(lane))


def test_spans_carry_the_bytes_that_are_charged(make_profile, make_experiment):
    spans = []
    experiment = make_experiment(compression={"name": "topk", "granularity": "layer"}, run={"steps": 3})
    result = simulate(experiment, make_profile(), sink=spans.append)
    launched = [span for span in spans if span.what == "communicate"]
    assert sum(span.bytes for span in launched) == 4 * result.bytes_sent_per_worker
    compressed = {(s.rank, s.step, s.name): s.bytes for s in spans if s.what == "compress"}
    assert compressed == {(s.rank, s.step, s.name): s.bytes for s in launched}


def test_same_seed_same_bytes(make_profile, make_experiment):
    profile, experiment = make_profile(compute_cv=0.3), make_experiment(cluster={"workers": 6}, run={"steps": 300})
    first, again, other = (json.dumps(simulate(experiment, profile, seed=s).to_json()) for s in (3, 3, 4))
    assert first == again
    assert first != other


def test_a_workers_luck_does_not_depend_on_who_else_is_there(make_profile, make_experiment):
    """One random stream a worker: worker 0's compute is the same in a job of two and of five."""

    def first(workers):
        spans = []
        experiment = make_experiment(cluster={"workers": workers})
        simulate(experiment, make_profile(compute_cv=0.3), sink=spans.append)
        return [s.seconds for s in spans if s.rank == 0 and s.what == "forward"]

    assert first(2) == pytest.approx(first(5))


def test_jitter_has_the_asked_for_spread(make_profile, make_experiment):
    spans = []
    experiment = make_experiment(cluster={"workers": 4}, run={"steps": 600})
    profile = make_profile(sizes=(10,), compute_cv=0.2)
    simulate(experiment, profile, sink=spans.append)
    times = [s.seconds / profile.layers[0].forward_s for s in spans if s.what == "forward"]
    mean = sum(times) / len(times)
    spread = (sum((t - mean) ** 2 for t in times) / len(times)) ** 0.5
    assert mean == pytest.approx(1.0, abs=0.02)
    assert spread == pytest.approx(0.2, abs=0.02)


def test_the_fast_path_says_why_it_refuses(make_profile, make_experiment):
    plan = build(make_experiment(), make_profile())
    assert fast.refusal(plan, traced=False, flows=False) is None
    assert "trace" in fast.refusal(plan, traced=True, flows=False)
    assert "flows" in fast.refusal(plan, traced=False, flows=True)
    with pytest.raises(UserError, match="--engine fast: a trace is asked for"):
        simulate(make_experiment(), make_profile(), engine="fast", sink=print)
    crossing = make_experiment(compression={"name": "powersgd"})
    assert "in step 0" in fast.refusal(build(crossing, make_profile()), traced=False, flows=False)
    with pytest.raises(UserError, match="--engine fast: in step 0 what one bucket"):
        simulate(crossing, make_profile(), engine="fast")
    assert simulate(crossing, make_profile()).sections["simulation"]["engine"] == "events"
    with pytest.raises(UserError, match="--engine slow"):
        simulate(make_experiment(), make_profile(), engine="slow")
    section = simulate(make_experiment(), make_profile()).sections["simulation"]
    assert section["engine"] == "fast"
    assert "exact" in section["why"]


def test_spans_from_a_later_step_on(make_profile, make_experiment):
    whole, late = [], []
    for spans, since in ((whole, 0), (late, 4)):
        run_plan(build(make_experiment(run={"steps": 6}), make_profile()), 1, sink=spans.append, since=since)
    assert late == [span for span in whole if span.step >= 4]
    assert {span.step for span in late} == {4, 5}


@pytest.mark.parametrize("engine", ["fast", "events"])
def test_a_fold_keeps_a_number_a_step_however_many_workers_there_are(make_profile, make_experiment, engine):
    def kept(steps):
        experiment = make_experiment(cluster={"workers": 8}, run={"steps": steps})
        plan = build(experiment, make_profile(sizes=(1000,), compute_cv=0.1))
        fold = fast.run(plan, 1) if engine == "fast" else Engine(plan, 1).run()
        assert len(fold.iterations) == steps
        return {name: np.size(value) for name, value in vars(fold).items() if name != "iterations"}

    assert kept(300) == kept(50)
