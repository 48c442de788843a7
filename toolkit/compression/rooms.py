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


class _Buffer:
    """Memory that is handed out from the start of a cache line on."""

    __slots__ = ("last_used", "memory", "size", "start")

    def __init__(self, size: int, kind: Any) -> None:
        self.memory = np.empty(size, kind)
        self.start = _first_in_line(self.memory)
        self.size = size
        self.last_used = 0

    def idle(self) -> bool:
        """Whether no array or tensor is a view of it: views hold a reference to the memory's owner."""
        return sys.getrefcount(self.memory) <= 2  # the buffer's and the call's own


class Rooms:
    """Arrays of one type. The memory of one is handed out again only when it and every view of it are gone.

    A compressor asks for arrays of several sizes in turn (a sample, candidates, what lies in brackets), each time for
    about the same ones: a buffer waits for the next request of its size.
    """

    def __init__(self, kind: type[np.int32] | type[np.float32] | type[np.uint16]) -> None:
        self.kind = kind
        self._buffers: list[_Buffer] = []  # the smallest first
        self._calls = 0

    def array(self, count: int) -> NDArray[Any]:
        """(count,) with undefined content, from the start of a cache line on."""
        self._calls += 1
        for buffer in self._buffers:
            if buffer.size > 4 * count + SLACK + AHEAD:
                break
            if buffer.size >= count + AHEAD and buffer.idle():
                return self._handed_out(buffer, count)
        self._let_go()
        fresh = _Buffer(count + count // 8 + SLACK + AHEAD, self.kind)
        if len(self._buffers) < MOST:
            bisect.insort(self._buffers, fresh, key=lambda each: each.size)
        return self._handed_out(fresh, count)

    def _handed_out(self, buffer: _Buffer, count: int) -> NDArray[Any]:
        buffer.last_used = self._calls
        return buffer.memory[buffer.start : buffer.start + count]

    def _let_go(self) -> None:
        """Of the idle buffers those that nobody has asked for in a while, and one more where there is no room."""
        forgotten = self._calls - FORGOTTEN
        self._buffers = [each for each in self._buffers if each.last_used >= forgotten or not each.idle()]
        idle = [each for each in self._buffers if each.idle()]
        if len(self._buffers) == MOST and idle:
            self._buffers.remove(min(idle, key=lambda each: each.last_used))


def _first_in_line(memory: NDArray[Any]) -> int:
    """The number of its first element that begins a cache line."""
    return int(-memory.ctypes.data % LINE // memory.itemsize)


def standing_zeros(elements: int, kind: torch.dtype = torch.float32) -> torch.Tensor:
    """(elements,) zeros for a buffer that lives as long as the training, from the start of a cache line on: NumPy asks
    for huge pages, torch does not.
    """
    size = elements * kind.itemsize
    zeros = np.zeros(size + LINE, np.uint8)
    start = _first_in_line(zeros)
    return torch.from_numpy(zeros[start : start + size]).view(kind)
