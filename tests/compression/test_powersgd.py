"""PowerSGD: linear in the workers' gradients, exact at full rank, and its factors become the best ones."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.compression import Compressor, Context, create
from toolkit.compression.powersgd import LowRankPayload
from toolkit.experiment import CompressionSection
from toolkit.policies.lowrank import pieces

SHAPES = ((8,), (20, 30), (6, 4, 3, 3), (5, 2), (40, 12))
N = sum(math.prod(shape) for shape in SHAPES)


def make(rank: int = 2, elements: int = N) -> Compressor:
    return create(CompressionSection(name="powersgd", rank=rank), elements)


def context(step: int = 0, shapes: tuple[tuple[int, ...], ...] = SHAPES) -> Context:
    return Context("bucket0", step, 0.01, 1, 4, 0, shapes)


def randn(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def together(payloads: list[LowRankPayload]) -> torch.Tensor:
    """All workers' rounds, their means taken in rank order."""
    rounds = [payload.rounds() for payload in payloads]
    own = [next(each) for each in rounds]
    while True:
        mean, own, merged = torch.stack(own).mean(0), [], []
        for each in rounds:
            try:
                own.append(each.send(mean.clone()))
            except StopIteration as end:
                merged.append(end.value)
        if merged:
            assert len(merged) == len(payloads)
            assert len({other.numpy().tobytes() for other in merged}) == 1
            return merged[0]


def step(workers: list[Compressor], gradients: list[torch.Tensor], residuals: list[torch.Tensor], number: int = 0):
    payloads = [
        worker.select_feedback(gradient, residual, context(number))
        for worker, gradient, residual in zip(workers, gradients, residuals, strict=True)
    ]
    merged = together(payloads)
    for payload, residual in zip(payloads, residuals, strict=True):
        payload.settle(residual)
    return payloads, merged


@settings(deadline=None, max_examples=30)
@given(rank=st.integers(1, 6), workers=st.integers(1, 5), seed=st.integers(0, 1000))
def test_the_merged_gradient_is_the_mean_of_what_each_sent_and_nothing_is_lost(rank, workers, seed) -> None:
    compressors = [make(rank) for _ in range(workers)]
    residuals = [randn(N, seed + 100 + i) for i in range(workers)]
    for number in range(3):
        gradients = [randn(N, seed + 10 * i + number) for i in range(workers)]
        compensated = [g + r for g, r in zip(gradients, residuals, strict=True)]
        payloads, merged = step(compressors, gradients, residuals, number)
        parts = [payload.dense() for payload in payloads]
        torch.testing.assert_close(torch.stack(parts).mean(0), merged, rtol=1e-4, atol=1e-5)
        for part, residual, before in zip(parts, residuals, compensated, strict=True):
            torch.testing.assert_close(part + residual, before, rtol=1e-6, atol=1e-6)
        states = [compressor.state_dict()["right"] for compressor in compressors]
        assert all(torch.equal(states[0], other) for other in states)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_matrices_of_no_more_than_the_rank_arrive_whole(rank: int) -> None:
    """The mean of two workers' gradients, together of rank r: one step is exact."""
    left, right = randn(60 * rank, 1).view(60, rank), randn(50 * rank, 2).view(50, rank)
    shapes = ((60, 50), (7,))
    gradients = [
        torch.cat([(left @ torch.diag(w) @ right.T).flatten(), randn(7, 5)]) for w in randn(2 * rank, 4).view(2, rank)
    ]
    payloads = [make(rank, 3007).select(g, context(0, shapes)) for g in gradients]
    merged = together(payloads)
    torch.testing.assert_close(merged, (gradients[0] + gradients[1]) / 2, rtol=1e-3, atol=1e-4)


def test_what_would_not_shrink_travels_whole() -> None:
    found = pieces(SHAPES, 2)
    assert [(p.rows, p.columns, p.rank) for p in found] == [(1, 8, 0), (20, 30, 2), (6, 36, 2), (5, 2, 0), (40, 12, 2)]
    assert [p.start for p in found] == [0, 8, 608, 824, 834]
    assert [p.entries for p in found] == [8, 100, 84, 10, 104]
    assert all(piece.rank == 0 for piece in pieces(SHAPES, 40))
    gradient = randn(N, 3)
    payload = make(40).select(gradient, context())
    assert torch.equal(together([payload]), gradient)
    assert payload.bytes == 4 * N


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_bytes_are_those_of_the_rounds(rank: int) -> None:
    payload = make(rank).select(randn(N, 3), context())
    rounds = payload.rounds()
    first = next(rounds)
    second = rounds.send(first)
    assert payload.bytes == 4 * (first.numel() + second.numel())


def test_a_warm_start_finds_the_best_factors_of_a_constant_matrix() -> None:
    """Power iteration: without feedback, on the same matrix, the error falls to that of the truncated SVD."""
    matrix = randn(1200, 8).view(40, 30)
    left, singular, right = torch.linalg.svd(matrix, full_matrices=False)
    best = left[:, :3] @ torch.diag(singular[:3]) @ right[:3]
    compressor, errors = make(3, 1200), []
    for number in range(60):
        merged = together([compressor.select(matrix.flatten().clone(), context(number, ((40, 30),)))])
        errors.append(float((merged.view(40, 30) - matrix).norm()))
    floor = float((best - matrix).norm())
    assert errors[0] > 1.02 * floor
    assert errors[-1] == pytest.approx(floor, rel=1e-3)


def test_with_feedback_the_whole_gradient_arrives_in_the_end() -> None:
    gradient, residual, arrived = randn(N, 9), torch.zeros(N), torch.zeros(N)
    compressor = make(1)
    for number in range(400):
        _, merged = step([compressor], [gradient], [residual], number)
        arrived += merged
    torch.testing.assert_close(arrived / 400, gradient, rtol=0, atol=0.3)
    assert float(residual.norm()) < 100 * float(gradient.norm())


def test_an_idle_worker_follows_the_others_and_keeps_its_residual() -> None:
    active, idle = make(), make()
    payload, nothing = active.select(randn(N, 1), context()), idle.nothing(context())
    merged = together([payload, nothing])
    torch.testing.assert_close(merged * 2, payload.dense(), rtol=1e-4, atol=1e-5)
    assert torch.equal(active.state_dict()["right"], idle.state_dict()["right"])
    residual = randn(N, 2)
    before = residual.clone()
    nothing.settle(residual)
    assert torch.equal(residual, before)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_no_number_spoils_one_matrix_for_one_step(bad: float) -> None:
    compressor, residual = make(), torch.zeros(N)
    gradient = randn(N, 1)
    gradient[10] = bad  # in the first matrix
    _, merged = step([compressor], [gradient], [residual])
    assert not bool(merged[8:608].isfinite().any())
    assert bool(merged[:8].isfinite().all())
    assert bool(merged[608:].isfinite().all())
    assert bool(residual.isfinite().all())
    _, merged = step([compressor], [randn(N, 2)], [residual], 1)
    assert bool(merged.isfinite().all())
