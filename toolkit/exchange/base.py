"""The interface of an exchange, and of one bucket's exchange under way."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from toolkit.comm import Communicator
from toolkit.compression.base import Payload, SparseGradient
from toolkit.exchange.wire import Wire


class Pending(ABC):
    """One bucket's exchange under way: `wait`, then `settle`, then `merge` or `merge_sparse`, each once.

    payload_bytes: this rank's payload as one message. bytes: what this rank really hands to the network (for Horovod's
    collectives that is the payload, whatever the library makes of it); complete after `wait`.
    """

    payload_bytes: int
    bytes: int
    settles = False  # whether `settle` does anything

    @abstractmethod
    def ready(self) -> bool:
        """Whether `wait` would return at once."""

    @abstractmethod
    def wait(self) -> None:
        """Block, without spinning, until all that belongs to the merged gradient is here."""

    @abstractmethod
    def merge(self, out: torch.Tensor) -> int:
        """Write the mean over the workers to `out`, float32 (n,); returns the number of entries that were read."""

    @abstractmethod
    def merge_sparse(self) -> tuple[SparseGradient, int]:
        """The mean as (indices int32 ascending, values float32), and the number of entries that were read."""

    def settle(self, residual: torch.Tensor) -> None:  # noqa: B027 - the default: everything sent is merged
        """Add to this rank's `residual`, float32 (n,), what was sent and is not in the merged gradient."""


class Exchange(ABC):
    """Sends a payload a bucket and merges what all workers sent.

    The laws: the merged gradient is the same bytes on every rank, and what is sent is merged or comes back: the sum of
    the workers' payloads = P times the merged gradient + the sum of what `settle` adds to their residuals.
    """

    def __init__(self, comm: Communicator, wire: Wire) -> None:
        self.comm = comm
        self.wire = wire

    @abstractmethod
    def launch(self, name: str, payload: Payload) -> Pending:
        """Start the exchange of a bucket; `name` is the same on all ranks. Values are what `wire.rounded` gives."""
