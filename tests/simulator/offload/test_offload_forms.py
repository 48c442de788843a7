"""Closed forms and comparisons: what a schedule must come to where it can be worked out on paper."""

import dataclasses

import pytest

from simulator.offload import calibration
from simulator.offload.case import Case, fit_update
from simulator.offload.machine import load_machine
from simulator.offload.search import by_policy, chosen, fastest, largest, windows
from simulator.offload.tiers import Tiers
from toolkit.errors import UserError


@pytest.mark.parametrize("layers", [1, 2, 7, 16])
def test_a_window_of_all_layers_is_in_memory_training(make_case, layers):
    inside = make_case("megatron-lm", layers).run()
    for window in (layers, layers + 5):
        run = make_case("stronghold", layers, window).run()
        assert run.seconds == pytest.approx(inside.seconds, rel=1e-12)
        assert "cpu" not in run.busy
        assert "to device" not in run.busy


@pytest.mark.parametrize("layers", [2, 5, 20])
def test_a_window_of_one_layer_takes_its_closed_form(make_case, layers):
    """Each layer waits for the write-back before it, then its gradients for the update before it, latencies bare."""
    case = make_case("stronghold", layers, 1)
    job, machine = case.job, case.machine
    forward, out = job.forward_s, job.bytes_of(0) / machine.to_host
    fetch, update = job.bytes_of(0) / machine.to_device, 2 * out + job.cpu_s(0)
    assert fetch <= min(forward, out + forward)  # hidden behind the layer before
    assert forward <= update  # so is the recomputation
    passing = layers * forward + (layers - 1) * out
    back = forward + 2 * forward * layers + (layers - 1) * update
    ends = 3 * job.head_s + job.device_s(0) + job.device_s(layers)
    assert case.run().seconds == pytest.approx(passing + back + ends, rel=1e-12)


def test_in_memory_and_zero_offload_are_sums(make_case):
    case = make_case("megatron-lm", 9)
    flops = case.model.forward_flops + case.model.backward_flops
    wanted = flops / case.machine.flops + case.model.parameters * calibration.device_update_s()
    assert case.run().seconds == pytest.approx(wanted, rel=1e-12)
    case = make_case("zero-offload", 9)
    moved = 4 * case.model.parameters * (1 / case.machine.to_host + 1 / case.machine.to_device)
    wanted = flops / case.machine.flops / case.release.speed + moved + case.model.parameters * case.release.update_s
    assert case.run().seconds == pytest.approx(wanted, rel=1e-12)


def test_a_free_link_and_cpu_leave_the_compute(make_case):
    case = make_case("stronghold", 12, 2)
    free = case.machine.replace(to_device=1e18, to_host=1e18, host_memory_bandwidth=1e30)
    on_device = case.replace(window=12).run().seconds - 10 * case.job.device_s(0)  # ten layers are updated elsewhere
    assert case.replace(machine=free).run().seconds == pytest.approx(on_device, rel=1e-6)


def test_a_faster_part_never_makes_an_iteration_slower_on_the_published_machine(make_case):
    for method, window in (("stronghold", 4), ("stronghold", 15), ("zero-infinity", 0), ("l2l", 0)):
        case = make_case(method, 24, window)
        before = case.run().seconds
        for name in ("flops", "to_device", "to_host", "host_memory_bandwidth"):
            faster = case.machine.replace(**{name: 2 * getattr(case.machine, name)})
            assert case.replace(machine=faster).run().seconds <= before * (1 + 1e-9), (method, name)


def test_a_wider_window_never_needs_less_of_the_device_nor_more_of_the_host(make_case):
    footprints = [make_case("stronghold", 40, window).footprint for window in range(1, 41)]
    device = [footprint.total("device") for footprint in footprints]
    host = [footprint.total("host") for footprint in footprints]
    assert device == sorted(device)
    assert host == sorted(host, reverse=True)


def test_processor_sharing_is_fair_and_conserves_work():
    tiers = Tiers(load_machine("v100-32g"), {"device": 1.0, "host": 1.0}, 1)

    def jobs():
        yield tiers.all_of([tiers.start(late(0.0, 1.0)), tiers.start(late(0.5, 1.0)), tiers.start(late(0.5, 0.25))])

    def late(start, seconds):
        yield tiers.clock.timeout(start)
        yield from tiers.cpu.run("update", int(seconds * 100), seconds)

    assert tiers.run(jobs()) == pytest.approx(2.25)
    ends = {entry.layer: entry.end for entry in tiers.log if entry.start == 0.5}
    assert ends[25] == pytest.approx(0.5 + 3 * 0.25)  # three share until the short one is done
    assert tiers.busy()["cpu"] == pytest.approx(2.25)


def test_jobs_end_however_late_the_clock_is():
    tiers = Tiers(load_machine("v100-32g"), {"device": 1.0, "host": 1.0}, 1)

    def jobs():
        yield tiers.clock.timeout(1e9)  # where a float's last bit is 0.1 us
        yield tiers.all_of([tiers.start(tiers.cpu.run("update", i, 1e-8 * (i + 1))) for i in range(5)])

    assert tiers.run(jobs()) == pytest.approx(1e9)
    assert len(tiers.log) == 5


def test_memory_refuses_what_it_does_not_hold():
    tiers = Tiers(load_machine("v100-32g"), {"device": 10.0, "host": 1.0}, 1)
    tiers.device.take(9.0)
    with pytest.raises(AssertionError, match="device: 11 of 10 bytes"):
        tiers.device.take(2.0)


