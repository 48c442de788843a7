"""What each method keeps where: the logged bytes of 32 layers, counted bytes by hand, what was settled beside them."""

import dataclasses

import pytest

from simulator.offload import calibration
from simulator.offload.calibration import MIB
from simulator.offload.case import Case
from simulator.offload.machine import HOST_SHARE, HOST_USED, load_machine
from simulator.offload.memory import CPU_ADAM, SETTLED
from simulator.offload.search import largest

P = calibration.MODEL.parameters
LAYER = 12 * 2048**2 + 13 * 2048  # parameters


@pytest.mark.parametrize(
    ("method", "reserved"),
    [
        ("megatron-lm", calibration.MEGATRON_RESERVED),
        ("l2l", calibration.L2L_RESERVED),
        ("zero-offload", calibration.ZERO_OFFLOAD_RESERVED),
    ],
)
def test_32_layers_fill_the_device_as_logged(make_case, method, reserved):
    footprint = make_case(method).footprint
    assert footprint.total("device") == pytest.approx(reserved * MIB, rel=1e-9)
    kept = footprint.device["kept by the allocator"]
    assert make_case(method, 64).footprint.device["kept by the allocator"] == pytest.approx(2 * kept)


@pytest.mark.parametrize(
    ("method", "layers", "logged"),  # most MiB reserved, in the artifact's logs of other sizes: held out
    [("l2l", 78, 31392.0), ("zero-offload", 48, 29776.0)],
)
def test_what_the_allocator_keeps_of_other_sizes_is_met(make_case, method, layers, logged):
    assert make_case(method, layers).footprint.total("device") == pytest.approx(logged * MIB, rel=0.035)


@pytest.mark.parametrize(("method", "each"), [("l2l", 16), ("zero-offload", 16), ("zero-infinity", 24)])
def test_counted_bytes_a_parameter_of_the_host(make_case, method, each):
    host = make_case(method, counted=True).footprint.host
    assert sum(size for name, size in host.items() if name != "Adam's buffers") == each * P
    settled = make_case(method).footprint.total("host") - sum(host.values())
    assert settled == pytest.approx(SETTLED.get(method, 0.0) * P)


def test_stronghold_on_the_host_by_hand(make_case):
    host = make_case("stronghold", 100, 4).footprint.total("host")
    assert host == 8 * LAYER * (2 * 100 - 4) + CPU_ADAM


def test_bf16_keeps_fp32_weights_for_the_update(make_case):
    case = make_case("zero-infinity", counted=True)
    half = Case(dataclasses.replace(case.model, value_bytes=2), case.machine, case.settings)
    assert half.footprint.total("host") == 20 * P  # 2 + 2, and 16 in fp32


def test_counted_memory_has_all_of_the_host_that_is_free(make_case):
    machine = load_machine(calibration.DEVICE)
    free = machine.host_memory - HOST_USED
    assert make_case("zero-infinity", counted=True).budget["host"] == free
    assert make_case("zero-infinity").budget["host"] == free * HOST_SHARE
    assert machine.replace(host_memory=1.0).budget()["host"] == 0.0


@pytest.mark.parametrize(("method", "published"), [("megatron-lm", 32), ("l2l", 78), ("zero-offload", 48)])
def test_nothing_settled_bounds_what_is_called_held_out(make_case, method, published):
    case = make_case(method)
    assert largest(case) == largest(case.replace(counted=True))
    assert case.replace(layers=largest(case) + 1).over == "device"
    assert abs(largest(case) - published) <= 4


def test_a_published_run_is_timed_even_where_its_memory_is_predicted_to_end_before(make_case):
    case = make_case("l2l", 78)
    assert case.over == "device"
    assert case.run(anyway=True).seconds > make_case("l2l", 76).run().seconds
