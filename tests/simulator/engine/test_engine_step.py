"""The time of a step: closed forms, and laws that no setting may break."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.job import run_plan, simulate
from simulator.plan import build
from simulator.profile import NetworkFit
from toolkit.errors import UserError


def compute_seconds(profile):
    return sum(layer.forward_s + layer.backward_s for layer in profile.layers)


@pytest.mark.parametrize("name", ["none", "topk", "sidco-e"])
@pytest.mark.parametrize("engine", ["fast", "events", "flows"])
def test_one_worker_on_a_free_network_takes_the_sum_of_its_parts(make_profile, make_experiment, name, engine):
    profile = make_profile()
    experiment = make_experiment(
        cluster={"workers": 1, "cycle_time": "1 ns"}, compression={"name": name, "density": 0.1}, run={"steps": 5}
    )
    n, total = profile.elements, 0.0
    k = {"none": n, "topk": n // 10, "sidco-e": round(n // 10 * 1.25)}[name]
    total += profile.data_s + profile.step_s + compute_seconds(profile)
    total += profile.compress[name].seconds(n, k)
    total += profile.merge["dense" if name == "none" else "sparse"].seconds(n, 0 if name == "none" else k)
    total += profile.optimize["sgd"].seconds(n, 0)
    result = simulate(experiment, profile, engine=engine)
    assert result.total_time_s == pytest.approx(5 * total, rel=1e-6)  # at most a cycle of 1 ns a step is lost
    assert result.total_time_s >= 5 * total * (1 - 1e-12)


def test_a_step_with_one_bucket_is_compute_tick_ring_and_optimizer(make_profile, make_experiment):
    profile = make_profile()
    experiment = make_experiment(
        cluster={"workers": 4, "bandwidth": "100 Mbit/s", "latency": "50 us", "cycle_time": "1 ns"}, run={"steps": 1}
    )
    n = profile.elements
    ring = 6 * (50e-6 + 4 * n / 4 / 12.5e6)
    negotiation = 5 * 2 * 50e-6  # a tree of depth 2, five times for a tensor that no cache holds yet
    expected = profile.data_s + profile.step_s + compute_seconds(profile) + profile.compress["none"].seconds(n, n)
    expected += negotiation + ring + profile.merge["dense"].seconds(n, 0) + profile.optimize["sgd"].seconds(n, 0)
    late = simulate(experiment, profile).total_time_s - expected
    assert -1e-12 <= late <= 2 * 50e-6  # the wait for a tick, which cannot come more often than a tree of latencies


def test_bsp_goes_at_the_pace_of_the_slowest_worker(make_profile, make_experiment):
    profile, experiment = make_profile(), make_experiment(cluster={"workers": 5, "cycle_time": "1 ns"})
    even, slow, all_slow = (build(experiment, profile) for _ in range(3))
    slow.slowdown = np.array([1.0, 1.0, 3.0, 1.0, 1.0])
    all_slow.slowdown = np.full(5, 3.0)
    times = [run_plan(plan, seed=0).total_time_s for plan in (even, slow, all_slow)]
    assert times[1] == pytest.approx(times[2], rel=1e-6)
    assert times[1] > 2 * times[0]
    idle = run_plan(slow, seed=0).time_share["idle"]
    assert idle > 0.4  # four of five workers wait two thirds of their time


def test_the_cycle_is_the_floor_of_an_exchange(make_profile, make_experiment):
    profile = make_profile(step_s=0.0)
    experiment = make_experiment(cluster={"workers": 2, "cycle_time": "1 s", "bandwidth": "10 GB/s"}, run={"steps": 9})
    mean = simulate(experiment, profile).iteration_time_s["mean"]
    assert mean == pytest.approx(1.0, rel=0.15)  # steps far shorter than the cycle are paced by it


def test_bytes_are_those_of_the_payload(make_profile, make_experiment):
    profile = make_profile(sizes=(1000, 37, 5))
    expected = {
        "none": 4 * 1042,
        "fp16": 2 * 1042,
        "topk": sum(4 + 8 * max(1, n // 100) for n in (1000, 37, 5)),
        "randomk": sum(4 * max(1, n // 100) for n in (1000, 37, 5)),
        "sidco-e": sum(4 + 8 * round(1.25 * max(1, n // 100)) for n in (1000, 37, 5)),
    }
    for name, size in expected.items():
        experiment = make_experiment(compression={"name": name, "granularity": "layer", "density": 0.01})
        assert simulate(experiment, profile).bytes_sent_per_worker == 4 * size, name


def test_bytes_of_powersgd_are_those_of_its_factors(make_profile, make_experiment):
    """What the compressor itself hands out for tensors of these shapes."""
    shapes = ((20, 10, 5), (37,), (5, 1))
    profile = make_profile(sizes=(1000, 37, 5))
    layers = [dataclasses.replace(layer, shape=shape) for layer, shape in zip(profile.layers, shapes, strict=True)]
    experiment = make_experiment(compression={"name": "powersgd", "rank": 3, "granularity": "merged"})
    result = simulate(experiment, dataclasses.replace(profile, layers=tuple(layers)))
    assert result.bytes_sent_per_worker == 4 * 4 * (3 * (20 + 50) + 37 + 5)
    bare = [dataclasses.replace(layer, shape=()) for layer in layers]
    whole = simulate(experiment, dataclasses.replace(profile, layers=tuple(bare)))
    assert whole.bytes_sent_per_worker == 4 * 4 * 1042
    assert any("powersgd sends whole" in line for line in whole.sections["simulation"]["assumptions"])


def test_dense_first_steps_travel_dense(make_profile, make_experiment):
    profile = make_profile(sizes=(1000,))
    experiment = make_experiment(compression={"name": "topk", "dense_steps": 3}, run={"steps": 5})
    result = simulate(experiment, profile)
    assert result.bytes_sent_per_worker == 3 * 4000 + 2 * 84
    assert result.sections["simulation"]["collectives"] == ["allreduce: recursive-doubling", "allgather: bruck"]


def test_accumulation_exchanges_once(make_profile, make_experiment):
    profile = make_profile()
    one, four = (
        simulate(make_experiment(pipeline={"accumulation": a}, cluster={"cycle_time": "1 ns"}), profile) for a in (1, 4)
    )
    assert four.bytes_sent_per_worker == one.bytes_sent_per_worker
    extra = 4 * 3 * (compute_seconds(profile) + profile.data_s)
    assert four.total_time_s - one.total_time_s == pytest.approx(extra, rel=1e-4)


def test_overlap_hides_exchanges(make_profile, make_experiment):
    profile = make_profile()
    cluster = {"bandwidth": "50 Mbit/s", "cycle_time": "1 ns"}
    with_overlap, without = (
        simulate(
            make_experiment(pipeline={"overlap": o}, compression={"granularity": "layer"}, cluster=cluster), profile
        )
        for o in (True, False)
    )
    assert with_overlap.total_time_s < without.total_time_s
    ideal = with_overlap.sections["simulation"]["ideal_time_s"]
    assert with_overlap.total_time_s >= ideal


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 6),
    st.sampled_from(
        [
            {"name": "none"},
            {"name": "topk"},
            {"name": "sidco-e"},
            {"name": "topk", "exchange": "gtopk"},
            {"name": "topk", "exchange": "oktopk"},
            {"name": "bf16"},
        ]
    ),
    st.sampled_from(["layer", "merged", "model"]),
    st.floats(1e5, 1e10),
    st.floats(1.1, 10.0),
)
def test_more_of_a_good_thing_is_never_slower(make_profile, make_experiment, workers, name, grain, bandwidth, factor):
    """More bandwidth or less latency is never slower, but for the ticks that an exchange's start is rounded up to."""

    def seconds(rate, latency, density):
        experiment = make_experiment(
            compression={**name, "granularity": grain, "merge_elements": 3000},
            cluster={
                "workers": workers,
                "cycle_time": "1 ns",
                "latency": f"{latency!r} s",
                "bandwidth": f"{rate!r} B/s",
            },
        ).replace(compression={"density": density})
        return simulate(experiment, profile).total_time_s

    profile = make_profile()
    exchanges, tree = 4 * (5 if grain != "model" else 1), 3 * 1e-4
    base = seconds(bandwidth, 1e-4, 0.1) + exchanges * tree
    assert seconds(bandwidth * factor, 1e-4, 0.1) <= base
    assert seconds(bandwidth, 1e-4 / factor, 0.1) <= base