def test_constants_are_derived_from_the_logged_runs(make_case):
    machine = load_machine(calibration.DEVICE)
    assert fit_update() == pytest.approx(calibration.STRONGHOLD_UPDATE_S, rel=1e-3)
    assert machine.flops == pytest.approx(calibration.compute_rate(), rel=1e-3)
    assert machine.to_device == pytest.approx(calibration.to_device_rate(), rel=1e-3)
    assert machine.to_host == pytest.approx(calibration.to_host_rate(), rel=1e-3)
    assert machine.host_memory_bandwidth == calibration.HOST_BANDWIDTH
    for name, logged in calibration.LOGGED.items():
        if "," not in name:
            assert make_case(name).run().seconds == pytest.approx(logged.total, rel=3e-3), name


def test_model_sizes_are_the_published_ones():
    model = calibration.MODEL
    assert (model.layer_parameters, model.other_parameters) == (50_358_272, 105_123_840)
    assert model.parameters == 1_716_588_544  # what the artifact logs
    assert model.layer_flops == pytest.approx(4.467e11, rel=1e-3)
    assert model.head_flops == pytest.approx(8.44e11, rel=1e-3)
    assert model.checkpoint_bytes == 32 * 2**20
    assert dataclasses.replace(model, value_bytes=2).layer_bytes == model.layer_bytes / 2


def test_what_does_not_fit_says_which_tier_and_what_is_in_it(make_case):
    case = make_case("megatron-lm", 60)
    assert case.over == "device"
    with pytest.raises(UserError, match=r"megatron-lm, 60 layers: out of memory on the device: .*moments"):
        case.run()
    assert make_case("stronghold", 200, 4).over == "host"
    with pytest.raises(UserError, match="window = 0"):
        make_case("stronghold", 32, 0).run()


def test_searches_agree_with_trying_everything(make_case):
    case = make_case("stronghold", 40)
    fitting = [w for w in range(1, 41) if not case.replace(window=w).over]
    assert windows(case) == fitting
    times = {w: case.replace(window=w).run().seconds for w in fitting}
    best = fastest(case)
    assert best is not None
    assert times[best.settings.window] == pytest.approx(min(times.values()))
    for method in ("megatron-lm", "l2l", "zero-offload", "zero-infinity"):
        deepest = largest(make_case(method))
        assert not make_case(method, deepest).over
        assert make_case(method, deepest + 1).over
    deepest = largest(case)
    assert windows(case.replace(layers=deepest))
    assert not windows(case.replace(layers=deepest + 1))
    assert chosen(case) == best
    assert chosen(make_case("stronghold", 40, 3)).settings.window == 3
    assert chosen(make_case("l2l", 40)).settings.window == 0
    with pytest.raises(UserError, match="out of memory"):
        chosen(make_case("stronghold", 400)).run()
    choice = by_policy(case)
    assert choice is not None
    assert choice.unmet == ("rate of updating",)
    tiny = case.machine.replace(memory=2 * 2**30)
    assert largest(case.replace(machine=tiny)) == 0
    assert fastest(case.replace(machine=tiny)) is None
    assert by_policy(case.replace(machine=tiny)) is None


def test_bf16_halves_what_moves_and_keeps_fp32_weights_beside_the_moments(make_case):
    case = make_case("stronghold", 20, 4, disk=True)
    half = Case(dataclasses.replace(case.model, value_bytes=2), case.machine, case.settings)
    moved = [
        {where: sum(e.bytes for e in c.run().log if e.where == where) for where in ("to host", "disk")}
        for c in (case, half)
    ]
    beyond = 16 * case.model.layer_parameters
    assert moved[1]["to host"] == pytest.approx(moved[0]["to host"] / 2)
    assert moved[0]["disk"] == pytest.approx((4 + 4 + 8 + 12) * beyond)  # two fetches, moments, weights with moments
    assert moved[1]["disk"] == pytest.approx((2 + 2 + 12 + 14) * beyond)
    inside = make_case("megatron-lm", 20)
    assert inside.footprint.device["moments"] == 8 * case.model.parameters
    inside = Case(half.model, case.machine, inside.settings)
    assert inside.footprint.device["moments"] == 12 * case.model.parameters
    assert inside.footprint.device["weights and gradients"] == 4 * case.model.parameters


@pytest.mark.parametrize(
    ("method", "layers", "window", "logged"),  # most MiB allocated after ten iterations, in the artifact's logs
    [
        ("stronghold", 32, 2, 7472.6),
        ("stronghold", 32, 8, 15124.7),
        ("stronghold", 16, 15, 16917.9),
        ("stronghold", 48, 15, 23737.3),
        ("stronghold", 92, 15, 25545.4),
        ("stronghold", 100, 4, 12178.0),
        ("l2l", 78, 0, 21094.3),
    ],
)
def test_device_memory_of_other_logged_runs_is_met_or_a_little_more(make_case, method, layers, window, logged):
    device = make_case(method, layers, window).footprint.device
    predicted = sum(size for name, size in device.items() if name != "kept by the allocator") / calibration.MIB
    assert 0.995 * logged < predicted < 1.16 * logged


def test_exact_clipping_costs_the_overlap(make_case):
    """The CPU's updates follow the last gradient; in memory, and for a method that updates last, nothing is lost."""
    free, clipped = (make_case("stronghold", 30, 10, clipped=clip) for clip in (False, True))
    after = 20 * clipped.job.cpu_s(0)
    before = 30 * 4 * clipped.job.forward_s + 3 * clipped.job.head_s
    run = clipped.run()
    assert before + after <= run.seconds <= (before + after) * 1.05
    assert free.run().seconds < 0.85 * run.seconds
    for method, window in (("stronghold", 30), ("zero-offload", 0), ("megatron-lm", 0)):
        one, other = (make_case(method, 30, window, clipped=clip).run().seconds for clip in (False, True))
        assert one == pytest.approx(other, rel=1e-12)
