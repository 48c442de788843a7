"""Momentum correction and local clipping: DGC's steps before the residual."""

from __future__ import annotations

import math

import pytest
import torch

from toolkit.compression import Compressor, Context, SparsePayload, create
from toolkit.errors import UserError
from toolkit.experiment import CompressionSection, load

N = 500


def make(name: str = "topk", **keys: object) -> Compressor:
    return create(CompressionSection(name=name, **keys), N)  # type: ignore[arg-type]


def gradients(steps: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(N, generator=generator) for _ in range(steps)]


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("way", ["dense steps", "no compression"])
def test_sending_everything_is_sgd_with_momentum_bit_for_bit(nesterov: bool, way: str) -> None:
    compressor = make("topk" if way == "dense steps" else "none", momentum=0.9, nesterov=nesterov)
    parameter = torch.nn.Parameter(torch.zeros(N))
    ours = torch.zeros(N)
    sgd = torch.optim.SGD([parameter], lr=0.1, momentum=0.9, nesterov=nesterov)
    for step, gradient in enumerate(gradients(20)):
        parameter.grad = gradient.clone()
        sgd.step()
        context = Context("bucket", step, 1.0)
        if way == "dense steps":
            payload = compressor.everything(gradient.clone(), torch.zeros(N), context)
        else:
            payload = compressor.select(gradient, context)
        ours.add_(payload.dense(), alpha=-0.1)
    # torch takes g + m·u for Nesterov, DGC u' + g with u' = m·(u + g): the same numbers, rounded elsewhere.
    torch.testing.assert_close(ours, parameter.data, rtol=1e-5 if nesterov else 0.0, atol=1e-6 if nesterov else 0.0)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("name", ["topk", "sidco-e", "dgc", "randomk"])
def test_payload_and_residual_make_up_what_the_residual_took(name: str, nesterov: bool) -> None:
    compressor = make(name, momentum=0.9, nesterov=nesterov)
    residual, velocity = torch.zeros(N), torch.zeros(N)
    for step, gradient in enumerate(gradients(20)):
        before = residual.clone()
        payload = compressor.select_feedback(gradient, residual, Context("bucket", step, 0.05))
        assert isinstance(payload, SparsePayload)
        velocity = (velocity + gradient) * 0.9 if nesterov else velocity * 0.9 + gradient
        taken = velocity + gradient if nesterov else velocity
        assert torch.equal(payload.dense() + residual, before + taken)
        velocity[payload.indices.long()] = 0.0  # the masking
        assert torch.equal(compressor.state_dict()["velocity"], velocity)
        assert compressor.telemetry["selected"] == payload.indices.numel()


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("name", ["none", "fp16", "topk", "randomk", "powersgd", "thresholdv16"])
@pytest.mark.parametrize("way", ["select", "select_feedback", "everything"])
def test_payloads_stay_as_they_are_while_momentum_goes_on(name: str, way: str, nesterov: bool) -> None:
    compressor, residual = make(name, momentum=0.9, nesterov=nesterov, clip_norm=3.0), torch.zeros(N)
    sent = []
    for step, gradient in enumerate(gradients(6)):
        before, context = gradient.clone(), Context("bucket", step, 0.1)
        call = getattr(compressor, way)
        payload = call(gradient, context) if way == "select" else call(gradient, residual, context)
        assert way == "everything" or torch.equal(gradient, before)
        values = payload.vector if name == "powersgd" and way == "select" else payload.dense()
        sent.append((payload, values, values.clone()))
    assert all(torch.equal(values, copy) for _, values, copy in sent)


def test_momentum_without_masking_loses_nothing_over_time() -> None:
    """A constant gradient at one coordinate arrives with its momentum: 1 + 1.9 + … as plain momentum would give it."""
    compressor, residual = make(momentum=0.9), torch.zeros(N)
    gradient = torch.zeros(N)
    gradient[7], gradient[9] = 1.0, 1e-3
    arrived = torch.zeros(N)
    for step in range(10):
        arrived += compressor.select_feedback(gradient, residual, Context("bucket", step, 0.002)).dense()
    total = sum(sum(0.9**j for j in range(i + 1)) for i in range(10)) * 1e-3
    assert float(arrived[9] + residual[9]) == pytest.approx(total, rel=1e-5)
    assert float(arrived[7]) == pytest.approx(10.0), "sent every step, so its velocity starts anew every step"


@pytest.mark.parametrize("workers", [1, 4, 16])
def test_clipping_keeps_the_direction_and_bounds_the_norm(workers: int) -> None:
    compressor = make("none", clip_norm=2.0)
    limit = 2.0 / math.sqrt(workers)
    for factor in (1e-3, 0.05, 1.0, 1e6):
        gradient = gradients(1)[0] * factor
        before = gradient.clone()
        sent = compressor.select(gradient, Context("bucket", 0, 0.5, workers=workers)).dense()
        assert torch.equal(gradient, before)
        assert float(sent.norm()) <= limit * (1 + 1e-6)
        if float(before.norm()) <= limit:
            assert torch.equal(sent, before)
        else:
            torch.testing.assert_close(sent, before * (limit / before.norm()))
    assert bool(compressor.select(torch.full((N,), math.inf), Context("b", 0, 1.0)).dense().isinf().all())


def test_clipping_comes_before_the_momentum_and_the_residual() -> None:
    compressor, residual = make(momentum=0.5, clip_norm=1.0), torch.zeros(N)
    gradient = gradients(1)[0] * 100.0
    payload = compressor.select_feedback(gradient, residual, Context("bucket", 0, 0.01))
    assert float((payload.dense() + residual).norm()) == pytest.approx(1.0)
    payload = compressor.everything(torch.zeros(N), residual, Context("bucket", 1, 1.0))
    assert not bool(residual.any())
    assert float(payload.dense().norm()) <= 1.5


def test_state_goes_on_alike() -> None:
    first, second = (make("sidco-e", momentum=0.9, clip_norm=5.0) for _ in range(2))
    residual = torch.zeros(N)
    steps = gradients(30)
    for step in range(12):
        first.select_feedback(steps[step], residual, Context("bucket", step, 0.01))
    second.load_state_dict(first.state_dict())
    other = residual.clone()
    for step in range(12, 30):
        context = Context("bucket", step, 0.01)
        a = first.select_feedback(steps[step], residual, context)
        b = second.select_feedback(steps[step], other, context)
        assert torch.equal(a.dense(), b.dense())
        assert torch.equal(residual, other)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["compression.momentum=0.9"], "would be applied twice"),
        (["compression.momentum=0.9", "optimizer.momentum=0", "optimizer.name=adam"], "would be applied twice"),
        (["compression.momentum=0.9", "optimizer.momentum=0", "compression.error_feedback=false"], "error_feedback"),
        (["compression.nesterov=true"], "momentum > 0"),
        (["compression.momentum=1.5", "optimizer.momentum=0"], "<= 1"),
    ],
)
def test_what_makes_no_sense_together_is_refused(tmp_path, settings: list[str], words: str) -> None:
    path = tmp_path / "e.toml"
    path.write_text('[compression]\nname = "dgc"\n')
    with pytest.raises(UserError) as error:
        load(path, settings)
    assert words in str(error.value)
    assert str(path) in str(error.value)
