"""What goes wrong costs what it must: slow workers and cores, slow links, changing rates, other traffic."""

import dataclasses

import numpy as np
import pytest

from simulator.clock import Clock
from simulator.disturb import happen
from simulator.engine import Engine
from simulator.job import run_plan, simulate
from simulator.network import Network
from simulator.plan import build
from simulator.play import Deadlock
from simulator.scenario import Scenario, under
from simulator.topology import Topology
from toolkit.errors import UserError
from toolkit.experiment import parse
from toolkit.sections.faults import SlowWorker

RATE = 1000.0


def sent_at(faults, messages, hosts=3):
    """When each (start, source, target, size) message was sent while [faults] happen."""
    clock = Clock()
    network = Network(clock, Topology(hosts, 1, RATE, 0.0, RATE, 0.0))
    experiment = parse({"cluster": {"workers": hosts}, "faults": faults}, "test")
    happen(clock, network, Scenario.of(experiment))
    times = [0.0] * len(messages)

    def sender(i, start, source, target, size):
        yield clock.at(start)
        yield network.send(source, target, size)
        times[i] = clock.now

    for process in [clock.process(sender(i, *message)) for i, message in enumerate(messages)]:
        clock.run(until=process)
    return times


def rates(host, *points):
    return {"link_trace": [{"host": host, "at": f"{at} s", "bandwidth": f"{rate} B/s"} for at, rate in points]}


def test_a_trace_of_bandwidth_integrates_exactly():
    # 1 s at 1000, 2 s at 500, 1 s at 1000 (the sender's own link is the limit), then 100
    trace = rates(1, (1, 500), (3, 2000), (4, 100))
    assert sent_at(trace, [(0.0, 0, 1, 3050.0)]) == pytest.approx([4.5], rel=1e-12)


def test_a_host_that_is_cut_off_for_a_while_goes_on_afterwards():
    trace = rates(1, (0.5, 0), (2, 1000))
    assert sent_at(trace, [(0.0, 0, 1, 1000.0), (1.0, 2, 0, 100.0)]) == pytest.approx([2.5, 1.1], rel=1e-12)


@pytest.mark.parametrize(("rate", "expected"), [("300 B/s", 1000 / 700), (None, 2.0), ("800 B/s", 2.0)])
def test_traffic_takes_its_rate_but_no_more_than_its_share(rate, expected):
    row = {"source": 0, "target": 1} | ({"rate": rate} if rate else {})
    assert sent_at({"traffic": [row]}, [(0.0, 0, 1, 1000.0)]) == pytest.approx([expected], rel=1e-12)


def test_traffic_ends():
    row = {"source": 0, "target": 2, "start": "0.5 s", "end": "1 s"}
    # alone, half a second shared, alone
    assert sent_at({"traffic": [row]}, [(0.0, 0, 1, 1000.0)]) == pytest.approx([1.25], rel=1e-12)


def times(plan, engine):
    return run_plan(plan, 1, engine=engine).to_json()


def planned(make_profile, make_experiment, faults, **cluster):
    experiment = make_experiment(
        cluster={"workers": 4, "cycle_time": "1 ns", "bandwidth": "10 Mbit/s", **cluster},
        compression={"granularity": "layer"},
        run={"steps": 8},
        faults=faults,
    )
    return build(experiment, make_profile())


def test_a_worker_is_slow_in_its_steps_only(make_profile, make_experiment):
    row = {"worker": 2, "factor": 4.0, "from_step": 3, "to_step": 5}
    plan = planned(make_profile, make_experiment, {"slow_worker": [row]})
    even = planned(make_profile, make_experiment, {})
    one, two, plain = times(plan, "fast"), times(plan, "events"), times(even, "fast")
    assert one["total_time_s"] == pytest.approx(two["total_time_s"], rel=1e-12)
    assert one["time_share"] == pytest.approx(two["time_share"], rel=1e-9)
    compute = sum(layer.forward_s + layer.backward_s for layer in plan.profile.layers)
    assert 0 < one["total_time_s"] - plain["total_time_s"] <= 2 * 3 * compute * (1 + 1e-9)
    assert one["events"] == [{"kind": "slow_worker", **row}]


def test_slow_cores_slow_all_that_is_done_on_them(make_profile, make_experiment):
    """On one host: every part of a step but the exchange takes twice as long."""
    experiment = {"cluster": {"workers": 2, "workers_per_host": 2, "cores_per_host": 2, "cycle_time": "1 ns"}}
    faults = {"slow_cpu": [{"host": 0, "factor": 2.0}]}
    slow = simulate(make_experiment(**experiment, faults=faults), make_profile())
    plain = simulate(make_experiment(**experiment), make_profile())
    busy = plain.sections["simulation"]["ideal_time_s"]
    assert slow.total_time_s - plain.total_time_s == pytest.approx(busy, rel=1e-3)  # but for the ticks
    own_device = build(make_experiment(**experiment, faults=faults, run={"compute": "paced"}), make_profile())
    assert not own_device.on_cores
    at_pace = simulate(make_experiment(**experiment, run={"compute": "paced"}), make_profile())
    assert run_plan(own_device, 1).total_time_s < 1.1 * at_pace.total_time_s


