"""Memory of vectors: room for payloads, taken again once nobody looks at it any more, and buffers that stay.

Fresh memory costs a page fault every 4 KiB, and streaming through such pages about a tenth of a compressor's time.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

MOST = 8  # buffers that are kept; what is in flight beyond is not taken again
SLACK = 1024  # elements


class Rooms:
    """Arrays of one type. The memory of one is handed out again only when it and every view of it are gone."""

    def __init__(self, kind: type[np.int32] | type[np.float32]) -> None:
        self.kind = kind
        self._buffers: list[NDArray[Any]] = []

    def array(self, count: int) -> NDArray[Any]:
        """(count,) with undefined content."""
        idle = [number for number in range(len(self._buffers)) if self._idle(number)]
        for number in idle:
            if count <= len(self._buffers[number]) <= 4 * count + SLACK:
                return self._buffers[number][:count]
        for number in reversed(idle):  # of other sizes: these are not wanted any more
            del self._buffers[number]
        fresh = np.empty(count + count // 8 + SLACK, self.kind)
        if len(self._buffers) < MOST:
            self._buffers.append(fresh)
        return fresh[:count]

    def _idle(self, number: int) -> bool:
        """Whether no array or tensor is a view of it: views hold a reference to the memory's owner."""
        return sys.getrefcount(self._buffers[number]) <= 2  # the list's and the call's own


def standing_zeros(elements: int, kind: torch.dtype = torch.float32) -> torch.Tensor:
    """(elements,) zeros for a buffer that lives as long as the training: NumPy asks for huge pages, torch does not."""
    return torch.from_numpy(np.zeros(elements * kind.itemsize, np.uint8)).view(kind)
