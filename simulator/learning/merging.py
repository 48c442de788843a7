"""From payloads to a step of the optimizer: the mean over all workers under BSP, one worker's own under ASP."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from toolkit.compression import DensePayload, LinearPayload, Payload, SparsePayload
from toolkit.compression.base import SparseGradient
from toolkit.optim.sparse import SparseOptimizer


def mean_of(payloads: Sequence[Payload]) -> torch.Tensor | SparseGradient:
    """The merged gradient of a bucket from the payloads of all ranks, added in rank order: float32 (n,) or a list."""
    first = payloads[0]
    if isinstance(first, LinearPayload):
        return _in_rounds([p for p in payloads if isinstance(p, LinearPayload)])
    if isinstance(first, SparsePayload):
        lists = [p for p in payloads if isinstance(p, SparsePayload)]
        total, listed = torch.zeros(first.elements), torch.zeros(first.elements, dtype=torch.bool)
        for part in lists:
            total.index_add_(0, part.indices.long(), part.values)
            listed[part.indices.long()] = True
        indices = listed.nonzero().view(-1)
        return indices.int(), total[indices] / len(payloads)
    total = first.dense().clone()
    for payload in payloads[1:]:
        total += payload.dense()
    return total / len(payloads)


def _in_rounds(payloads: Sequence[LinearPayload]) -> torch.Tensor | SparseGradient:
    """All ranks' generators in step: each round's mean is sent to all."""
    rounds = [payload.rounds() for payload in payloads]
    vectors = [next(generator) for generator in rounds]
    while True:
        mean = torch.stack(vectors).sum(dim=0) / len(vectors)
        answers: list[torch.Tensor] = []
        merged: torch.Tensor | SparseGradient | None = None
        for generator in rounds:
            try:
                answers.append(generator.send(mean.clone()))
            except StopIteration as end:
                merged = end.value
        if merged is not None:
            return merged
        vectors = answers


def step(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[torch.nn.Parameter],
    gradients: Sequence[torch.Tensor | SparseGradient],
    limit: float,
) -> None:
    """One step with a gradient a parameter, cut to the joint norm `limit` where that is > 0."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = None
        if isinstance(gradient, torch.Tensor):
            parameter.grad = gradient.clone()
        elif isinstance(optimizer, SparseOptimizer):
            optimizer.assign(parameter, gradient[0].contiguous(), gradient[1].clone())
        else:
            parameter.grad = torch.zeros_like(parameter)
            parameter.grad[gradient[0].long()] = gradient[1]
    if limit > 0 and isinstance(optimizer, SparseOptimizer):
        optimizer.clip_norm(limit)
    elif limit > 0:
        torch.nn.utils.clip_grad_norm_(list(parameters), limit)
    optimizer.step()


def own(payload: Payload) -> torch.Tensor | SparseGradient:
    """What a server makes of one worker's payload."""
    if isinstance(payload, SparsePayload):
        return payload.indices, payload.values
    if isinstance(payload, DensePayload):
        return payload.dense()
    raise TypeError("a sum over workers cannot be pushed by one")


def finite(loss: float) -> float | None:
    """JSON knows no NaN: a diverged loss is null."""
    return loss if math.isfinite(loss) else None
