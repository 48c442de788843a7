"""The interface of a compressor and of what it produces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch

from toolkit.compression.residual import opened
from toolkit.experiment import CompressionSection

COMPRESS = "compress"  # the use of a residual, for its rounding


def wanted_count(elements: int, density: float) -> int:
    """k = max(1, floor(n*density)) entries, never more than n; 0 for an empty vector."""
    return min(elements, max(1, int(elements * density)))


@dataclass(frozen=True)
class Context:
    """What a compressor may know of a call: bucket's name, step, wanted density, the run's seed, its workers and which
    of them this one is, and the shapes of the tensors that stand behind each other in the vector (none: one vector).
    """

    name: str
    step: int
    density: float
    seed: int = 0
    workers: int = 1
    rank: int = 0
    shapes: tuple[tuple[int, ...], ...] = ()


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
        out = torch.zeros(self.elements, device=self.values.device)
        out[self.indices.long()] = self.values
        return out


@dataclass(frozen=True)
class DensePayload:
    """A whole vector, float32, float16 or bfloat16 (n,)."""

    values: torch.Tensor

    @property
    def elements(self) -> int:
        return self.values.numel()

    @property
    def bytes(self) -> int:
        return self.values.numel() * self.values.element_size()

    def dense(self) -> torch.Tensor:
        return self.values.float()


SparseGradient = tuple[torch.Tensor, torch.Tensor]  # indices int32 ascending, values float32
Rounds = Generator[torch.Tensor, torch.Tensor, torch.Tensor | SparseGradient]


class LinearPayload(ABC):
    """What workers add up as it is, in one or more dense rounds, each made from the mean of the one before it.

    The law: the merged gradient is the mean over the workers of what each one's `dense` is after its rounds.
    """

    elements: int

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Bytes of all rounds of this worker, in float32."""

    @abstractmethod
    def rounds(self) -> Rounds:
        """Yields this worker's vector of each round, float32 (m,), fresh, and is sent the mean over the workers;
        returns the merged gradient, float32 (n,) or sparse. Once a payload.
        """

    @abstractmethod
    def dense(self) -> torch.Tensor:
        """This worker's own part of the merged gradient, float32 (n,); before any round: as if it were alone."""

    def settle(self, residual: torch.Tensor) -> None:  # noqa: B027 - the default: `select_feedback` has done so
        """After the rounds, take from `residual`, float32 (n,), what was sent of it."""


def run_alone(payload: LinearPayload) -> torch.Tensor | SparseGradient:
    """All rounds of a payload with one worker: every mean is its own vector. Returns the merged gradient."""
    rounds = payload.rounds()
    own = next(rounds)
    while True:
        try:
            own = rounds.send(own)
        except StopIteration as end:
            merged: torch.Tensor | SparseGradient = end.value
            return merged


Payload = SparsePayload | DensePayload | LinearPayload


class Compressor(ABC):
    """Chooses what of a vector is sent. One object a bucket; it holds that bucket's state and nothing else.

    The law: payload + residual = gradient + old residual, exactly, coordinate by coordinate (with w_g = 1, w_m = 0).

    Payloads are fresh tensors: a later call never writes into them, so that any number may be in flight.
    NaN and infinity are carried: they count as larger than every finite value, go into the payload as they are and
    leave a zero residual behind. What a compressor that may not choose by size (random-k) does with them, it says.
    """

    def __init__(self, section: CompressionSection, elements: int) -> None:
        self.section = section
        self.elements = elements
        self.telemetry: dict[str, float] = {}

    @abstractmethod
    def select(self, vector: torch.Tensor, context: Context) -> Payload:
        """Choose from `vector`, float32 (n,), which is not changed."""

    def nothing(self, context: Context) -> Payload:
        """What a worker without data sends, so that the others do not hang; its residual stays as it is."""
        return SparsePayload(torch.zeros(0, dtype=torch.int32), torch.zeros(0), self.elements)

    def everything(self, gradient: torch.Tensor, residual: torch.Tensor | None, context: Context) -> DensePayload:
        """Send all of gradient and residual, uncompressed, and leave a zero residual: a dense step of any compressor.

        The payload may be `gradient` itself, which then holds the residual too.
        """
        if residual is not None:  # of either kind
            gradient.add_(residual)
            residual.zero_()
        return DensePayload(gradient)

    def select_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, context: Context) -> Payload:
        """residual += gradient, choose from it, and leave in it what was not sent. `gradient` is neither changed
        nor kept: it may be memory that the next call writes.

        residual: float32, or bfloat16; what is left in that is rounded (residual.py).

        With weights other than w_g = 1, w_m = 0 a sparse selection leaves w_g*(g + r) + w_m*r where nothing was sent
        and zero where it was (the SIDCo artifact's ecgradw and ecmemw). Dense payloads take no weights: what they
        leave behind is their rounding error alone.
        """
        gradient_weight, memory_weight = self.section.gradient_weight, self.section.memory_weight
        plain = gradient_weight == 1.0 and memory_weight == 0.0
        if residual.dtype != torch.float32 and not (plain and self.works_in_bfloat16(residual, context)):
            with opened(residual, context, COMPRESS) as values:
                assert values is not None
                return self.select_feedback(gradient, values, context)
        if plain:
            return self._select_feedback(gradient, residual, context)
        old = residual.clone()
        payload = self._select_feedback(gradient, residual, context)
        if isinstance(payload, SparsePayload):
            residual.mul_(gradient_weight).add_(old, alpha=memory_weight)
            residual[payload.indices.long()] = 0.0
        return payload

    def _select_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, context: Context) -> Payload:
        """`select_feedback` with w_g = 1, w_m = 0.

        Compressors with a fused kernel override this; the result must be the same, bit for bit.
        """
        residual.add_(gradient)
        payload = self.select(residual, context)
        if isinstance(payload, SparsePayload):
            residual[payload.indices.long()] = 0.0
        elif isinstance(payload, DensePayload):
            if payload.values.data_ptr() == residual.data_ptr():
                payload = DensePayload(residual.clone())  # a payload may be the vector itself, but not the residual
            sent = payload.dense()
            residual.sub_(sent)
            residual[~sent.isfinite()] = 0.0  # inf - inf would leave a NaN behind for ever
        return payload

    def works_in_bfloat16(self, residual: torch.Tensor, context: Context) -> bool:
        """Whether `_select_feedback` takes this residual in bfloat16 as it is, and then sends and leaves the same bits
        as from an opened one, unless a prediction misses.
        """
        return False

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: tensors and plain numbers only."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 - the default for those without state
        """Take back what `state_dict` gave."""
