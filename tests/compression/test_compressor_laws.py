"""What holds for every compressor of the registry, whatever the vector."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.compression import Compressor, Context, DensePayload, LinearPayload, Payload, SparsePayload, create
from toolkit.compression.base import Compressor as Base
from toolkit.compression.base import wanted_count
from toolkit.experiment import CompressionSection
from toolkit.registry import COMPRESSORS

NAMES = sorted(COMPRESSORS)
SPARSE = [name for name in NAMES if COMPRESSORS[name].wire == "sparse" or name == "randomk"]  # payloads with indices
MANY = settings(deadline=None, max_examples=60)

floats = st.floats(-1e6, 1e6, width=32)
densities = st.sampled_from([1e-6, 0.001, 0.01, 0.1, 0.25, 0.5, 1.0])


@st.composite
def problems(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, float]:
    """A gradient and an old residual of one size from 1 to 200, of some awkward kind, and a density."""
    n = draw(st.sampled_from([1, 2, 3, 7, 15, 16, 17, 31, 33, 97, 200]))
    kind = draw(st.sampled_from(["any", "normal", "ties", "equal", "zeros", "sparse", "tiny"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    both = {
        "any": lambda: np.array(draw(st.lists(floats, min_size=2 * n, max_size=2 * n))),
        "normal": lambda: rng.standard_normal(2 * n),
        "ties": lambda: rng.integers(-2, 3, 2 * n),
        "equal": lambda: np.full(2 * n, draw(floats)),
        "zeros": lambda: np.zeros(2 * n),
        "sparse": lambda: rng.standard_normal(2 * n) * (rng.random(2 * n) < 0.1),
        "tiny": lambda: rng.standard_normal(2 * n) * 1e-42,
    }[kind]()
    gradient, residual = torch.from_numpy(both.astype(np.float32)).split(n)
    return gradient.clone(), residual.clone(), draw(densities)


def make(name: str, elements: int, **keys: object) -> Compressor:
    return create(CompressionSection(name=name, **keys), elements)  # type: ignore[arg-type]


def sent(payload: Payload, residual: torch.Tensor) -> torch.Tensor:
    """What a payload carries, with all its rounds made alone, and what it still owes the residual settled."""
    carried = payload.dense()
    if isinstance(payload, LinearPayload):
        payload.settle(residual)
    return carried


def bits(x: torch.Tensor) -> bytes:
    return (x + 0.0).numpy().tobytes()  # + 0.0 makes -0.0 and 0.0 the same


def test_every_entry_is_there_and_says_the_truth_about_its_payload() -> None:
    x = torch.randn(500, generator=torch.Generator().manual_seed(1))
    for name, entry in COMPRESSORS.items():
        payload = make(name, 500, threshold=0.5).select(x, Context("bucket", 0, 0.1))
        if entry.wire == "dense":
            assert isinstance(payload, DensePayload)
            assert payload.values.element_size() == entry.value_bytes
            assert payload.bytes == 500 * entry.value_bytes
        elif entry.wire == "linear":
            assert isinstance(payload, LinearPayload)
            assert payload.bytes == 4 * (50 if entry.exact_count else 500)
        else:
            assert isinstance(payload, SparsePayload)
            assert payload.bytes == 4 + 8 * payload.indices.numel()
            if entry.exact_count:
                assert payload.indices.numel() == 50


@pytest.mark.parametrize("name", NAMES)
@MANY
@given(problem=problems())
def test_payload_and_residual_make_up_gradient_and_old_residual_exactly(name: str, problem) -> None:
    gradient, residual, density = problem
    before, compensated = gradient.clone(), gradient + residual
    payload = make(name, gradient.numel()).select_feedback(gradient, residual, Context("bucket", 3, density))
    carried = sent(payload, residual)
    assert bits(gradient) == bits(before)
    assert payload.elements == gradient.numel()
    assert bits(carried + residual) == bits(compensated)


@pytest.mark.parametrize("name", SPARSE)
@MANY
@given(problem=problems())
def test_sparse_payloads_are_ascending_in_range_and_hold_the_entries(name: str, problem) -> None:
    x, _, density = problem
    before = x.clone()
    payload = make(name, x.numel()).select(x, Context("bucket", 3, density))
    assert payload.indices.dtype == torch.int32
    assert payload.values.dtype == torch.float32
    indices = payload.indices.long()
    assert bool((indices[1:] > indices[:-1]).all())
    assert indices.numel() == 0 or (int(indices[0]) >= 0 and int(indices[-1]) < x.numel())
    assert payload.values.numpy().tobytes() == x[indices].numpy().tobytes()
    assert bits(x) == bits(before)
    if COMPRESSORS[name].exact_count:
        assert payload.indices.numel() == wanted_count(x.numel(), density)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_vector_sends_nothing(name: str) -> None:
    compressor = make(name, 0)
    for step in range(2):
        payload = compressor.select_feedback(torch.zeros(0), torch.zeros(0), Context("bucket", step, 0.1))
        assert sent(payload, torch.zeros(0)).numel() == 0
        assert sent(compressor.select(torch.zeros(0), Context("bucket", step, 0.1)), torch.zeros(0)).numel() == 0


@pytest.mark.parametrize("name", SPARSE)
@MANY
@given(problem=problems())
def test_density_one_sends_all_that_is_not_zero(name: str, problem) -> None:
    x, _, _ = problem
    payload = make(name, x.numel(), threshold=1e9).select(x, Context("bucket", 0, 1.0))
    assert bits(payload.dense()) == bits(x)


@pytest.mark.parametrize("name", NAMES)
@MANY
@given(problem=problems())
def test_the_fused_path_equals_the_plain_one(name: str, problem) -> None:
    gradient, residual, density = problem
    fused, plain = make(name, gradient.numel()), make(name, gradient.numel())
    r_fused, r_plain = residual.clone(), residual.clone()
    for step in range(3):
        context = Context("bucket", step, density)
        a = fused.select_feedback(gradient, r_fused, context)
        b = Base._select_feedback(plain, gradient, r_plain, context)
        assert bits(sent(a, r_fused)) == bits(sent(b, r_plain))
        assert bits(r_fused) == bits(r_plain)
        assert fused.telemetry == plain.telemetry


@pytest.mark.parametrize("name", NAMES)
def test_gradients_that_kernels_cannot_read_are_taken_as_well(name: str) -> None:
    plain = torch.randn(3000, generator=torch.Generator().manual_seed(1))
    wanted_residual = torch.zeros(3000)
    wanted = make(name, 3000).select_feedback(plain, wanted_residual, Context("bucket", 0, 0.01))
    odd = torch.stack((plain, plain), 1)[:, 0], torch.nn.Parameter(plain.clone())
    for gradient in odd:
        residual = torch.zeros(3000)
        payload = make(name, 3000).select_feedback(gradient, residual, Context("bucket", 0, 0.01))
        assert torch.equal(residual, wanted_residual)
        assert torch.equal(payload.dense().detach(), wanted.dense())


@pytest.mark.parametrize("name", SPARSE)
@MANY
@given(problem=problems(), weights=st.sampled_from([(1.0, 1.0), (0.5, 0.0), (0.9, 0.1), (0.0, 0.0)]))
def test_feedback_weights(name: str, problem, weights: tuple[float, float]) -> None:
    gradient, old, density = problem
    residual = old.clone()
    compressor = make(name, gradient.numel(), gradient_weight=weights[0], memory_weight=weights[1])
    payload = compressor.select_feedback(gradient, residual, Context("bucket", 0, density))
    expected = (gradient + old).mul(weights[0]).add(old, alpha=weights[1])
    expected[payload.indices.long()] = 0.0
    assert bits(residual) == bits(expected)
    assert bits(payload.values) == bits((gradient + old)[payload.indices.long()])


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_of_the_state_goes_on_alike(name: str) -> None:
    generator = torch.Generator().manual_seed(5)
    first, n = make(name, 4000, threshold=2.0), 4000
    residual = torch.zeros(n)
    for step in range(23):
        context = Context("bucket", step, 0.01)
        sent(first.select_feedback(torch.randn(n, generator=generator), residual, context), residual)
    second, other = make(name, n, threshold=2.0), residual.clone()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for step in range(23, 60):
        gradient, context = torch.randn(n, generator=generator), Context("bucket", step, 0.01)
        a = first.select_feedback(gradient, residual, context)
        b = second.select_feedback(gradient, other, context)
        assert bits(sent(a, residual)) == bits(sent(b, other))
        assert bits(residual) == bits(other)
        assert first.telemetry == second.telemetry


@pytest.mark.parametrize("name", NAMES)
def test_state_is_plain_numbers_and_tensors(name: str) -> None:
    compressor = make(name, 1000)
    compressor.select(torch.randn(1000, generator=torch.Generator().manual_seed(0)), Context("bucket", 0, 0.01))

    def check(value: object) -> None:
        if isinstance(value, (dict, list)):
            for part in value.values() if isinstance(value, dict) else value:
                check(part)
        else:
            assert isinstance(value, (int, float, torch.Tensor))

    check(compressor.state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_payloads_in_flight_are_not_overwritten(name: str) -> None:
    generator = torch.Generator().manual_seed(2)
    compressor, residual = make(name, 3000, threshold=1.5), torch.zeros(3000)
    kept, copies = [], []
    for step in range(6):
        gradient = torch.randn(3000, generator=generator)
        payload = compressor.select_feedback(gradient, residual, Context("bucket", step, 0.05))
        kept.append(payload)
        copies.append(sent(payload, residual).clone())
    for payload, copied in zip(kept, copies, strict=True):
        assert bits(payload.dense()) == bits(copied)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_are_carried(name: str, bad: float) -> None:
    """They reach the payload and leave no trace in the residual; random-k sends them once their coordinate is drawn."""
    gradient = torch.randn(400, generator=torch.Generator().manual_seed(3))
    gradient[123] = bad
    residual = torch.zeros(400)
    compressor = make(name, 400, threshold=2.0)
    context = Context("bucket", 0, 1.0 if name.startswith("randomk") else 0.01)
    payload = compressor.select_feedback(gradient, residual, context)
    carried = sent(payload, residual)[123].item()
    assert carried == bad or (bad != bad and carried != carried)
    assert bool(residual.isfinite().all())
    assert residual[123] == 0


@pytest.mark.parametrize("name", NAMES)
def test_telemetry_is_plain_numbers(name: str) -> None:
    compressor = make(name, 256)
    payload = compressor.select(torch.ones(256), Context("bucket", 0, 0.1))
    assert all(type(value) is float for value in compressor.telemetry.values())
    assert compressor.telemetry["elements"] == 256
    count = payload.indices.numel() if isinstance(payload, SparsePayload) else 256
    assert compressor.telemetry["selected"] == count


@pytest.mark.parametrize("name", SPARSE)
@MANY
@given(problem=problems())
def test_kernels_and_torch_operations_choose_alike(name: str, problem) -> None:
    """The path of CUDA tensors, run on the CPU. Sums differ by rounding, so only a hair's breadth of the threshold may
    be decided otherwise; exact methods agree entry by entry."""
    from toolkit.compression.passes_torch import TorchPasses

    gradient, residual, density = problem
    kernel, device = make(name, gradient.numel()), make(name, gradient.numel())
    device.passes = lambda vector: TorchPasses()  # type: ignore[attr-defined]
    r_kernel, r_device = residual.clone(), residual.clone()
    context = Context("bucket", 1, density)
    a = kernel.select_feedback(gradient, r_kernel, context)
    b = device.select_feedback(gradient, r_device, context)
    if COMPRESSORS[name].exact_count or "threshold" not in kernel.telemetry:
        assert bits(a.dense()) == bits(b.dense())
        assert bits(r_kernel) == bits(r_device)
        return
    threshold, other = kernel.telemetry["threshold"], device.telemetry["threshold"]
    assert threshold == pytest.approx(other, rel=1e-6)
    differ = a.dense() != b.dense()
    near = torch.maximum(a.dense().abs(), b.dense().abs())[differ]
    assert bool((near <= max(threshold, other) * (1 + 1e-6)).all())
