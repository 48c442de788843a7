"""Memory of vectors: room for payloads, taken again once nobody looks at it any more, and buffers that stay.

Fresh memory costs a page fault every 4 KiB, and streaming through such pages about a tenth of a compressor's time.
"""

from __future__ import annotations

import bisect
import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

MOST = 8  # buffers that are kept; what is in flight beyond is not taken again
FORGOTTEN = 64  # calls after which an idle buffer is let go: other sizes are wanted now
SLACK = 1024  # elements
LINE = 64  # bytes of a cache line
AHEAD = 32  # elements before which a line begins in any array


class Rooms:
    """Arrays of one type. The memory of one is handed out again only when it and every view of it are gone.

    A compressor asks for arrays of several sizes in turn (a sample, candidates, what lies in brackets), each time for
    about the same ones: a buffer waits for the next request of its size.
    """

    def __init__(self, kind: type[np.int32] | type[np.float32] | type[np.uint16]) -> None:
        self.kind = kind
        self._buffers: list[NDArray[Any]] = []  # the smallest first
        self._last_used: list[int] = []
        self._calls = 0

    def array(self, count: int) -> NDArray[Any]:
        """(count,) with undefined content, from the start of a cache line on."""
        self._calls += 1
        for number in range(len(self._buffers)):
            size = self._buffers[number].shape[0]
            if size > 4 * count + SLACK + AHEAD:
                break
            if size >= count + AHEAD and self._idle(number):
                self._last_used[number] = self._calls
                return _in_lines(self._buffers[number], count)
        self._let_go()
        fresh = np.empty(count + count // 8 + SLACK + AHEAD, self.kind)
        if len(self._buffers) < MOST:
            place = bisect.bisect([len(buffer) for buffer in self._buffers], len(fresh))
            self._buffers.insert(place, fresh)
            self._last_used.insert(place, self._calls)
        return _in_lines(fresh, count)

    def _let_go(self) -> None:
        """Of the idle buffers those that nobody has asked for in a while, and one more where there is no room."""
        idle = [number for number in range(len(self._buffers)) if self._idle(number)]
        for number in reversed(idle):
            if self._calls - self._last_used[number] > FORGOTTEN:
                self._remove(number)
                idle.remove(number)
        if len(self._buffers) == MOST and idle:
            self._remove(min(idle, key=lambda each: self._last_used[each]))

    def _remove(self, number: int) -> None:
        del self._buffers[number], self._last_used[number]

    def _idle(self, number: int) -> bool:
        """Whether no array or tensor is a view of it: views hold a reference to the memory's owner."""
        return sys.getrefcount(self._buffers[number]) <= 2  # the list's and the call's own


def _in_lines(buffer: NDArray[Any], count: int) -> NDArray[Any]:
    """`count` of its elements, from the start of a cache line on."""
    start = -buffer.ctypes.data % LINE // buffer.itemsize
    return buffer[start : start + count]


def standing_zeros(elements: int, kind: torch.dtype = torch.float32) -> torch.Tensor:
    """(elements,) zeros for a buffer that lives as long as the training, from the start of a cache line on: NumPy asks
    for huge pages, torch does not.
    """
    size = elements * kind.itemsize
    return torch.from_numpy(_in_lines(np.zeros(size + LINE, np.uint8), size)).view(kind)
