"""What Deep Gradient Compression does to a gradient before it reaches the residual (ICLR 2018, sections 3.1 and 3.2).

Both stand around any compressor, clipping outermost: clip, then momentum, then error feedback and selection.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

import cext
from toolkit.compression.base import Compressor, Context, DensePayload, Payload, SparsePayload
from toolkit.compression.passes import KernelPasses, kernels_read, passes_for
from toolkit.compression.rooms import Rooms, standing_zeros


class _Around(Compressor):
    """A compressor around another one, whose payloads, telemetry and empty message are its own."""

    def __init__(self, inner: Compressor) -> None:
        super().__init__(inner.section, inner.elements)
        self.inner = inner

    def nothing(self, context: Context) -> Payload:
        return self.inner.nothing(context)

    def select(self, vector: torch.Tensor, context: Context) -> Payload:
        payload = self.inner.select(vector, context)
        self.telemetry = self.inner.telemetry
        return payload

    def select_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, context: Context) -> Payload:
        payload = self.inner.select_feedback(gradient, residual, context)
        self.telemetry = self.inner.telemetry
        return payload

    def everything(self, gradient: torch.Tensor, residual: torch.Tensor | None, context: Context) -> DensePayload:
        return self.inner.everything(gradient, residual, context)

    def state_dict(self) -> dict[str, Any]:
        return {"inner": self.inner.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.inner.load_state_dict(state["inner"])


class MomentumCorrection(_Around):
    """Momentum kept on each worker, before the residual, so that late coordinates arrive with theirs.

    u ← m·u + g, and u is what the residual takes; with Nesterov u ← m·(u + g), and it takes u + g. Where an entry is
    sent, u becomes zero (momentum factor masking): old directions of late coordinates do not go on pushing. Dense steps
    do not mask, so a run that sends everything is SGD with momentum, bit for bit. The optimizer's own momentum must be
    zero. The law becomes payload + residual = old residual + what it takes.
    """

    def __init__(self, inner: Compressor, momentum: float, nesterov: bool) -> None:
        super().__init__(inner)
        self.momentum = momentum
        self.nesterov = nesterov
        self.velocity = standing_zeros(inner.elements)
        self._kernels = KernelPasses(inner.section.threads)
        self._rooms = Rooms(np.float32)

    def select(self, vector: torch.Tensor, context: Context) -> Payload:
        return self._mask(super().select(self._fresh(self._accumulate(vector)), context))

    def select_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, context: Context) -> Payload:
        """What is taken is added to the residual, and looked at no more."""
        return self._mask(super().select_feedback(self._accumulate(gradient), residual, context))

    def everything(self, gradient: torch.Tensor, residual: torch.Tensor | None, context: Context) -> DensePayload:
        return super().everything(self._fresh(self._accumulate(gradient)), residual, context)

    def _mask(self, payload: Payload) -> Payload:
        if isinstance(payload, SparsePayload):
            passes_for(self.velocity, self._kernels).zero_at(self.velocity, payload.indices)
        return payload

    def _accumulate(self, gradient: torch.Tensor) -> torch.Tensor:
        """Move the velocity; returns what the residual takes, the velocity itself or room that is reused."""
        self.velocity = self.velocity.to(gradient.device)
        if not kernels_read(gradient):
            return self._accumulate_in_torch(gradient)
        taken = self._rooms.array(self.elements) if self.nesterov else None
        cext.momentum(gradient.numpy(), self.velocity.numpy(), self.momentum, self.section.threads, taken)
        return self.velocity if taken is None else torch.from_numpy(taken)

    def _accumulate_in_torch(self, gradient: torch.Tensor) -> torch.Tensor:
        if self.nesterov:
            self.velocity.add_(gradient).mul_(self.momentum)
            return self.velocity + gradient
        return self.velocity.mul_(self.momentum).add_(gradient)

    def _fresh(self, taken: torch.Tensor) -> torch.Tensor:
        """A payload may be the vector itself, or keep it: not the velocity."""
        if taken is not self.velocity:
            return taken
        return torch.from_numpy(self._rooms.array(self.elements)).copy_(taken) if taken.is_cpu else taken.clone()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "velocity": self.velocity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.velocity.copy_(state["velocity"])


class LocalClipping(_Around):
    """Each worker cuts its own gradient of a bucket to the norm limit·√(1/P) before anything else, P workers.

    The sum of P such gradients then has about the limit as its norm. One whose norm is not finite passes as it is.
    """

    def __init__(self, inner: Compressor, limit: float) -> None:
        super().__init__(inner)
        self.limit = limit
        self._rooms = Rooms(np.float32)

    def select(self, vector: torch.Tensor, context: Context) -> Payload:
        return super().select(self._clip(vector, context), context)

    def select_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, context: Context) -> Payload:
        return super().select_feedback(self._clip(gradient, context), residual, context)

    def everything(self, gradient: torch.Tensor, residual: torch.Tensor | None, context: Context) -> DensePayload:
        return super().everything(self._clip(gradient, context), residual, context)

    def _clip(self, gradient: torch.Tensor, context: Context) -> torch.Tensor:
        norm, limit = self._norm(gradient), self.limit / math.sqrt(context.workers)
        if not math.isfinite(norm) or norm <= limit:
            return gradient
        if not kernels_read(gradient):
            return gradient * (limit / norm)
        cut = self._rooms.array(self.elements)
        cext.scaled(gradient.numpy(), limit / norm, cut, self.section.threads)
        return torch.from_numpy(cut)

    def _norm(self, gradient: torch.Tensor) -> float:
        """Added up in float64."""
        if kernels_read(gradient):
            # The sum of x itself costs nothing beside that of its squares.
            sums = cext.moments(gradient.numpy(), self.section.threads, cext.SUM_X + cext.SUM_SQUARES)
            return math.sqrt(sums.sum_squares)
        return float(torch.linalg.vector_norm(gradient, dtype=torch.float64))
