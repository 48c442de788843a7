"""What goes wrong costs what it must: slow workers, slow links, changing rates, other traffic."""

import numpy as np
import pytest

from simulator.clock import Clock
from simulator.disturb import happen
from simulator.job import run_plan
from simulator.network import Network, Topology
from simulator.plan import build
from simulator.scenario import LinkTrace, Scenario, SlowLink, SlowWorker, Traffic, load
from toolkit.errors import UserError

RATE = 1000.0


def sent_at(scenario, messages, hosts=3):
    """When each (start, source, target, size) message was sent while a scenario happens."""
    clock = Clock()
    network = Network(clock, Topology(hosts, 1, RATE, 0.0, RATE, 0.0))
    happen(clock, network, scenario)
    times = [0.0] * len(messages)

    def sender(i, start, source, target, size):
        yield clock.at(start)
        yield network.send(source, target, size)
        times[i] = clock.now

    for process in [clock.process(sender(i, *message)) for i, message in enumerate(messages)]:
        clock.run(until=process)
    return times


def test_a_trace_of_bandwidth_integrates_exactly():
    trace = LinkTrace(1, ((1.0, 500.0), (3.0, 2000.0), (4.0, 100.0)))
    # 1 s at 1000, 2 s at 500, 1 s at 1000 (the sender's own link is the limit), then 100
    assert sent_at(Scenario(link_traces=(trace,)), [(0.0, 0, 1, 3050.0)]) == pytest.approx([4.5], rel=1e-12)


@pytest.mark.parametrize(("rate", "expected"), [(300.0, 1000 / 700), (np.inf, 2.0), (800.0, 2.0)])
def test_traffic_takes_its_rate_but_no_more_than_its_share(rate, expected):
    scenario = Scenario(traffic=(Traffic(0, 1, rate),))
    assert sent_at(scenario, [(0.0, 0, 1, 1000.0)]) == pytest.approx([expected], rel=1e-12)


def test_traffic_ends():
    scenario = Scenario(traffic=(Traffic(0, 2, start=0.5, end=1.0),))
    # alone, half a second shared, alone
    assert sent_at(scenario, [(0.0, 0, 1, 1000.0)]) == pytest.approx([1.25], rel=1e-12)


def times(plan, engine):
    return run_plan(plan, 1, engine=engine).to_json()


def planned(make_profile, make_experiment, scenario, **cluster):
    experiment = make_experiment(
        cluster={"workers": 4, "cycle_time": "1 ns", "bandwidth": "10 Mbit/s", **cluster},
        compression={"granularity": "layer"},
        run={"steps": 8},
    )
    plan = build(experiment, make_profile())
    plan.meet(scenario)
    return plan


def test_a_worker_is_slow_in_its_steps_only(make_profile, make_experiment):
    scenario = Scenario(slow_workers=(SlowWorker(2, 4.0, 3, 5),))
    plan = planned(make_profile, make_experiment, scenario)
    even = planned(make_profile, make_experiment, Scenario())
    one, two, plain = times(plan, "fast"), times(plan, "events"), times(even, "fast")
    assert one["total_time_s"] == pytest.approx(two["total_time_s"], rel=1e-12)
    assert one["time_share"] == pytest.approx(two["time_share"], rel=1e-9)
    compute = sum(layer.forward_s + layer.backward_s for layer in plan.profile.layers)
    assert 0 < one["total_time_s"] - plain["total_time_s"] <= 2 * 3 * compute * (1 + 1e-9)
    assert one["events"] == [{"kind": "slow_worker", "worker": 2, "factor": 4.0, "from_step": 3, "to_step": 5}]


@pytest.mark.parametrize("per_host", [1, 2])
def test_a_slow_link_slows_the_ring_to_its_rate(make_profile, make_experiment, per_host):
    scenario = Scenario(slow_links=(SlowLink(1, 1e5),))
    plan = planned(make_profile, make_experiment, scenario, workers_per_host=per_host)
    found = [times(plan, engine)["total_time_s"] for engine in ("fast", "events", "flows")]
    assert max(found) - min(found) <= 1e-9 * found[0]
    assert plan.timing.seconds("allreduce", (2e4,)) == pytest.approx(6 * (50e-6 + 5e3 / 1e5), rel=1e-12)
    assert plan.timing.seconds("allgather", (2e4,)) == pytest.approx(3 * (50e-6 + 2e4 / 1e5), rel=1e-12)