def test_crowded_hosts_stretch_compute(make_profile, make_experiment):
    profile = make_profile()
    crowded = build(make_experiment(cluster={"workers_per_host": 4, "cores_per_host": 2}), profile)
    assert crowded.stretch == 2.0
    measured = make_profile(host={"ranks": 4, "cores": 2})
    assert build(make_experiment(cluster={"workers_per_host": 4, "cores_per_host": 2}), measured).stretch == 1.0
    assert build(make_experiment(), measured).stretch == 0.5  # on hosts of their own


def test_on_the_measured_host(make_profile, make_experiment):
    profile = make_profile(host={"ranks": 4, "cores": 2}, network=NetworkFit(1e-5, 1e9, cycle_s=2e-3, call_s=1e-4))
    plan = build(make_experiment(cluster={"bandwidth": "1 Mbit/s"}), profile, host_network=True)
    assert plan.topology.hosts == 1
    assert plan.stretch == 1.0
    assert (plan.cycle.period, plan.cycle.call_s) == (2e-3, 1e-4)
    assert plan.timing.seconds("allreduce", (4e6,)) == pytest.approx(6 * (1e-5 + 1e6 / 1e9))
    with pytest.raises(UserError, match="no network of the measured host"):
        build(make_experiment(), make_profile(), host_network=True)


