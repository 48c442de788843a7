"""The interface of an exchange."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from toolkit.comm import Communicator
from toolkit.compression.base import Payload

SparseGradient = tuple[torch.Tensor, torch.Tensor]


class Exchange(ABC):
    """Sends a payload a bucket and merges what all workers sent.

    The law: the merged gradient is the sum of all workers' payloads in rank order over the number of workers, the same
    bytes on every rank.
    """

    def __init__(self, comm: Communicator) -> None:
        self.comm = comm

    @abstractmethod
    def launch(self, name: str, payload: Payload) -> int:
        """Start the exchange of a bucket; `name` is the same on all ranks. Returns a handle for `comm.wait`."""

    @abstractmethod
    def merge(self, received: torch.Tensor, out: torch.Tensor) -> int:
        """Write the mean over the workers to `out`, float32 (n,); returns the number of entries that were read."""

    @abstractmethod
    def merge_sparse(self, received: torch.Tensor, elements: int) -> tuple[SparseGradient, int]:
        """The mean as (indices int32 ascending, values float32), and the number of entries that were read."""
