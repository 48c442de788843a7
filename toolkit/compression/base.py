"""The interface of a compressor and of what it produces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch

from toolkit.experiment import CompressionSection


@dataclass(frozen=True)
class Context:
    """What a stateful compressor may know of a call: bucket's name, step, wanted density, the run's seed."""

    name: str
    step: int
    density: float
    seed: int = 0


@dataclass(frozen=True)
class SparsePayload:
    """Selected coordinates. indices: int32 (k,), strictly ascending; values: float32 (k,); elements: the vector's n."""

    indices: torch.Tensor
    values: torch.Tensor
    elements: int

    @property
    def bytes(self) -> int:
        """Bytes on the wire: a count, then an index and a value a coordinate."""
        return 4 + 8 * self.indices.numel()

    def dense(self) -> torch.Tensor:
        """The vector that the receiver sees, float32 (n,)."""
        out = torch.zeros(self.elements)
        out[self.indices.long()] = self.values
        return out


@dataclass(frozen=True)
class DensePayload:
    """A whole vector, float32 or float16 (n,)."""

    values: torch.Tensor

    @property
    def elements(self) -> int:
        return self.values.numel()

    @property
    def bytes(self) -> int:
        return self.values.numel() * self.values.element_size()

    def dense(self) -> torch.Tensor:
        return self.values.float()


Payload = SparsePayload | DensePayload


class Compressor(ABC):
    """Chooses what of a vector is sent. One object a bucket; it holds that bucket's state and nothing else.

    The law: payload + residual = gradient + old residual, exactly, coordinate by coordinate (with w_g = 1, w_m = 0).
    """

    def __init__(self, section: CompressionSection, elements: int) -> None:
        self.section = section
        self.elements = elements
        self.telemetry: dict[str, float] = {}

    @abstractmethod
    def select(self, vector: torch.Tensor, context: Context) -> Payload:
        """Choose from `vector`, float32 (n,), which is not changed."""

    def select_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, context: Context) -> Payload:
        """residual += gradient, choose from it, and leave in it what was not sent. `gradient` is not changed.

        Compressors with a fused kernel override this; the result must be the same.
        """
        residual.add_(gradient)
        payload = self.select(residual, context)
        if isinstance(payload, SparsePayload):
            residual[payload.indices.long()] = 0.0
        else:
            residual.sub_(payload.dense())
        return payload

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: tensors and plain numbers only."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 - a stateless compressor has none
        """Take back what `state_dict` gave."""
