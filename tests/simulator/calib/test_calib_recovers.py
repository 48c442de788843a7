"""Laws of calibration: a fit finds the constants from which a trace was written, and refuses what does not belong."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from rich.console import Console

from simulator.calibrate import calibrate, show
from simulator.exchanged import observe_exchanges
from simulator.fitting import fit_nonnegative, huber_weights, trimmed_mean
from simulator.observe import load_run
from simulator.profile import Profile
from toolkit.errors import UserError

TENSORS = (("conv.weight", 4_000), ("block.weight", 60_000), ("block.bias", 500), ("fc.weight", 20_000))


def runs_of(write_run, truth, **options):
    """Dense, top-k and SIDCo-E at several densities and numbers of workers: enough to tell every constant apart."""
    plans = [
        ("none", 0.01, 4, "layer"),
        ("none", 0.01, 2, "merged"),
        ("topk", 0.1, 4, "layer"),
        ("topk", 0.01, 4, "merged"),
        ("topk", 0.2, 2, "model"),
        ("sidco-e", 0.1, 4, "layer"),
        ("sidco-e", 0.01, 3, "merged"),
    ]
    return [
        load_run(
            write_run(
                truth,
                f"run{i}",
                cluster={"workers": workers, "cycle_time": 1e-4},
                compression={"name": name, "density": density, "granularity": grain, "merge_elements": 70_000},
                **options,
            )
        )
        for i, (name, density, workers, grain) in enumerate(plans)
    ]


def assert_constants(profile: Profile, truth, relative: float) -> None:
    forward = np.array([layer.forward_s for layer in profile.layers])
    backward = np.array([layer.backward_s for layer in profile.layers])
    assert backward == pytest.approx(truth.backward, rel=relative)
    assert forward.sum() == pytest.approx(sum(truth.forward), rel=relative)
    assert profile.data_s == pytest.approx(truth.data, rel=relative)
    assert profile.step_s == pytest.approx(truth.rest, rel=relative)
    for name in ("topk", "sidco-e"):
        found, wanted = profile.compress[name], truth.compress[name]
        for n, k in ((60_000, 600), (84_500, 8_450), (20_000, 4_000)):
            assert found.seconds(n, k) == pytest.approx(wanted[0] + wanted[1] * n + wanted[2] * k, rel=relative)
    for wire, entries in (("dense", 0), ("sparse", 30_000)):
        call, element, entry = truth.merge[wire]
        wanted = call + element * 80_000 + entry * entries
        assert profile.merge[wire].seconds(80_000, entries) == pytest.approx(wanted, rel=relative)


def test_a_fit_recovers_the_constants_of_an_exact_trace(write_run, truth):
    truth.backward = (3e-5, 9e-5, 2e-5, 2e-5)  # so fast that exchanges queue, which tells calls from cycles
    profile = calibrate(runs_of(write_run, truth, steps=80))
    assert_constants(profile, truth, relative=1e-3)
    cost, wanted = profile.compress["topk"], truth.compress["topk"]
    assert (cost.call_s, cost.element_s, cost.entry_s) == pytest.approx(wanted, rel=0.02)
    assert profile.network is not None
    for name, found, wanted in (
        ("call_s", profile.network.call_s, truth.call),
        ("coordinate_s", profile.network.coordinate_s, truth.coordinate),
        ("latency_s", profile.network.latency_s, truth.latency),
        ("seconds_per_byte", 1 / profile.network.bandwidth, 1 / truth.bandwidth),
    ):  # the phase of Horovod's cycle is random, so these are known within their errors only
        error = profile.fits["network"]["constants"][name]["standard_error"]
        assert error < 0.5 * wanted
        assert abs(found - wanted) < 4 * error + 0.02 * wanted
    assert profile.achieved["topk"] == pytest.approx(1.0)
    assert profile.achieved["sidco-e"] == pytest.approx(1.1, rel=0.03)
    assert profile.compute_cv == pytest.approx(0.0, abs=1e-6)


def test_a_fit_recovers_the_constants_through_noise(write_run, truth):
    truth.noise = 0.05
    profile = calibrate(runs_of(write_run, truth, steps=80))
    assert_constants(profile, truth, relative=0.05)
    assert 0.005 < profile.compute_cv < 0.05  # five independent stages of 5 % average out within a step


def test_the_fixed_costs_of_an_exchange_are_found_less_half_a_cycle(write_run, truth):
    run = load_run(write_run(truth, "one", steps=100, compression={"granularity": "model"}))
    network = calibrate([run]).network
    assert network is not None
    assert network.cycle_s == 1e-3
    size = sum(n for _, n in run.tensors) * 4
    found = network.call_s + network.coordinate_s + 8 * network.latency_s + 1.5 * size / network.bandwidth
    wanted = truth.call + truth.coordinate + 8 * truth.latency + 1.5 * size / truth.bandwidth
    assert found == pytest.approx(wanted, abs=1e-4)  # 100 phases of a cycle of 1 ms average to 0.5 ± 0.03 ms


def test_exchanges_behind_another_tell_what_a_cycle_costs(write_run, truth):
    truth.backward = (3e-5, 9e-5, 2e-5, 2e-5)  # all buckets are ready before the first exchange is complete
    run = load_run(write_run(truth, "burst", steps=100, compression={"granularity": "layer"}))
    exchanges = observe_exchanges(run)
    assert 0 < sum(e.queued for e in exchanges) < len(exchanges)
    network = calibrate([run]).network
    assert network is not None
    assert network.coordinate_s + 2 * network.latency_s == pytest.approx(truth.coordinate + 2 * truth.latency, abs=1e-4)


def test_bytes_in_the_observation_are_the_bytes_of_the_trace(write_run, truth):
    run = load_run(write_run(truth, "one", compression={"name": "topk", "density": 0.01}))
    elements = sum(n for _, n in run.tensors)
    assert {e.bytes for e in observe_exchanges(run)} == {(4 + 8 * int(elements * 0.01),) * 4}


def test_an_unseparable_constant_is_said_to_be_so(write_run, truth):
    run = load_run(write_run(truth, "one", compression={"name": "topk", "density": 0.01, "granularity": "model"}))
    profile = calibrate([run])
    constants = profile.fits["compress topk"]["constants"]
    assert not any(row["identified"] for row in constants.values())
    n = sum(size for _, size in run.tensors)
    call, element, entry = truth.compress["topk"]
    wanted = call + element * n + entry * int(n * 0.01)
    assert profile.compress["topk"].seconds(n, int(n * 0.01)) == pytest.approx(wanted, rel=1e-3)


def test_times_of_an_oversubscribed_host_are_brought_to_one_stretch(write_run, truth):
    slow = load_run(write_run(truth, "four", cores=2, cluster={"workers": 4}))
    assert calibrate([slow]).host["ranks"] == 4
    idle = load_run(write_run(truth, "two", cores=2, cluster={"workers": 2}))
    both = calibrate([slow, idle])
    wanted = sum(truth.backward) * (1 + 2) / 2  # the second run's times count twice: it had its cores to itself
    assert sum(layer.backward_s for layer in both.layers) == pytest.approx(wanted, rel=1e-3)


def test_a_profile_survives_the_file(write_run, truth, tmp_path):
    profile = calibrate(runs_of(write_run, truth)[:3])
    profile.save(tmp_path / "p.json")
    assert Profile.load(tmp_path / "p.json") == profile


def test_runs_of_two_batch_sizes_tell_what_a_step_costs_at_any_size(write_run, truth):
    whole = sum(truth.forward) + sum(truth.backward)
    runs = []
    for size in (32, 8, 16):
        factor = 0.3 + 0.7 * size / 32
        scaled = dataclasses.replace(
            truth,
            forward=tuple(seconds * factor for seconds in truth.forward),
            backward=tuple(seconds * factor for seconds in truth.backward),
            data=truth.data * size / 32,
        )
        runs.append(load_run(write_run(scaled, f"b{size}", data={"batch_size": size})))
    profile = calibrate([*runs, load_run(write_run(truth, "again"))])
    assert profile.batch_size == 32
    assert profile.fixed_share == pytest.approx(0.3, rel=0.01)
    assert sum(layer.forward_s + layer.backward_s for layer in profile.layers) == pytest.approx(whole, rel=1e-3)
    assert profile.data_s == pytest.approx(truth.data, rel=1e-3)


def test_a_run_on_a_busy_host_does_not_set_the_pace(write_run, truth):
    busy = dataclasses.replace(
        truth,
        forward=tuple(2 * seconds for seconds in truth.forward),
        backward=tuple(2 * seconds for seconds in truth.backward),
        compress={"topk": tuple(2 * seconds for seconds in truth.compress["topk"])},
    )
    topk = {"compression": {"name": "topk", "density": 0.1}}
    folders = [write_run(truth, "a", **topk), write_run(busy, "b", **topk), write_run(truth, "c", **topk)]
    profile = calibrate([load_run(folder) for folder in folders])
    assert profile.fits["compute"]["pace_of_runs"] == pytest.approx([1.0, 2.0, 1.0])
    assert sum(layer.backward_s for layer in profile.layers) == pytest.approx(sum(truth.backward), rel=1e-3)
    call, element, entry = truth.compress["topk"]
    n = sum(size for _, size in TENSORS)
    wanted = call + element * n + entry * int(n * 0.1)
    assert profile.compress["topk"].seconds(n, int(n * 0.1)) == pytest.approx(wanted, rel=1e-3)
    printed = io.StringIO()
    show(profile, Console(file=printed, width=200))
    assert "2.00 times as long" in printed.getvalue()


def test_spread_of_workers_is_told_apart_by_whether_they_share_cores(write_run, truth):
    truth.noise = 0.2
    alone, sharing = (load_run(write_run(truth, f"{cores}", cores=cores, steps=80)) for cores in (8, 2))
    one, two = calibrate([alone]), calibrate([sharing])
    assert (one.slice_s, two.compute_cv) == (0.0, 0.0)
    compute = sum(truth.forward) + sum(truth.backward) + truth.data
    assert two.slice_s == pytest.approx(one.compute_cv * compute, rel=0.1)
    assert 0.05 < one.compute_cv < 0.2


def test_runs_of_two_networks_are_refused(write_run, truth):
    one = load_run(write_run(truth, "one"))
    two = load_run(write_run(truth, "two", model={"name": "lenet"}))
    with pytest.raises(UserError, match=r"\[model\] name = 'lenet': 'one' has 'resnet20'"):
        calibrate([one, two])


def test_a_span_of_an_unknown_tensor_is_refused(write_run, truth):
    folder = write_run(truth, "odd")
    path = folder / "trace" / "rank0.jsonl"
    path.write_text(path.read_text().replace('"fc.weight", 0', '"gc.weight", 0'))
    with pytest.raises(UserError, match=r"'gc\.weight': the header lists no such tensor"):
        calibrate([load_run(folder)])


def test_missing_folder_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no such run folder"):
        load_run(tmp_path / "nothing")


def test_outliers_do_not_move_a_robust_fit():
    random = np.random.default_rng(3)
    n = random.uniform(1e4, 1e6, 400)
    seconds = 1e-4 + 2e-9 * n
    seconds[::20] *= 30
    fit = fit_nonnegative(np.column_stack([np.ones_like(n), n]), seconds, [1e-5, 1e-9])
    assert fit.constants == pytest.approx((1e-4, 2e-9), rel=0.02)


def test_standard_errors_cover_the_truth_and_shrink_with_observations():
    random = np.random.default_rng(5)
    errors = []
    for count in (50, 5000):
        n = random.uniform(1e4, 1e6, count)
        seconds = (1e-4 + 2e-9 * n) * (1 + random.normal(0, 0.05, count))
        fit = fit_nonnegative(np.column_stack([np.ones_like(n), n]), seconds, [1e-5, 1e-9])
        assert abs(fit.constants[1] - 2e-9) < 4 * fit.errors[1]
        errors.append(fit.errors[1])
    assert errors[1] < errors[0] / 5


def test_constants_are_never_negative():
    n = np.linspace(1, 10, 20)
    fit = fit_nonnegative(np.column_stack([np.ones_like(n), n]), 5.0 - 0.1 * n, [1.0, 1.0])
    assert min(fit.constants) >= 0


def test_weights_and_trimmed_mean_drop_accidents_only():
    assert huber_weights(np.zeros(5)).tolist() == [1.0] * 5
    values = np.concatenate([np.ones(98), [1e6, -1e6]])
    assert trimmed_mean(values) == 1.0
    with pytest.raises(ValueError, match="non-zero length"):
        fit_nonnegative(np.zeros((0, 1)), np.zeros(0), [1.0])
