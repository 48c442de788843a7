"""Laws of every schedule, held on its own log: order, residency, memory, bytes, time."""

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.offload.calibration import DEVICE, MODEL
from simulator.offload.case import Case
from simulator.offload.job import Settings
from simulator.offload.machine import load_machine
from simulator.offload.methods import METHODS

MACHINE = load_machine(DEVICE)
ROUNDING = 1e-9


@st.composite
def cases(draw, methods=tuple(METHODS)):
    """Any method on machines that are faster or slower anywhere, with memory enough."""
    method = draw(st.sampled_from(methods))
    faster = {
        name: getattr(MACHINE, name) * draw(st.sampled_from([0.1, 1.0, 10.0]))
        for name in ("flops", "to_device", "to_host", "host_memory_bandwidth", "disk_read", "disk_write")
    }
    machine = MACHINE.replace(**faster, memory=1e12, host_memory=1e13, disk=1e13)
    layers = draw(st.integers(1, 10))
    disk = method in ("zero-infinity", "stronghold") and draw(st.booleans())
    window = draw(st.integers(1, 12)) if method == "stronghold" else 0
    chosen = Settings(
        method,
        window,
        threads=draw(st.integers(1, 4)),
        fused=draw(st.booleans()),
        disk=disk,
        clipped=draw(st.booleans()),
    )
    return Case(MODEL.deep(layers), machine, chosen)


@settings(deadline=None, max_examples=80)
@given(cases())
def test_every_schedule_does_all_the_work_in_order(case):
    run, layers = case.run(), case.model.layers
    done = Counter((entry.what, entry.layer) for entry in run.log)
    for layer in range(layers):
        assert all(done[what, layer] == 1 for what in ("forward", "recompute", "backward", "update")), done
    assert done["update", layers] == 1
    at = {(entry.what, entry.layer): entry for entry in run.log}
    for i in range(1, layers):
        assert at["forward", i - 1].end <= at["forward", i].start
        assert at["backward", i].end <= at["recompute", i - 1].start
    for i in range(layers):
        assert at["recompute", i].end <= at["backward", i].start
        assert at["backward", i].end <= at["update", i].start + ROUNDING


@settings(deadline=None, max_examples=80)
@given(cases())
def test_time_is_at_least_what_each_resource_worked_and_runs_repeat(case):
    run, again = case.run(), case.run()
    assert all(run.seconds >= busy * (1 - ROUNDING) for busy in run.busy.values())
    assert max(entry.end for entry in run.log) <= run.seconds * (1 + ROUNDING)
    assert (run.seconds, run.log) == (again.seconds, again.log)
    for where in ("compute", "to device", "to host", "disk"):  # one piece of work at a time
        spans = sorted((e.start, e.end) for e in run.log if e.where == where)
        assert all(before[1] <= after[0] + ROUNDING for before, after in itertools.pairwise(spans))
    assert run.seconds <= sum(run.busy.values()) + case.release.gap_s * (case.model.layers + 1) + ROUNDING


@settings(deadline=None, max_examples=80)
@given(cases())
def test_device_memory_never_exceeds_the_footprint_nor_the_budget(case):
    run = case.run()
    assert run.peak["device"] <= case.footprint.total("device") * (1 + ROUNDING)
    assert run.peak["device"] <= case.budget["device"]
    tight = case.replace(
        machine=case.machine.replace(memory=case.footprint.total("device") + case.machine.reserved + 1)
    )
    assert tight.run().seconds == run.seconds


@settings(deadline=None, max_examples=60)
@given(cases(methods=("stronghold",)))
def test_no_layer_computes_while_it_is_not_resident(case):
    window, layers = min(case.settings.window, case.model.layers), case.model.layers
    arrived = {i: [0.0] for i in range(window)}
    left = {}
    for entry in case.run().log:  # in order of their ends
        if entry.what == "fetch" and entry.where == "to device":
            arrived.setdefault(entry.layer, []).append(entry.end)
        elif entry.what == "write back":
            left.setdefault(entry.layer, []).append(entry.start)
        elif entry.where == "compute" and entry.layer < layers and entry.what != "update":
            came = [time for time in arrived.get(entry.layer, []) if time <= entry.start + ROUNDING]
            assert came, f"{entry} before its fetch"
            gone = [time for time in left.get(entry.layer, []) if max(came) < time < entry.end - ROUNDING]
            assert not gone, f"{entry} after its buffer was given away"


@settings(deadline=None, max_examples=60)
@given(cases(methods=("stronghold",)))
def test_the_window_s_rule_and_its_bytes(case):
    run, layers = case.run(), case.model.layers
    window = min(case.settings.window, layers)
    at = {(entry.where, entry.what, entry.layer): entry for entry in run.log}
    for i in () if case.settings.clipped else range(window, layers):
        assert at["cpu", "update", i].end <= at["compute", "backward", i - window].start + ROUNDING
    for i in range(window):
        assert ("compute", "update", i) in at
    if case.settings.clipped:
        updates = [entry.start for entry in run.log if entry.what == "update"]
        assert min(updates) >= at["compute", "backward", 0].end - ROUNDING
    weights, beyond = case.model.layer_bytes, layers - window
    moved = Counter()
    for entry in run.log:
        moved[entry.where] += entry.bytes
    back = 0 if case.settings.disk else weights * beyond  # after forward a disk has its own copy
    assert moved["to device"] == pytest.approx(2 * weights * beyond)
    assert moved["to host"] == pytest.approx(back + 2 * weights * beyond)
    disk = (2 * weights + 2 * 2 * weights + weights) * beyond  # two fetches, moments there and back, weights back
    assert moved["disk"] == pytest.approx(disk if case.settings.disk else 0.0)


@pytest.mark.parametrize(
    ("method", "device", "host"),  # parameters moved, of all
    [("megatron-lm", 0, 0), ("zero-offload", 1, 1), ("zero-infinity", 2, 1)],
)
def test_bytes_of_the_others(make_case, method, device, host):
    case = make_case(method, 7)
    moved = Counter()
    for entry in case.run().log:
        moved[entry.where] += entry.bytes
    whole = 4.0 * case.model.parameters
    assert moved["to device"] == pytest.approx(device * whole)
    assert moved["to host"] == pytest.approx(host * whole)


def test_bytes_of_l2l(make_case):
    case = make_case("l2l", 7)
    moved = Counter()
    for entry in case.run().log:
        moved[entry.where] += entry.bytes
    layers = 7 * case.model.layer_bytes
    assert moved["to device"] == pytest.approx(2 * layers)
    assert moved["to host"] == pytest.approx(2 * layers + 4.0 * case.model.parameters)
