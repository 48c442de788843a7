"""The wire formats of a list of coordinates: one packed buffer a bucket, its size known exactly.

A message is a whole number of 4-byte words, so that messages behind each other stay aligned:

  int32 indices   k, then k indices, then k values
  delta indices   k, c, then k values, then |c| codes of 2 bytes (c > 0) or 1 byte (c < 0), whichever is shorter

A code is the gap to the index before (cext/src/delta.h): an index takes at most 2 bytes while gaps stay below 65536,
and one byte at densities around .01 and above. Values are float32, or bfloat16 rounded to nearest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import cext

Array = NDArray[Any]
Entries = tuple[Array, Array]
WORD = 4
LARGEST_BFLOAT16 = torch.finfo(torch.bfloat16).max


@dataclass(frozen=True)
class Wire:
    """How indices ("int32" or "delta") and values ("fp32" or "bf16") are written."""

    indices: str = "int32"
    values: str = "fp32"

    @property
    def value_bytes(self) -> int:
        return 2 if self.values == "bf16" else 4

    def rounded(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Float32 values that the wire carries without loss, and what is missing in them, exactly; None if nothing.

        Finite values beyond bfloat16's range are cut to its largest; NaN and infinity travel as they are, without loss.
        """
        if self.values == "fp32":
            return values, None
        sent = values.clamp(-LARGEST_BFLOAT16, LARGEST_BFLOAT16).bfloat16().float()
        finite = values.isfinite()
        sent = torch.where(finite, sent, values.bfloat16().float())
        # The error of rounding to nearest is a float32 itself: bfloat16 only drops the lower half of the bits.
        return sent, torch.where(finite, values - sent, torch.zeros_like(values))

    def size(self, indices: Array) -> int:
        """Bytes of the message that carries these ascending int32 indices and their values."""
        k = indices.size
        if self.indices == "int32":
            return _padded(WORD + 4 * k + self.value_bytes * k)
        _, _, code_bytes = _shortest(np.ascontiguousarray(indices))
        return _padded(2 * WORD + self.value_bytes * k + code_bytes)

    def encode(self, indices: Array, values: Array) -> NDArray[np.uint8]:
        """One message of strictly ascending int32 indices and float32 values (rounded already), as bytes.

        Raises ValueError for indices that delta codes cannot tell: negative, repeated or out of order.
        """
        k = indices.size
        numbers = _to_bfloat16(values) if self.values == "bf16" else values
        if self.indices == "int32":
            return _joined([k], indices, numbers)
        indices = np.ascontiguousarray(indices)
        width, codes, code_bytes = _shortest(indices)
        message = _joined([k, codes if width == 2 else -codes], numbers, room=code_bytes)
        start = 2 * WORD + self.value_bytes * k
        cext.delta_encode(indices, width, message[start : start + code_bytes])
        return message

    def decode(self, message: NDArray[np.uint8]) -> list[Entries]:
        """The (indices int32, values float32) of each of the messages that stand behind each other; views if possible.

        Raises RuntimeError for what no `encode` wrote.
        """
        parts, start = [], 0
        while start < message.size:
            entries, start = self._decode_one(message, start)
            parts.append(entries)
        return parts

    def _decode_one(self, message: NDArray[np.uint8], start: int) -> tuple[Entries, int]:
        k, at = _word(message, start), start + WORD
        if self.indices == "int32":
            index, at = _take(message, at, k, np.int32)
            values, at = self._values(message, at, k)
            return (index, values), _end(message, start, at)
        count, at = _word(message, at), at + WORD
        values, at = self._values(message, at, k)
        width = 2 if count > 0 else 1
        codes, at = _take(message, at, width * abs(count), np.uint8)
        if k > abs(count):  # before room is made for them
            raise RuntimeError(f"damaged message: {abs(count)} codes for {k} indices")
        index = np.empty(k, np.int32)
        try:
            cext.delta_decode(codes, width, index)
        except ValueError as error:
            raise RuntimeError(f"damaged message: {error}") from None
        return (index, values), _end(message, start, at)

    def _values(self, message: NDArray[np.uint8], at: int, k: int) -> tuple[Array, int]:
        if self.values == "fp32":
            return _take(message, at, k, np.float32)
        halves, at = _take(message, at, k, np.int16)
        return torch.from_numpy(halves).view(torch.bfloat16).float().numpy(), at


def _to_bfloat16(values: Array) -> Array:
    return torch.from_numpy(values).bfloat16().view(torch.int16).numpy()  # exact: they are rounded already


def _shortest(indices: Array) -> tuple[int, int, int]:
    """Bytes a code, codes, and bytes in all, of the shorter of the two ways to write these indices."""
    in_bytes, in_shorts = cext.delta_size(indices)
    return (1, in_bytes, in_bytes) if in_bytes < 2 * in_shorts else (2, in_shorts, 2 * in_shorts)


def _padded(size: int) -> int:
    return -(-size // WORD) * WORD


def _joined(head: list[int], *parts: Array, room: int = 0) -> NDArray[np.uint8]:
    """Whole numbers, then the parts, then room for so many bytes, padded."""
    pieces = [np.array(head, np.int32), *parts]
    size = sum(piece.nbytes for piece in pieces) + room
    message = np.empty(_padded(size), np.uint8)
    start = 0
    for piece in pieces:
        message[start : start + piece.nbytes] = np.ascontiguousarray(piece).view(np.uint8)
        start += piece.nbytes
    message[size:] = 0
    return message


def _word(message: NDArray[np.uint8], at: int) -> int:
    words, _ = _take(message, at, 1, np.int32)
    return int(words[0])


def _take(message: NDArray[np.uint8], at: int, count: int, kind: Any) -> tuple[Array, int]:
    end = at + count * np.dtype(kind).itemsize
    if count < 0 or end > message.size:
        raise RuntimeError(f"damaged message: {count} entries at byte {at} of {message.size}")
    return message[at:end].view(kind), end


def _end(message: NDArray[np.uint8], start: int, at: int) -> int:
    """Where the next message begins."""
    end = start + _padded(at - start)
    if end > message.size:
        raise RuntimeError(f"damaged message: it ends at byte {end} of {message.size}")
    return end
