"""All but small vectors are compressed in one pass: the same payloads as pass by pass, whatever a prediction misses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import cext
from toolkit.compression import Compressor, Context, SparsePayload, create, dgc, predict, sidco
from toolkit.compression.passes import KernelPasses, Prediction
from toolkit.compression.rooms import FORGOTTEN, MOST, Rooms, standing_zeros
from toolkit.experiment import CompressionSection
from toolkit.registry import COMPRESSORS, resolve

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
NAMES = (
    "sidco-e",
    "sidco-p",
    "sidco-gp",
    "dgc",
    "redsync",
    "redsync-trimmed",
    "gaussiank",
    "threshold-v",
    "thresholdv16",
)


def sample(data: str, seed: int) -> torch.Tensor:
    return torch.from_numpy(DATA[data](np.random.default_rng(seed)).astype(np.float32))


def make(name: str, **keys: object) -> Compressor:
    return create(CompressionSection(name=name, **keys), N)  # type: ignore[arg-type]


def predict_from(monkeypatch: pytest.MonkeyPatch, elements: int) -> None:
    for name in NAMES:
        monkeypatch.setattr(resolve(COMPRESSORS[name].target), "predict_from", elements)


def bits(x: torch.Tensor) -> bytes:
    return (x + 0.0).numpy().tobytes()


def sent_alike(
    one: Compressor,
    many: Compressor,
    residuals: tuple[torch.Tensor, torch.Tensor],
    gradient: torch.Tensor,
    context: Context,
    switch: Callable[[int], None],
) -> SparsePayload:
    """What `one` sends in one pass, and `many` pass by pass, with the same bits left behind; switch(n): one pass is for
    vectors of n elements and more.
    """
    switch(1)
    a = one.select_feedback(gradient, residuals[0], context)
    switch(10**9)
    b = many.select_feedback(gradient, residuals[1], context)
    assert isinstance(a, SparsePayload)
    assert isinstance(b, SparsePayload)
    assert torch.equal(a.indices, b.indices)
    assert a.values.numpy().tobytes() == b.values.numpy().tobytes()
    assert bits(residuals[0]) == bits(residuals[1])
    return a


def assert_alike(one: dict[str, float], many: dict[str, float]) -> None:
    """Equal; an estimated threshold up to its last bits, since the sums of one pass and of many differ by rounding, and
    every stage rounds to float32 again.
    """
    one, many = dict(one), dict(many)
    threshold, other = one.pop("threshold", 0.0), many.pop("threshold", 0.0)
    np.testing.assert_equal(one, many)
    np.testing.assert_allclose(threshold, other, rtol=2.0**-20)


@pytest.mark.parametrize("data", list(DATA))
@pytest.mark.parametrize("name", NAMES)
def test_the_same_payloads_as_pass_by_pass(name: str, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    threads, predict = 2 if data in ("laplace", "nan") else 1, partial(predict_from, monkeypatch)
    for density in (0.1, 0.001):
        one, many = make(name, threads=threads), make(name, threads=threads)
        r_one, r_many = torch.zeros(N), torch.zeros(N)
        for step in range(12):
            gradient, context = sample(data, step), Context("bucket", step, density)
            before = r_one.clone()
            sent = sent_alike(one, many, (r_one, r_many), gradient, context, predict)
            assert_alike(one.telemetry, many.telemetry)
            if bool((before + gradient).isfinite().all()):
                assert bits(sent.dense() + r_one) == bits(before + gradient)


def test_thresholdv16_goes_by_its_threshold_as_long_as_that_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sample once a threshold is there; where gradients jump, the same payloads as of a scan of all blocks."""
    sampled: list[int] = []
    honest = KernelPasses.sample
    monkeypatch.setattr(KernelPasses, "sample", lambda self, *given: sampled.append(step) or honest(self, *given))
    predict = partial(predict_from, monkeypatch)
    scales = [1.0] * 30 + [100.0] * 3 + [1e-3] * 8 + [0.0, 1e-3, 1e4, 1.0, 1.0]
    for data in ("normal", "two scales"):
        one, many = make("thresholdv16", threads=2), make("thresholdv16")
        r_one, r_many = torch.zeros(N), torch.zeros(N)
        sampled.clear()
        for step, scale in enumerate(scales):
            gradient, context = scale * sample(data, step), Context("bucket", step, 0.02)
            sent_alike(one, many, (r_one, r_many), gradient, context, predict)
            assert one.state_dict() == many.state_dict()
        assert 0 in sampled
        assert len([step for step in sampled if step < 30]) <= 4, sampled


