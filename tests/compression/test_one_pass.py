"""Large vectors are compressed in one pass by prediction: the same payloads as pass by pass, misses included."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from toolkit.compression import Compressor, Context, SparsePayload, create, sidco, sparse
from toolkit.compression.passes import KernelPasses, Prediction
from toolkit.experiment import CompressionSection

N = 60_000
DATA = {
    "laplace": lambda rng: rng.laplace(size=N),
    "normal": lambda rng: rng.standard_normal(N),
    "student": lambda rng: rng.standard_t(3, size=N),
    "mostly zero": lambda rng: rng.standard_normal(N) * (rng.random(N) < 0.4),
    "two scales": lambda rng: rng.standard_normal(N) * np.where(np.arange(N) < N // 4, 100.0, 1.0),
    "few values": lambda rng: rng.integers(-3, 4, N),
    "zeros": lambda rng: np.zeros(N),
    "equal": lambda rng: np.full(N, 0.25),
    "rare": lambda rng: np.where(np.arange(N) % 7001 == 5, 3.0, 0.0),
    "nan": lambda rng: np.where(np.arange(N) == 777, np.nan, rng.standard_normal(N)),
    "infinite": lambda rng: np.where(np.arange(N) == 777, -np.inf, rng.standard_normal(N)),
}
NAMES = ("sidco-e", "sidco-p", "sidco-gp", "dgc", "redsync", "redsync-trimmed", "gaussiank")


def sample(data: str, seed: int) -> torch.Tensor:
    return torch.from_numpy(DATA[data](np.random.default_rng(seed)).astype(np.float32))


def make(name: str, **keys: object) -> Compressor:
    return create(CompressionSection(name=name, **keys), N)  # type: ignore[arg-type]


def predict_from(monkeypatch: pytest.MonkeyPatch, elements: int) -> None:
    monkeypatch.setattr(sparse, "PREDICT_FROM", elements)
    monkeypatch.setattr(sidco, "PREDICT_FROM", elements)


def bits(x: torch.Tensor) -> bytes:
    return (x + 0.0).numpy().tobytes()


@pytest.mark.parametrize("data", list(DATA))
@pytest.mark.parametrize("name", NAMES)
def test_the_same_payloads_as_pass_by_pass(name: str, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = 2 if data in ("laplace", "nan") else 1
    for density in (0.1, 0.001):
        one, many = make(name, threads=threads), make(name, threads=threads)
        r_one, r_many = torch.zeros(N), torch.zeros(N)
        for step in range(12):
            gradient, context = sample(data, step), Context("bucket", step, density)
            before = r_one.clone()
            predict_from(monkeypatch, 1)
            a = one.select_feedback(gradient, r_one, context)
            predict_from(monkeypatch, 10**9)
            b = many.select_feedback(gradient, r_many, context)
            assert isinstance(a, SparsePayload)
            assert isinstance(b, SparsePayload)
            assert torch.equal(a.indices, b.indices)
            assert a.values.numpy().tobytes() == b.values.numpy().tobytes()
            assert bits(r_one) == bits(r_many)
            np.testing.assert_equal(one.telemetry, many.telemetry)
            if bool((before + gradient).isfinite().all()):
                assert bits(a.dense() + r_one) == bits(before + gradient)


@pytest.mark.parametrize("data", ["laplace", "normal", "student", "mostly zero"])
@pytest.mark.parametrize("name", ["sidco-e", "sidco-p", "sidco-gp"])
def test_predictions_mostly_hit(name: str, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few calls fall back to passes over the whole vector; each one that does still conserves everything."""
    predict_from(monkeypatch, 1)
    monkeypatch.setattr(sidco, "LINES", 1024)
    passes = 0
    honest = KernelPasses.tail_moments

    def counted(self: KernelPasses, x: torch.Tensor, threshold: float) -> tuple[int, float, float]:
        nonlocal passes
        passes += x.data_ptr() == residual.data_ptr()
        return honest(self, x, threshold)

    monkeypatch.setattr(KernelPasses, "tail_moments", counted)
    compressor, residual = make(name, stages=3), torch.zeros(N)
    for step in range(60):
        compressor.select_feedback(sample(data, step), residual, Context("bucket", step, 0.01))
    assert passes <= 12, f"{passes // 2} of 60 calls missed"


@pytest.mark.parametrize("wrong", ["brackets", "low", "room"])
def test_a_prediction_that_misses_changes_nothing(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    predict_from(monkeypatch, 1)
    honest = sidco.predict

    def misled(*arguments: object) -> Prediction | None:
        told = honest(*arguments)  # type: ignore[arg-type]
        assert told is not None
        return {
            "brackets": Prediction(told.low, told.zero_above, told.room, ((1e-6, 2e-6), (3e-6, 4e-6)), told.inside),
            "low": Prediction(3 * told.low, 9 * told.low, told.room, told.brackets, told.inside),
            "room": Prediction(told.low, told.zero_above, 10, told.brackets, told.inside),
        }[wrong]

    gradient = sample("laplace", 1)
    r_misled, r_plain = torch.ones(N), torch.ones(N)
    monkeypatch.setattr(sidco, "predict", misled)
    a = make("sidco-e", stages=3).select_feedback(gradient, r_misled, Context("bucket", 0, 0.01))
    predict_from(monkeypatch, 10**9)
    b = make("sidco-e", stages=3).select_feedback(gradient, r_plain, Context("bucket", 0, 0.01))
    assert bits(a.dense()) == bits(b.dense())
    assert bits(r_misled) == bits(r_plain)


def test_nothing_is_predicted_from_too_little() -> None:
    passes, plan = KernelPasses(1), [(sidco.fits.exponential, 0.25), (sidco.fits.exponential, 0.004)]
    few = torch.randn(32, generator=torch.Generator().manual_seed(0))
    assert sidco.predict(passes, few[:5], plan, N, False) is None
    assert sidco.predict(passes, few, plan, N, False) is None
    assert sidco.predict(passes, torch.zeros(4096), plan, N, False) is None
    assert sidco.predict(passes, torch.full((4096,), math.nan), plan, N, False) is None
