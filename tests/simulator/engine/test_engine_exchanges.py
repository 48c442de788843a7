"""Every exchange travels as what it is: the trainer's bytes, its rounds, and who carries it when."""

import numpy as np
import pytest

from simulator.job import run_plan, simulate
from simulator.plan import build
from simulator.profile import Layer
from toolkit.policies.bypass import Bypass

N = 20_000


def ways(make_profile, make_experiment, workers=4, **compression):
    experiment = make_experiment(cluster={"workers": workers}, compression={"granularity": "layer", **compression})
    return build(experiment, make_profile(sizes=(N,))).step(1).costs.ways[0]


@pytest.mark.parametrize(
    ("settings", "kind", "sent"),
    [
        ({"name": "bf16"}, "allgather", 2 * N),
        ({"name": "fp16"}, "allreduce", 2 * N),
        ({"name": "randomk"}, "allreduce", 4 * 200),
        ({"name": "randomk", "wire_values": "bf16"}, "allgather", 2 * 200),
        ({"name": "topk"}, "allgather", 4 + 8 * 200),
        ({"name": "topk", "wire_values": "bf16"}, "allgather", 4 + 6 * 200),
        ({"name": "topk", "exchange": "gtopk"}, "gtopk", 2 * (4 + 8 * 200)),
        ({"name": "topk", "exchange": "gtopk", "wire_values": "bf16"}, "gtopk", 2 * (4 + 6 * 200)),
        ({"name": "topk", "density": 0.9, "bypass": "auto"}, "allreduce", 4 * N),
    ],
)
def test_what_a_worker_sends(make_profile, make_experiment, settings, kind, sent):
    way = ways(make_profile, make_experiment, **settings)
    assert (way.kind, way.sent.tolist()) == (kind, [sent] * 4)


def test_gtopk_beyond_a_power_of_two(make_profile, make_experiment):
    """Ranks 4 and 5 hand their lists to 0 and 1 and get the result from them: toolkit/exchange/gtopk.py."""
    list_bytes = 4 + 8 * 200
    way = ways(make_profile, make_experiment, workers=6, name="topk", exchange="gtopk")
    assert way.sent.tolist() == [3 * list_bytes] * 2 + [2 * list_bytes] * 2 + [list_bytes] * 2


@pytest.mark.parametrize("workers", [2, 4, 7, 16])
def test_oktopk_sends_less_than_its_bound(make_profile, make_experiment, workers):
    k = N // 10
    way = ways(make_profile, make_experiment, workers=workers, name="topk", exchange="oktopk", density=0.1)
    told = (workers - 1) * 4 * (workers + 1 + 128)
    assert (way.sent - told <= 4 * 6 * k * (workers - 1) / workers).all()
    assert (way.sent >= 2 * 8 * k * (workers - 1) / workers).all()


def test_powersgd_sends_its_factors_in_two_rounds(make_profile, make_experiment):
    layers = (Layer("weight", 5000, 1e-3, 2e-3, (50, 100)), Layer("bias", 50, 1e-4, 2e-4, (50,)))
    experiment = make_experiment(compression={"name": "powersgd", "rank": 3, "granularity": "model"})
    way = build(experiment, make_profile(layers=layers)).step(1).costs.ways[0]
    assert (way.sizes, way.again) == ((4.0 * (3 * 50 + 50),), (4.0 * 3 * 100,))
    assert way.sent.tolist() == [4 * (3 * 150 + 50)] * 4


def test_delta_indices_are_shorter_than_whole_ones(make_profile, make_experiment):
    sizes = [
        ways(make_profile, make_experiment, name="topk", density=d, wire_indices="delta").payload
        for d in (0.1, 0.01, 0.001)
    ]
    for size, density in zip(sizes, (0.1, 0.01, 0.001), strict=True):
        k = int(N * density)
        assert 8 + 5 * k <= size < 4 + 7 * k
    assert sizes == sorted(sizes, reverse=True)


def test_the_same_policy_bypasses(make_profile, make_experiment):
    """Small and large buckets of one model: some travel whole, as toolkit.policies.bypass decides."""
    experiment = make_experiment(
        cluster={"workers": 8, "latency": "1 ms"},
        compression={"name": "topk", "density": 0.05, "granularity": "layer", "bypass": "auto", "exchange": "gtopk"},
    )
    sizes = (300, 400_000, 20, 900_000)
    plan = build(experiment, make_profile(sizes=sizes))
    bypass = Bypass.of(experiment)
    whole = [bypass.dense(n, 0.05) for n in reversed(sizes)]
    assert [way.kind == "allreduce" for way in plan.step(1).costs.ways] == whole
    assert plan.contended == (len(set(whole)) == 2)


def test_lists_that_workers_carry_begin_when_the_last_one_waits(make_profile, make_experiment):
    """gTop-k hides nothing behind backward: a step is the slowest worker's compute, then bucket after bucket."""
    profile = make_profile(sizes=(3000, 4000))
    experiment = make_experiment(
        cluster={"workers": 4}, compression={"name": "topk", "exchange": "gtopk", "granularity": "layer"}
    )
    plan = build(experiment, profile)
    plan.slowdown = np.array([1.0, 1.0, 2.0, 1.0])
    costs = plan.step(1).costs
    exchanges = sum(plan.timing.seconds(way.kind, way.sizes) for way in costs.ways)
    busy = plan.step_s + plan.data_s + 2 * (plan.forward_s + plan.backward_s) + float(costs.compress.sum())
    expected = busy + exchanges + float(costs.merge.sum()) + costs.optimize
    for engine in ("fast", "events", "flows"):
        result = run_plan(plan, 1, engine=engine)
        assert result.iteration_time_s["mean"] == pytest.approx(expected, rel=1e-9)
    assert result.sections["simulation"]["collectives"] == ["gtopk: pairs"]


def test_the_second_round_of_powersgd_begins_in_the_wait(make_profile, make_experiment):
    layers = (Layer("weight", 5000, 1e-3, 2e-3, (50, 100)),)
    experiment = make_experiment(
        cluster={"workers": 2, "cycle_time": "1 ns", "latency": "0 s"},
        compression={"name": "powersgd", "granularity": "model"},
        run={"steps": 3},
    )
    plan = build(experiment, make_profile(layers=layers))
    step = plan.step(1)
    assert step.again[0] == pytest.approx(2 * 4 * 100 * 4 / 2 / 125e6 + 0.0)
    busy = plan.step_s + plan.data_s + plan.forward_s + plan.backward_s + float(step.costs.compress.sum())
    expected = busy + step.seconds[0] + step.again[0] + float(step.costs.merge.sum()) + step.costs.optimize
    assert run_plan(plan, 1).iteration_time_s["mean"] == pytest.approx(expected, rel=1e-5)


def test_bytes_of_a_result_are_what_the_workers_hand_to_the_network(make_profile, make_experiment):
    for workers in (3, 4):
        experiment = make_experiment(
            cluster={"workers": workers}, compression={"name": "topk", "exchange": "gtopk"}, run={"steps": 5}
        )
        plan, spans = build(experiment, make_profile(sizes=(N,))), []
        result = simulate(experiment, make_profile(sizes=(N,)), sink=spans.append)
        assert result.bytes_sent_per_worker == round(5 * plan.step(0).costs.sent.mean())
        launched = [span.bytes for span in spans if span.what == "communicate"]
        assert sum(launched) == 5 * plan.step(0).costs.sent.sum()