def test_the_fast_path_refuses_links_that_change(make_profile, make_experiment):
    for scenario in (
        Scenario(traffic=(Traffic(0, 1),)),
        Scenario(link_traces=(LinkTrace(0, ((0.01, 1e4),)),)),
    ):
        plan = planned(make_profile, make_experiment, scenario)
        with pytest.raises(UserError, match="links change their rate"):
            times(plan, "fast")
        result = times(plan, "auto")
        assert result["simulation"]["engine"] == "flows"
        calm = times(planned(make_profile, make_experiment, Scenario()), "auto")
        assert result["total_time_s"] > calm["total_time_s"]


def test_a_trace_that_changes_nothing_takes_the_time_of_the_fast_path(make_profile, make_experiment):
    scenario = Scenario(link_traces=(LinkTrace(0, ((0.01, 1.25e6), (0.02, 1.25e6))),))
    with_trace = times(planned(make_profile, make_experiment, scenario), "auto")
    without = times(planned(make_profile, make_experiment, Scenario()), "fast")
    assert with_trace["total_time_s"] == pytest.approx(without["total_time_s"], rel=1e-9)


GOOD = """
[[slow_worker]]
worker = 3
factor = 2
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


def test_a_scenario_file_is_read(tmp_path):
    (tmp_path / "trace.csv").write_text("time,bandwidth\n0 s,1 Gbit/s\n10 s, 8 kbit/s\n")
    (tmp_path / "s.toml").write_text(GOOD)
    assert load(str(tmp_path / "s.toml"), 4, 2) == Scenario(
        (SlowWorker(3, 2.0),),
        (SlowLink(1, 12.5e6),),
        (LinkTrace(0, ((0.0, 125e6), (10.0, 1000.0))),),
        (Traffic(0, 1, 1e6, 5.0),),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[slow_work]]\nworker = 1\n", r"slow_work: allowed are .*did you mean 'slow_worker'"),
        ("[slow_worker]\nworker = 1\n", "slow_worker: allowed are"),
        ("[[slow_worker]]\nworker = 4\nfactor = 2\n", r"\[\[slow_worker\]\] 1: worker = 4: the cluster has 4"),
        ("[[slow_worker]]\nworker = 1\nfactor = 0\n", "factor = 0: a finite number > 0"),
        ("[[slow_worker]]\nworker = 1\n", "factor: this key is missing"),
        ("[[slow_worker]]\nworker = 1\nfactor = 2\nfrom_step = 5\nto_step = 5\n", "to_step = 5"),
        ("[[slow_link]]\nhost = 1\nbandwith = '1 Mbit/s'\n", "did you mean 'bandwidth'"),
        ("[[slow_link]]\nhost = 1\nbandwidth = '0 Mbit/s'\n", "a rate > 0 is wanted"),
        ("[[slow_link]]\nhost = 2\nbandwidth = '1 Mbit/s'\n", "host = 2: the cluster has 2"),
        ("[[traffic]]\nsource = 1\ntarget = 1\n", "another host than the source"),
        ("[[traffic]]\nsource = 1\ntarget = 0\nstart = '2 s'\nend = '1 s'\n", "a time after the start"),
        ("[[link_trace]]\nhost = 0\nfile = 'none.csv'\n", "none.csv: cannot be read"),
        ("[[link_trace]]\nhost = 0\nfile = 'back.csv'\n", "back.csv:2: time = '1 s': times must rise"),
        ("[[slow_link]]\nhost = 0\nbandwidth = '1 Mbit/s'\n" * 2, "one .* a host is allowed"),
        ("[[slow", "not a scenario file"),
    ],
)
def test_a_bad_scenario_is_refused(tmp_path, text, message):
    (tmp_path / "back.csv").write_text("2 s,1 Gbit/s\n1 s,1 Gbit/s\n")
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        load(str(tmp_path / "s.toml"), 4, 2)
    assert str(error.value).startswith(str(tmp_path))
