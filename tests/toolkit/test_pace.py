"""Paced compute takes the device's time and no more, whatever a sleep or the work in between costs."""

import numpy as np
import pytest
import torch

from toolkit import pace as paces
from toolkit.errors import UserError
from toolkit.experiment import parse
from toolkit.models import build
from toolkit.models.describe import STANDARD
from toolkit.pace import PacedCompute
from toolkit.policies.devices import layer_times, load_device


class Clock:
    """A clock that only sleeping and the reducer's own work move; sleeps end late."""

    def __init__(self, late):
        self.now, self.late = 100.0, late

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        assert seconds > 0
        self.now += seconds + self.late


class Reducer:
    """Parameters in backward order; each arrival takes `work` seconds."""

    def __init__(self, clock, tensors, work=0.0):
        self.clock, self.work, self.seen = clock, work, []
        self.rows = [(name, torch.nn.Parameter(torch.zeros(size))) for name, size in reversed(tensors)]

    def in_backward_order(self):
        for name, parameter in self.rows:
            parameter.grad = torch.zeros_like(parameter)
            yield name, parameter, self.arrived

    def arrived(self, parameter):
        self.seen.append(parameter.grad.clone())
        self.clock.now += self.work


def experiment(**sections):
    document = {"model": {"name": "lenet"}, "data": {"name": "mnist", "batch_size": 16}, "run": {"compute": "paced"}}
    return parse(document | sections, "x")


def tensors():
    with torch.device("meta"):
        network = build(experiment().model, STANDARD["lenet"])
    return [(name, p.numel()) for name, p in network.named_parameters()]


@pytest.mark.parametrize(("late", "work"), [(0.0, 0.0), (3e-4, 0.0), (3e-4, 2e-3)])
def test_a_step_takes_the_devices_time_and_the_real_work(monkeypatch, late, work):
    clock = Clock(late)
    monkeypatch.setattr(paces, "time", clock)
    pace = PacedCompute(experiment(), tensors(), rank=0)
    rows = layer_times("lenet", 16, load_device("cpu-core"))
    began = clock.now
    pace.forward(0, 16)
    forward = clock.now - began
    assert forward == pytest.approx(sum(row.forward_s for row in rows), abs=late + 1e-9)
    began = clock.now
    pace.backward(Reducer(clock, tensors(), work), 0, 16)
    expected = sum(row.backward_s for row in rows) + work * len(rows)
    # a sleep's lateness is taken from the next one: it does not add up over the tensors
    assert clock.now - began == pytest.approx(expected, abs=late + paces.SHORTEST_SLEEP_S)
    assert pace.report()["late_s"] <= late + 1e-9


def test_fewer_examples_and_slow_workers_scale_the_time(monkeypatch):
    clock = Clock(0.0)
    monkeypatch.setattr(paces, "time", clock)
    slow = experiment(faults={"slow_worker": [{"worker": 1, "factor": 3.0, "from_step": 2}]})
    times = {}
    for rank, step, examples in ((0, 2, 16), (1, 1, 16), (1, 2, 16), (0, 0, 4)):
        began = clock.now
        PacedCompute(slow, tensors(), rank).forward(step, examples)
        times[rank, step, examples] = clock.now - began
    whole = times[0, 2, 16]
    assert times[1, 1, 16] == pytest.approx(whole)
    assert times[1, 2, 16] == pytest.approx(3 * whole)
    assert times[0, 0, 4] == pytest.approx(whole / 4)


def test_gradients_are_fresh_a_step_and_a_rank_and_repeat(monkeypatch):
    clock = Clock(0.0)
    monkeypatch.setattr(paces, "time", clock)

    def gradients(rank, step):
        reducer = Reducer(clock, tensors())
        PacedCompute(experiment(), tensors(), rank).backward(reducer, step, 16)
        return torch.cat(reducer.seen).numpy()

    one = gradients(0, 0)
    assert np.array_equal(one, gradients(0, 0))
    for other in (gradients(0, 1), gradients(1, 0)):
        assert np.abs(np.corrcoef(one, other)[0, 1]) < 0.1
    # double exponential: the mean magnitude is the scale, the deviation is sqrt(2) of it
    assert np.abs(one).mean() == pytest.approx(paces.GRADIENT_SCALE, rel=0.05)
    assert one.std() == pytest.approx(2**0.5 * paces.GRADIENT_SCALE, rel=0.05)


def test_a_network_without_its_table_is_refused():
    with pytest.raises(UserError, match=r"lenet\.csv has no tensor 'other'"):
        PacedCompute(experiment(), [("other", 5)], 0)
    with pytest.raises(UserError, match=r"\[cluster\] device"):
        PacedCompute(experiment(cluster={"device": "abacus"}), tensors(), 0)


def test_real_compute_needs_none_of_this():
    assert PacedCompute.of(parse({}, "x"), [("a", 1)], 0) is None