@pytest.mark.parametrize("density", [0.02, 0.2])
def test_threshold_v_takes_candidates_near_its_threshold(density: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pass by pass only where it must; where gradients jump or tails are heavy, the same payloads and state."""
    predict, passed = partial(predict_from, monkeypatch), list[int]()
    honest = KernelPasses.topk

    def topk(self: KernelPasses, x: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        if x.data_ptr() == residuals[0].data_ptr():
            passed.append(step)
        return honest(self, x, k)

    monkeypatch.setattr(KernelPasses, "topk", topk)
    scales = [1.0] * 40 + [100.0] * 3 + [1e-3] * 8 + [0.0, 1e-3, 1e4, 1.0, 1.0, math.nan, 1.0, 1.0]
    for data in ("normal", "two scales", "student"):
        one, many = make("threshold-v", threads=2), make("threshold-v")
        residuals = torch.zeros(N), torch.zeros(N)
        passed.clear()
        for step, scale in enumerate(scales):
            gradient, context = scale * sample(data, step), Context("bucket", step, density)
            sent_alike(one, many, residuals, gradient, context, predict)
            assert one.state_dict() == many.state_dict()
            if step == 57:
                residuals[0].zero_(), residuals[1].zero_()
        assert 0 in passed
        assert len([step for step in passed if 1 <= step < 40]) <= 4, (data, passed)


@pytest.mark.parametrize("data", list(DATA))
def test_dgc_predicts_the_threshold_of_its_strided_sample(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large vectors are not strided through: what the strided sample would say is found among the candidates."""
    predict_from(monkeypatch, 1)

    def sample_candidates(elements: int) -> None:
        monkeypatch.setattr(dgc.DGC, "sampled_from", elements)

    for density in (0.03, 0.002):
        one, many = make("dgc", threads=2), make("dgc")
        r_one, r_many = torch.zeros(N), torch.zeros(N)
        for step in range(8):
            gradient, context = sample(data, step), Context("bucket", step, density)
            sent_alike(one, many, (r_one, r_many), gradient, context, sample_candidates)
            assert one.telemetry == many.telemetry


def test_dgc_strides_through_a_large_vector_only_where_a_prediction_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dgc.DGC, "predict_from", 1)
    monkeypatch.setattr(dgc.DGC, "sampled_from", 1)
    strided: list[int] = []
    honest = KernelPasses.sample_strided
    monkeypatch.setattr(
        KernelPasses, "sample_strided", lambda self, *given: strided.append(step) or honest(self, *given)
    )
    compressor, residual = make("dgc"), torch.zeros(N)
    for step in range(60):
        compressor.select_feedback(sample("normal", step), residual, Context("bucket", step, 0.02))
    assert len(strided) <= 3, f"in {strided}"