def test_samples_and_steps_are_the_samplers(make_profile, make_experiment):
    profile = make_profile(examples=1437)
    plan = build(make_experiment(run={"steps": 0, "epochs": 2}), profile)
    assert (plan.steps_per_epoch, plan.steps, plan.samples()) == (12, 24, 2 * 1437)
    plan = build(make_experiment(run={"steps": 13}), profile)
    assert plan.samples() == 1437 + 4 * 32
    short = plan.step(11).load
    assert (short.batches * 32).tolist() == pytest.approx([8, 7, 7, 7])  # 1437 = 360 + 3 x 359


def test_the_short_last_step_of_an_epoch_is_shorter(make_profile, make_experiment):
    experiment = make_experiment(run={"steps": 12})
    short = simulate(experiment, make_profile(examples=1437))
    whole = simulate(experiment, make_profile(examples=1536))
    saved = whole.total_time_s - short.total_time_s
    profile = make_profile()
    assert saved == pytest.approx((1 - 8 / 32) * (compute_seconds(profile) + profile.data_s), rel=0.15)


def test_a_worker_without_examples_sends_an_empty_payload(make_profile, make_experiment):
    profile = make_profile(sizes=(1000,), examples=4 * 32 + 1)  # in the second step only rank 0 has an example
    for name, sizes in (("topk", (84.0, 4.0, 4.0, 4.0)), ("none", (4000.0,))):
        experiment = make_experiment(compression={"name": name}, run={"steps": 2})
        plan = build(experiment, profile)
        assert plan.step(1).costs.ways[0].sizes == sizes
        result = simulate(experiment, profile)
        expected = 84 + (84 + 3 * 4) / 4 if name == "topk" else 8000
        assert result.bytes_sent_per_worker == expected


def test_checkpoints_cost_time_and_are_counted_apart(make_profile, make_experiment):
    profile = make_profile()
    settings = {"run": {"steps": 6}, "cluster": {"cycle_time": "1 ns", "latency": "0 s"}}
    without = simulate(make_experiment(**settings), profile)
    every_two = simulate(make_experiment(**settings, checkpoint={"every": 2}), profile)
    seconds = 2 * 4 * profile.elements * 2 / 500e6  # after steps 2 and 4: parameters and momentum of rank 0
    assert every_two.total_time_s - without.total_time_s == pytest.approx(seconds, rel=1e-3)
    assert every_two.time_share["checkpoint"] > 0


def test_a_profile_of_another_network_is_refused(make_profile, make_experiment):
    with pytest.raises(UserError, match=r"\[model\] name = 'resnet20': the profile is of 'lenet'"):
        simulate(make_experiment(), make_profile(model="lenet"))


def test_a_missing_cost_is_taken_from_the_device_and_said(make_profile, make_experiment):
    result = simulate(make_experiment(compression={"name": "topk"}), make_profile(compress={}))
    assert result.sections["simulation"]["assumptions"] == [
        "compress of 'topk' is not in the profile: taken from device 'cpu-core'"
    ]


@pytest.mark.parametrize(
    "worse",
    [
        {"hosts_per_rack": 2, "oversubscription": 8.0},
        {"hosts_per_rack": 2, "racks_per_site": 1, "site_bandwidth": "1 MB/s"},
        {"hosts_per_rack": 2, "racks_per_site": 1, "site_latency": "5 ms"},
        {"switch_bandwidth": "10 MB/s"},
        {"message_overhead": "1 ms"},
    ],
)
@pytest.mark.parametrize("name", [{"name": "none"}, {"name": "topk"}, {"name": "topk", "exchange": "oktopk"}])
def test_a_narrower_network_is_slower(make_profile, make_experiment, name, worse):
    cluster = {"workers": 8, "bandwidth": "10 MB/s", "cycle_time": "1 ns"}
    calm, narrow = (
        simulate(make_experiment(cluster={**cluster, **more}, compression={**name, "density": 0.2}), make_profile())
        for more in ({}, worse)
    )
    assert narrow.total_time_s > calm.total_time_s * (1 + 1e-6)
