"""ASP, SSP and the switch on an experiment file's cluster: closed forms, agreement with BSP, conservation, refusals."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cli import main
from simulator.job import run_plan
from toolkit.errors import UserError
from toolkit.trace import read_run


def total(plan, seed=1):
    return run_plan(plan, seed).to_json()


def computing(plan):
    """Seconds of a gradient: data, forward, backward, compression."""
    compress = float(plan.step(0).costs.compressed[-1])
    return plan.step_s + plan.data_s + plan.forward_s + plan.backward_s + compress


def applying(plan, entries=None):
    """Seconds of an update on all shards together."""
    merge, optimize = plan.profile.merge["sparse" if entries else "dense"], plan.profile.optimize["sgd"]
    costs = [merge.seconds(n, k) for n, k in zip(plan.elements, entries or [0] * len(plan.elements), strict=True)]
    return sum(costs) + optimize.seconds(sum(plan.elements), sum(entries or plan.elements))


@pytest.mark.parametrize("policy", ["asp", "ssp"])
@pytest.mark.parametrize("compressor", ["none", "topk"])
def test_a_worker_alone_takes_the_time_of_bsp(make_plan, policy, compressor):
    """On its own shard nothing crosses a link, and behind its own clock no bound holds it."""
    settings_of = {"cluster": {"workers": 1}, "compression": {"name": compressor}}
    plan = make_plan(sync={"policy": policy, "staleness": 0}, **settings_of)
    bsp = total(make_plan(**settings_of))["total_time_s"]
    assert total(plan)["total_time_s"] == pytest.approx(bsp, rel=1e-6)  # Horovod's shortest cycle is left
    entries = [way.entries for way in plan.step(0).costs.ways] if compressor == "topk" else None
    assert total(plan)["total_time_s"] == pytest.approx(20 * (computing(plan) + applying(plan, entries)), rel=1e-9)


def test_a_worker_and_a_server_on_a_free_network_take_the_closed_form(make_plan):
    plan = make_plan(
        cluster={"workers": 2, "bandwidth": "8 Mbit/s", "latency": "3 ms"},
        sync={"policy": "asp", "servers": "dedicated", "server_ranks": 1},
    )
    size = 4 * 7420
    exchange = size / 1e6 + 3e-3
    first, last = exchange + 3e-3, exchange + applying(plan)  # the question of the first pull; nobody pulls the last
    assert total(plan)["total_time_s"] == pytest.approx(
        first + 20 * computing(plan) + 19 * (2 * exchange + applying(plan)) + last, rel=1e-9
    )


def test_a_shard_on_every_rank_leaves_a_share_of_the_bytes_at_home(make_plan):
    """Two workers, jitter-free: each exchanges half of the bytes, both at once on full-duplex links."""
    plan = make_plan(cluster={"workers": 2, "bandwidth": "8 Mbit/s", "latency": "3 ms"}, sync={"policy": "asp"})
    half = 4 * 7420 / 2 / 1e6 + 3e-3
    iteration = computing(plan) + 2 * half + applying(plan)  # both shards serve two pushes one after the other
    assert total(plan)["total_time_s"] == pytest.approx(20 * iteration, rel=0.02)


@pytest.mark.parametrize("way", [{"order": "1"}, {"switch_at": 1.0}])
@pytest.mark.parametrize("cv", [0.0, 0.3])
@pytest.mark.parametrize("compressor", ["none", "sidco-e"])
def test_a_switch_that_never_comes_is_bsp(make_plan, way, cv, compressor):
    settings_of = {
        "cluster": {"workers": 4},
        "compression": {"name": compressor},
        "checkpoint": {"every": 6},
        "faults": {"slow_worker": [{"worker": 2, "factor": 3.0, "from_step": 4, "to_step": 9}]},
    }
    one = total(make_plan({"compute_cv": cv}, sync={"policy": "switch", **way}, **settings_of))
    two = total(make_plan({"compute_cv": cv}, **settings_of))
    for name in ("total_time_s", "samples_per_s", "bytes_sent_per_worker", "steps"):
        assert one[name] == pytest.approx(two[name], rel=1e-9), name
    assert one["time_share"] == pytest.approx(two["time_share"], rel=1e-6)
    assert one["iteration_time_s"] == pytest.approx(two["iteration_time_s"], rel=1e-6)


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(["asp", "ssp", "switch"]),
    st.integers(1, 6),
    st.integers(1, 3),
    st.integers(1, 12),
    st.floats(0.0, 0.5),
    st.sampled_from(["none", "topk", "sidco-e"]),
)
def test_work_is_conserved_and_runs_repeat(make_plan, policy, workers, per_host, steps, cv, compressor):
    plan = make_plan(
        {"compute_cv": cv},
        cluster={"workers": workers, "workers_per_host": per_host, "cores_per_host": per_host},
        sync={"policy": policy, "switch_at": 0.3},
        compression={"name": compressor},
        checkpoint={"every": 4},
        run={"steps": steps},
    )
    one, two = total(plan), total(plan)
    assert one == two
    units = sum(row["steps"] * (workers if row["name"] == "bsp" else 1) for row in one["phases"])
    assert units == steps * workers
    assert one["steps"] == sum(row["steps"] for row in one["phases"])
    assert sum(row["time_s"] for row in one["phases"]) <= one["total_time_s"] * (1 + 1e-9)
    assert sum(one["time_share"].values()) == pytest.approx(1.0)
    if "staleness" in one["sync"]:
        updates = sum(row["steps"] for row in one["phases"] if row["name"] != "bsp")
        assert sum(one["sync"]["staleness"]["histogram"].values()) == updates
        if policy == "ssp":
            assert one["sync"]["staleness"]["clock_spread"] <= 3 + 1


def test_a_looser_bound_is_not_slower_where_a_worker_is_slow(make_plan):
    slow = {"slow_worker": [{"worker": 1, "factor": 4.0, "from_step": 3, "to_step": 8}]}
    times = [
        total(make_plan({"compute_cv": 0.2}, cluster={"workers": 4}, faults=slow, sync=sync))["total_time_s"]
        for sync in (*({"policy": "ssp", "staleness": bound} for bound in (0, 1, 3, 8)), {"policy": "asp"})
    ]
    assert all(loose <= tight * (1 + 1e-9) for tight, loose in pairwise(times))
    assert times[-1] < 0.8 * times[0]


def test_one_server_is_a_bottleneck_and_its_link_sets_the_pace(make_plan):
    plan = make_plan(
        cluster={"workers": 9, "bandwidth": "1 Mbit/s"},
        sync={"policy": "asp", "servers": "dedicated", "server_ranks": 1},
        run={"steps": 10},
    )
    seconds = 80 * 4 * 7420 / 125e3  # 8 workers' updates through one link, each way
    assert seconds <= total(plan)["total_time_s"] <= 1.1 * seconds


def test_bytes_are_those_of_pushes_and_pulls(make_plan):
    plan = make_plan(cluster={"workers": 4}, sync={"policy": "asp"}, compression={"name": "topk"})
    payload = sum(plan.step(0).costs.payload)
    assert total(plan)["bytes_sent_per_worker"] == 20 * (payload + 4 * 7420)


def test_a_passing_delay_costs_two_of_it_an_iteration(make_plan):
    """Push and pull pass the delayed link once each; the computation hides nothing of it."""

    def seconds(faults):
        plan = make_plan(
            cluster={"workers": 2}, sync={"policy": "asp", "servers": "dedicated"}, faults=faults, run={"steps": 50}
        )
        return total(plan)["total_time_s"]

    whole, plain = seconds({"added_latency": [{"host": 1, "latency": "10 ms"}]}), seconds({})
    assert whole - plain == pytest.approx(50 * 2 * 0.010 + 0.010, rel=1e-6)  # and the question of the first pull
    row = {"host": 1, "latency": "10 ms", "start": "500 ms", "end": "1 s"}
    assert plain < seconds({"added_latency": [row]}) < whole


def test_elastic_leaves_the_straggler_out_and_is_faster(make_plan):
    slow = {"slow_worker": [{"worker": 3, "factor": 6.0}]}
    settings_of = {"cluster": {"workers": 4}, "faults": slow, "run": {"steps": 200}}
    ends = {
        online: total(make_plan(sync={"policy": "switch", "switch_at": 0.9, "online": online}, **settings_of))
        for online in ("baseline", "elastic", "greedy")
    }
    removed = [event["removed"] for event in ends["elastic"]["events"] if event["kind"] == "membership"]
    assert removed == [[3], []]
    assert ends["elastic"]["total_time_s"] < 0.5 * ends["baseline"]["total_time_s"]
    assert ends["greedy"]["total_time_s"] < 0.7 * ends["baseline"]["total_time_s"]
    kinds = [event["kind"] for event in ends["greedy"]["events"]]
    assert kinds.count("switch") >= 1
    assert "straggler" in kinds


def test_an_unscaled_batch_is_shared(make_plan):
    plan = make_plan(cluster={"workers": 4}, sync={"policy": "switch", "switch_at": 0.5, "scale_batch": False})
    result = total(plan)
    assert [row["steps"] for row in result["phases"]] == [10, 10]  # a unit is one batch in both
    assert result["total_time_s"] < total(make_plan(cluster={"workers": 4}))["total_time_s"]


def test_the_command_line_runs_it_and_writes_a_trace(tmp_path, capsys):
    out = tmp_path / "out.json"
    asked = ["run", "exp_configs/quickstart.toml", "--set", "run.steps=5", "--set", "cluster.workers=3"]
    switch = ["--set", "sync.policy=switch", "--set", "sync.switch_at=0.0", "--json", str(out)]
    assert main([*asked, *switch, "--trace", str(tmp_path / "run")]) == 0
    assert "engine: phases" in capsys.readouterr().out
    result = json.loads(out.read_text())
    assert [row["name"] for row in result["phases"]] == ["asp"]
    header, ranks = read_run(tmp_path / "run")
    assert header["workers"] == 3
    assert sum(span.what == "step" for spans in ranks for span in spans) == 15
    pulls = sum(s.bytes for spans in ranks for s in spans if s.what == "communicate")
    assert pulls == pytest.approx(3 * result["bytes_sent_per_worker"], abs=3)


@pytest.mark.parametrize(
    ("sections", "engine", "message"),
    [
        ({"faults": {"traffic": [{"source": 0, "target": 1}]}}, "auto", "other traffic are simulated under policy"),
        ({"sync": {"policy": "switch"}, "faults": {"added_latency": [{"host": 0, "latency": "1 ms", "end": "1 s"}]}},
         "auto", "not across a switch"),
        ({}, "fast", "--engine fast: \\[sync\\] policy = 'asp' has an engine of its own"),
        ({}, "flows", "--engine flows"),
    ],
)  # fmt: skip
def test_what_cannot_be_simulated_is_refused(make_plan, sections, engine, message):
    plan = make_plan(**{"sync": {"policy": "asp"}, "cluster": {"workers": 4}} | sections)
    with pytest.raises(UserError, match=message):
        run_plan(plan, 1, engine=engine)