@pytest.mark.parametrize("data", ["laplace", "normal", "student", "mostly zero"])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("dgc", "redsync-trimmed")])
def test_predictions_mostly_hit(name: str, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the steady state of error feedback few calls pass over the whole vector a second time.

    (So short a vector gives DGC too small a sample for its own bounds; trimmed RedSync may look far below the k-th.)
    """
    predict_from(monkeypatch, 1)
    more_passes: set[int] = set()

    def watch(pass_name: str) -> None:
        honest = getattr(KernelPasses, pass_name)

        def counted(self: KernelPasses, *arguments: object) -> object:
            if any(isinstance(a, torch.Tensor) and a.data_ptr() == residual.data_ptr() for a in arguments[:2]):
                more_passes.add(step)
            return honest(self, *arguments)

        monkeypatch.setattr(KernelPasses, pass_name, counted)

    for pass_name in ("tail_moments", "above", "topk", "moments", "moments_feedback"):
        watch(pass_name)
    section = {"stages": 3} if name.startswith("sidco") else {}
    compressor, residual = make(name, **section), torch.zeros(N)
    for step in range(60):
        compressor.select_feedback(sample(data, step), residual, Context("bucket", step, 0.02))
    late = {step for step in more_passes if step >= 10}
    assert len(late) <= 8, f"{len(late)} of 50 calls missed"


@pytest.mark.parametrize("wrong", ["brackets", "low", "room", "inside"])
@pytest.mark.parametrize("name", ["sidco-e", "gaussiank", "redsync", "dgc"])
def test_a_prediction_that_misses_changes_nothing(name: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    predict_from(monkeypatch, 1)
    monkeypatch.setattr(dgc.DGC, "sampled_from", 1)
    keys = {"stages": 3} if name == "sidco-e" else {}
    honest = type(make(name))._predict  # type: ignore[attr-defined]

    def misled(*arguments: object) -> Prediction | None:
        told = honest(*arguments)
        assert told is not None
        return {
            "brackets": replace(told, brackets=((1e-6, 2e-6), (3e-6, 4e-6))),
            "low": replace(told, low=3 * told.low, zero_above=9 * told.low),
            "room": replace(told, room=10),
            "inside": replace(told, inside=0),
        }[wrong]

    gradient = sample("laplace", 1)
    r_misled, r_plain = torch.ones(N), torch.ones(N)
    with monkeypatch.context() as patched:
        patched.setattr(type(make(name)), "_predict", misled)
        a = make(name, **keys).select_feedback(gradient, r_misled, Context("bucket", 0, 0.01))
    predict_from(monkeypatch, 10**9)
    b = make(name, **keys).select_feedback(gradient, r_plain, Context("bucket", 0, 0.01))
    assert bits(a.dense()) == bits(b.dense())
    assert bits(r_misled) == bits(r_plain)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["sidco-e", "sidco-p", "sidco-gp"])
def test_sidco_mostly_settles_in_one_call(
    name: str, kind: torch.dtype, settled: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    predict_from(monkeypatch, 1)
    compressor, residual = make(name, stages=3), torch.zeros(N, dtype=kind)
    for step in range(40):
        compressor.select_feedback(sample("laplace", step), residual, Context("bucket", step, 0.02))
    assert len(settled) >= 38
    assert sum(settled) >= 35, f"{sum(settled)} of {len(settled)}"


@pytest.mark.parametrize("scale", [1e-24, 1e-20, 1e17, 1e20])
@pytest.mark.parametrize("name", ["sidco-p", "sidco-gp", "gaussiank"])
def test_scales_whose_squares_leave_float32(name: str, scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"stages": 3} if name.startswith("sidco") else {}
    gradient, context = sample("laplace", 1) * scale, Context("bucket", 0, 0.01)
    sent = []
    for elements in (1, 10**9):
        predict_from(monkeypatch, elements)
        payload = make(name, **keys).select_feedback(gradient, torch.zeros(N), context)
        assert isinstance(payload, SparsePayload)
        sent.append(payload.indices)
    assert torch.equal(*sent)


def test_nothing_is_predicted_from_too_little() -> None:
    passes = KernelPasses(1)
    stages = predict.stages_of([(sidco.fits.exponential, 0.25), (sidco.fits.exponential, 0.004)])
    few = torch.randn(32, generator=torch.Generator().manual_seed(0))
    assert predict.predict_stages(passes, few[:5], stages, N, cext.SUM_ABS) is None
    assert predict.predict_stages(passes, few, stages, N, cext.SUM_ABS) is None
    assert predict.predict_stages(passes, torch.zeros(4096), stages, N, cext.SUM_ABS) is None
    assert predict.predict_stages(passes, torch.full((4096,), math.nan), stages, N, cext.SUM_ABS) is None
    assert predict.predict_count(passes, torch.zeros(4096), N, 10, 10, cext.SUM_ABS) is None
    rare = few.repeat(128) * (torch.arange(4096) % 3 == 0)
    rare[1000:1032] = 1e5  # one group says all else: the bracket reaches down to zero
    assert predict.predict_stages(passes, rare, stages[:1], N, cext.SUM_ABS) is None


def test_payloads_in_flight_are_not_written_to() -> None:
    """Room is taken again, but only when nobody holds a payload or a view of it any more."""
    compressor, residual, generator = make("topk"), torch.zeros(N), torch.Generator().manual_seed(0)
    held = []
    for step in range(12):
        gradient = torch.randn(N, generator=generator)
        payload = compressor.select_feedback(gradient, residual, Context("bucket", step, 0.01))
        assert isinstance(payload, SparsePayload)
        views = (payload.indices[3:], payload.values.numpy())
        held.append((views, views[0].clone(), views[1].copy()))
        held = held[-5:]
        for (indices, values), old_indices, old_values in held:
            assert torch.equal(indices, old_indices)
            assert np.array_equal(values, old_values)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("elements", [0, 1, 33, 1_000_003])
def test_standing_buffers_begin_at_a_cache_line(elements: int, kind: torch.dtype) -> None:
    buffer = standing_zeros(elements, kind)
    assert buffer.shape == (elements,)
    assert buffer.dtype == kind
    assert not buffer.any()
    assert elements == 0 or buffer.data_ptr() % 64 == 0


def test_requests_of_the_same_sizes_get_the_same_memory_in_any_order() -> None:
    rooms = Rooms(np.float32)
    places = {size: rooms.array(size).ctypes.data for size in (70_000, 300, 9000, 1_000_000)}
    assert len(set(places.values())) == 4
    for size in (9000, 1_000_000, 300, 70_000, 300):
        assert rooms.array(size).ctypes.data == places[size]


def test_memory_that_nobody_asks_for_any_more_is_let_go() -> None:
    rooms = Rooms(np.float32)
    rooms.array(1_000_000)
    for count in range(FORGOTTEN + 2):
        rooms.array(10 + count)
    in_use = [rooms.array(3000 * 2**n) for n in range(3)]
    assert max(buffer.size for buffer in rooms._buffers) < 1_000_000
    assert len(in_use) == 3


def test_where_all_memory_is_in_use_but_one_the_idle_makes_room() -> None:
    rooms = Rooms(np.float32)
    rooms.array(4_000_000)
    in_use = [rooms.array(3000 * 2**n) for n in range(MOST - 1)]
    address = rooms.array(5_000_000).ctypes.data
    assert len(in_use) == MOST - 1
    assert rooms.array(5_000_000).ctypes.data == address
    assert max(buffer.size for buffer in rooms._buffers) > 5_000_000


def test_room_is_taken_again() -> None:
    rooms = Rooms(np.float32)
    first = rooms.array(1000)
    address = first.ctypes.data
    view = torch.from_numpy(first)[10:]
    del first
    assert rooms.array(1000).ctypes.data != address, "a view is alive"
    del view
    assert rooms.array(900).ctypes.data == address