def test_one_host_with_slow_cores_holds_up_all(make_profile, make_experiment):
    faults = {"slow_cpu": [{"host": 1, "factor": 3.0, "from_step": 2}]}
    plan = planned(make_profile, make_experiment, faults, workers_per_host=2, cores_per_host=2)
    found = [times(plan, engine) for engine in ("fast", "events", "flows")]
    assert found[0]["total_time_s"] == pytest.approx(found[1]["total_time_s"], rel=1e-12)
    assert found[0]["time_share"] == pytest.approx(found[1]["time_share"], rel=1e-9)
    assert found[1]["total_time_s"] == pytest.approx(found[2]["total_time_s"], rel=1e-9)
    even = times(planned(make_profile, make_experiment, {}, workers_per_host=2, cores_per_host=2), "fast")
    assert found[0]["total_time_s"] > even["total_time_s"] + 6 * 2 * plan.forward_s
    assert found[0]["time_share"]["idle"] > even["time_share"]["idle"]


def test_stragglers_by_chance_are_the_same_in_both_engines(make_profile, make_experiment):
    faults = {"straggler": [{"rate": 0.3, "factor": 4.0, "distribution": "exponential", "steps": 2}]}
    plan = planned(make_profile, make_experiment, faults)
    one, two = times(plan, "fast"), times(plan, "events")
    assert one["iteration_time_s"] == pytest.approx(two["iteration_time_s"], rel=1e-12)
    assert one["total_time_s"] > 1.2 * times(planned(make_profile, make_experiment, {}), "fast")["total_time_s"]
    assert one["iteration_time_s"]["p99"] > 1.5 * one["iteration_time_s"]["p50"] or one["time_share"]["idle"] > 0.2


def test_added_latency_lengthens_every_message_of_its_host(make_profile, make_experiment):
    faults = {"added_latency": [{"host": 1, "latency": "10 ms"}]}
    plan, calm = (planned(make_profile, make_experiment, f) for f in (faults, {}))
    slow, plain = (p.timing.seconds("allreduce", (2e4,)) for p in (plan, calm))
    assert slow - plain == pytest.approx(6 * 0.01, rel=1e-9)  # every second hop of a ring is to or from it
    found = [times(plan, engine)["total_time_s"] for engine in ("fast", "events", "flows")]
    assert max(found) - min(found) <= 1e-9 * found[0]
    assert plan.cycle.tree_s - calm.cycle.tree_s == pytest.approx(0.02)  # in the midst of the tree


def test_latency_that_passes_costs_nothing_afterwards(make_profile, make_experiment):
    row = {"host": 1, "latency": "10 ms", "start": "10 ms", "end": "40 ms"}
    plan = planned(make_profile, make_experiment, {"added_latency": [row]})
    result, calm = times(plan, "auto"), times(planned(make_profile, make_experiment, {}), "auto")
    assert result["simulation"]["engine"] == "flows"
    late = result["total_time_s"] - calm["total_time_s"]
    assert 0.01 < late < 0.3


@pytest.mark.parametrize("per_host", [1, 2])
def test_a_slow_link_slows_the_ring_to_its_rate(make_profile, make_experiment, per_host):
    faults = {"slow_link": [{"host": 1, "bandwidth": "100 kB/s"}]}
    plan = planned(make_profile, make_experiment, faults, workers_per_host=per_host)
    found = [times(plan, engine)["total_time_s"] for engine in ("fast", "events", "flows")]
    assert max(found) - min(found) <= 1e-9 * found[0]
    assert plan.timing.seconds("allreduce", (2e4,)) == pytest.approx(6 * (50e-6 + 5e3 / 1e5), rel=1e-12)
    assert plan.timing.seconds("allgather", (2e4,)) == pytest.approx(3 * (50e-6 + 2e4 / 1e5), rel=1e-12)


def test_the_fast_path_refuses_links_that_change(make_profile, make_experiment):
    for faults in ({"traffic": [{"source": 0, "target": 1}]}, rates(0, (0.01, 10_000))):
        plan = planned(make_profile, make_experiment, faults)
        with pytest.raises(UserError, match="links change their rate"):
            times(plan, "fast")
        result = times(plan, "auto")
        assert result["simulation"]["engine"] == "flows"
        calm = times(planned(make_profile, make_experiment, {}), "auto")
        assert result["total_time_s"] > calm["total_time_s"]


def test_a_trace_that_changes_nothing_takes_the_time_of_the_fast_path(make_profile, make_experiment):
    trace = rates(0, (0.01, 1_250_000), (0.02, 1_250_000))
    with_trace = times(planned(make_profile, make_experiment, trace), "auto")
    without = times(planned(make_profile, make_experiment, {}), "fast")
    assert with_trace["total_time_s"] == pytest.approx(without["total_time_s"], rel=1e-9)


