"""Where thresholds move evenly the calls before predict the next one: fewer samples, the same payloads."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import cext
from toolkit.compression import Compressor, Context, SparsePayload, create
from toolkit.compression.passes import KernelPasses
from toolkit.compression.sidco import Sidco
from toolkit.compression.steady import ERRORS, MOST, MOVES, Steady
from toolkit.experiment import CompressionSection

N = 1_300_000  # enough for a prediction to pay
DENSITY = 0.02
NAMES = ("sidco-e", "sidco-p", "sidco-gp")
KIND = (0.01, 2)
CALLS = MOVES + 1 + ERRORS  # of one kind that are looked at


def noise(step: int, scale: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(step).standard_normal(N, dtype=np.float32) * np.float32(scale))


def make(name: str) -> Compressor:
    return create(CompressionSection(name=name, stages=3, threads=2), N)


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every sample that is taken."""
    taken: list[int] = []
    honest = KernelPasses.sample

    def counted(self: KernelPasses, *given: Any) -> torch.Tensor:
        taken.append(1)
        return honest(self, *given)

    monkeypatch.setattr(KernelPasses, "sample", counted)
    return taken


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_taken_only_where_thresholds_jump(name: str, sampled: list[int]) -> None:
    compressor, residual, samples = make(name), torch.zeros(N), []
    for step in range(60):
        before = len(sampled)
        compressor.select_feedback(noise(step, 3.0 if step >= 34 else 1.0), residual, Context("b", step, DENSITY))
        samples.append(len(sampled) - before)
    assert sum(samples[:CALLS]) == CALLS
    assert sum(samples[26:34]) <= 2, "thresholds grow evenly"
    assert sum(samples[35:40]) >= 4, "the gradient is three times what it was"
    assert sum(samples[56:]) <= 2


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_the_same_payloads_as_pass_by_pass_and_no_loss(
    name: str, kind: torch.dtype, sampled: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a residual in bfloat16 may differ in what a miss has rounded: only the law holds for them."""
    one, many = make(name), make(name)
    r_one, r_many = torch.zeros(N, dtype=kind), torch.zeros(N, dtype=kind)
    for step in range(30):
        gradient, context = noise(step, 2.0 if step == 28 else 1.0), Context("b", step, DENSITY)
        total = r_one.float() + gradient
        monkeypatch.setattr(Sidco, "predict_from", 1)
        a = one.select_feedback(gradient, r_one, context)
        assert isinstance(a, SparsePayload)
        if kind == torch.bfloat16:
            places = a.indices.long()
            assert not r_one[places].any()
            assert torch.equal(a.values, total[places]) or step == 28
            assert bool(((a.dense() + r_one.float() - total).abs() <= total.abs() * 2.0**-7).all())
            continue
        monkeypatch.setattr(Sidco, "predict_from", 10**9)
        monkeypatch.setattr(Sidco, "_is_small", lambda self, vector: False)
        b = many.select_feedback(gradient, r_many, context)
        assert isinstance(b, SparsePayload)
        assert torch.equal(a.indices, b.indices)
        assert torch.equal(a.values, b.values)
        assert torch.equal(r_one, r_many)
        assert torch.equal(a.dense() + r_one, total)
    assert len(sampled) < 28


def test_room_that_was_short_is_made_at_the_next_call(settled: list[bool]) -> None:
    """Thresholds that stood still and then tremble: wider brackets hold more than ever lay in them."""
    compressor, gradient, rng = make("sidco-e"), noise(0), np.random.default_rng(1)
    scales = [1.0] * 30 + [1.003] + [float(1.0 + 0.0015 * sign) for sign in rng.choice([-1, 1], 40)]
    for step, scale in enumerate(scales):
        compressor.select_feedback(gradient * scale, torch.zeros(N), Context("b", step, DENSITY))
    late = settled[32:]
    assert len(late) == 39
    assert sum(late) >= 36, f"{sum(late)} of {len(late)}"


@pytest.mark.parametrize("stages", [17, 18, 32])
def test_as_many_stages_as_an_experiment_may_ask_for(stages: int) -> None:
    compressor = create(CompressionSection(name="sidco-e", stages=stages, threads=2), N)
    residual = torch.zeros(N)
    for step in range(CALLS + 3):
        gradient = noise(step % 2)
        total = residual + gradient
        payload = compressor.select_feedback(gradient, residual, Context("b", step, 1e-4))
        assert isinstance(payload, SparsePayload)
        assert torch.equal(payload.dense() + residual, total)
        assert compressor.telemetry["stages"] == stages


@pytest.mark.parametrize("odd", ["nan", "infinite", "zeros", "select"])
def test_odd_calls_in_between(odd: str) -> None:
    compressor, residual = make("sidco-gp"), torch.zeros(N)
    for step in range(CALLS + 8):
        gradient, context = noise(step), Context("b", step, DENSITY)
        if step % (CALLS + 4) == CALLS + 3:
            if odd == "select":
                compressor.select(gradient, context)
            elif odd == "zeros":
                compressor.select_feedback(torch.zeros(N), torch.zeros(N), context)
            else:
                gradient[77] = math.nan if odd == "nan" else math.inf
        total = residual + gradient
        payload = compressor.select_feedback(gradient, residual, context)
        assert isinstance(payload, SparsePayload)
        assert torch.equal((payload.dense() + residual).nan_to_num(), total.nan_to_num())


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_compressor_predicts_the_same(name: str) -> None:
    through, residual = make(name), torch.zeros(N)
    for step in range(24):
        through.select_feedback(noise(step), residual, Context("b", step, DENSITY))
    resumed, again = make(name), residual.clone()
    resumed.load_state_dict(json.loads(json.dumps(through.state_dict())))
    for step in range(24, 28):
        payloads = [
            each.select_feedback(noise(step), left, Context("b", step, DENSITY))
            for each, left in ((through, residual), (resumed, again))
        ]
        assert torch.equal(payloads[0].dense(), payloads[1].dense())
        assert torch.equal(residual, again)
        assert through.telemetry == resumed.telemetry
        assert through.state_dict() == resumed.state_dict()


def steady(thresholds: list[list[float]], sent: int = 1000) -> Steady:
    told = Steady()
    for each in thresholds:
        told.note((0.01, len(each)), each, sent, 500)
    return told


def test_thresholds_that_grow_evenly_are_followed() -> None:
    told = steady([[1.01**step, 3 * 1.01**step] for step in range(CALLS)]).predict(KIND, 10**6, cext.SUM_ABS)
    assert told is not None
    ((low, high),) = told.brackets
    assert low < 1.01**CALLS < high
    assert told.low < 3 * 1.01**CALLS
    assert told.zero_above == pytest.approx(3 * 1.01**CALLS)
    assert high - low < 0.001


def test_nothing_is_said_of_calls_of_another_kind_or_after_an_odd_one() -> None:
    settled = [[1.0, 2.0]] * CALLS
    assert steady(settled).predict(KIND, 10**6, cext.SUM_ABS) is not None
    assert steady(settled[1:]).predict(KIND, 10**6, cext.SUM_ABS) is None
    assert steady(settled).predict((0.02, 2), 10**6, cext.SUM_ABS) is None
    assert steady(settled).predict((0.01, 3), 10**6, cext.SUM_ABS) is None
    assert steady([*settled, [1.0]]).predict(KIND, 10**6, cext.SUM_ABS) is None
    assert steady([*settled, [1.5, 3.0]]).predict(KIND, 10**6, cext.SUM_ABS) is None
    assert steady([[1.0, 1.0001]] * CALLS).predict(KIND, 10**6, cext.SUM_ABS) is None, "one bracket"
    for odd in ((0, [1.0, 2.0]), (5, [1.0]), (0, [math.nan]), (5, [0.0, 1.0])):
        told = steady(settled)
        told.note(KIND, odd[1], odd[0])
        assert told.predict(KIND, 10**6, cext.SUM_ABS) is None
        told.note(KIND, [1.0, 2.0], 1000)
        assert told.predict(KIND, 10**6, cext.SUM_ABS) is None


@given(
    st.lists(st.floats(0.2, 5.0), min_size=1, max_size=4),
    st.lists(st.floats(-0.004, 0.004), min_size=CALLS, max_size=30),
    st.integers(1, 10**6),
)
def test_a_prediction_is_one_that_a_pass_takes(steps: list[float], moves: list[float], sent: int) -> None:
    thresholds = [float(each) for each in np.cumsum(steps)]
    scales = np.cumprod([1.0 + move for move in moves])
    told = steady([[float(np.float32(t * scale)) for t in thresholds] for scale in scales], sent)
    found = told.predict((0.01, len(thresholds)), 10**7, cext.SUM_ABS)
    if found is None:
        return
    bounds = [*found.brackets, (found.low, found.zero_above)]
    assert all(0.0 < low < high for low, high in bounds)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(bounds))
    assert all(high - low <= 2.1 * MOST * high for low, high in bounds)
    assert found.room >= sent