def test_a_job_that_cannot_end_says_who_waits_for_whom(make_profile, make_experiment):
    plan = planned(make_profile, make_experiment, {})
    plan.scenario = dataclasses.replace(plan.scenario, traces={2: ((0.0, 0.0),)})  # reading [faults] refuses this
    with pytest.raises(Deadlock, match="rank 3 waits for the message of rank 2 in round 0, cut off"):
        Engine(plan, 1, flows=True).run()


GOOD = """
[[slow_worker]]
worker = 3
factor = 2.0
[[slow_link]]
host = 1
bandwidth = "100 Mbit/s"
[[link_trace]]
host = 0
file = "trace.csv"
[[traffic]]
source = 0
target = 1
rate = "8 Mbit/s"
start = "5 s"
"""
HOSTS = {"cluster": {"workers": 4, "workers_per_host": 2}}


def test_a_scenario_file_is_laid_over_faults(tmp_path):
    (tmp_path / "trace.csv").write_text("time,bandwidth\n0 s,1 Gbit/s\n10 s, 8 kbit/s\n")
    (tmp_path / "s.toml").write_text(GOOD)
    own = {"faults": {"slow_worker": [{"worker": 0, "factor": 3.0}]}}
    experiment = under(parse(HOSTS | own, "test"), str(tmp_path / "s.toml"))
    assert experiment.faults.slow_worker == (SlowWorker(0, 3.0), SlowWorker(3, 2.0))
    scenario = Scenario.of(experiment)
    assert scenario.traces == {0: ((0.0, 125e6), (10.0, 1000.0))}
    assert scenario.disturbed(Topology.of(experiment.cluster)).rates().tolist() == [125e6, 12.5e6]
    assert (scenario.traffic[0].rate, scenario.traffic[0].start) == (1e6, 5.0)
    assert [event["kind"] for event in scenario.events()] == ["slow_worker"] * 2 + [
        "slow_link",
        "traffic",
        "link_trace",
    ]


def test_the_tables_of_a_scenario_and_of_faults_are_the_same(tmp_path, make_profile, make_experiment):
    (tmp_path / "s.toml").write_text(
        "[[slow_worker]]\nworker = 1\nfactor = 2.0\n[[slow_link]]\nhost = 0\nbandwidth = '9 Mbit/s'"
    )
    faults = {"slow_worker": [{"worker": 1, "factor": 2.0}], "slow_link": [{"host": 0, "bandwidth": "9 Mbit/s"}]}
    one = simulate(make_experiment(), make_profile(), scenario=str(tmp_path / "s.toml"))
    assert one.to_json() == simulate(make_experiment(faults=faults), make_profile()).to_json()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[slow_work]]\nworker = 1\n", r"slow_work: allowed are .*did you mean 'slow_worker'"),
        ("[slow_worker]\nworker = 1\n", "slow_worker: allowed are"),
        ("[[slow_worker]]\nworker = 4\nfactor = 2.0\n", r"slow_worker 1: worker = 4: the cluster has 4"),
        ("[[slow_worker]]\nworker = 1\nfactor = 0\n", "factor = 0.0: a finite value > 0"),
        ("[[slow_worker]]\nworker = 1\n", "factor: this key is missing"),
        ("[[slow_link]]\nhost = 1\nbandwith = '1 Mbit/s'\n", "did you mean 'bandwidth'|bandwidth: this key is missing"),
        ("[[slow_link]]\nhost = 1\nbandwidth = '0 Mbit/s'\n", "slow_link 1: bandwidth = '0 .*'"),
        ("[[slow_link]]\nhost = 2\nbandwidth = '1 Mbit/s'\n", "host = 2: the cluster has 2"),
        ("[[traffic]]\nsource = 1\ntarget = 0\nstart = '2 s'\nend = '1 s'\n", "a time after start"),
        ("[[slow", "not a scenario file"),
    ],
)
def test_a_bad_scenario_is_refused(tmp_path, text, message):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        under(parse(HOSTS, "test"), str(tmp_path / "s.toml"))
    assert str(error.value).startswith(str(tmp_path))


def test_a_trace_that_is_missing_is_refused_with_its_name(tmp_path, make_profile, make_experiment):
    (tmp_path / "s.toml").write_text("[[link_trace]]\nhost = 0\nfile = 'none.csv'\n")
    with pytest.raises(UserError, match=r"none\.csv: cannot be read"):
        simulate(make_experiment(), make_profile(), scenario=str(tmp_path / "s.toml"))


def test_workers_that_fare_alike_are_one_row(make_profile, make_experiment):
    """A thousand workers with one straggler and one slow host take the time of two or three."""
    faults = {"slow_worker": [{"worker": 5, "factor": 2.0}], "slow_cpu": [{"host": 3, "factor": 2.0}]}
    plan = planned(make_profile, make_experiment, faults, workers=200, workers_per_host=2, cores_per_host=2)
    from simulator.fast import _rows

    rows, row_of = _rows(plan)
    assert len(rows) == 3
    assert np.bincount(row_of).sum() == 200
