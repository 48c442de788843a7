"""The wire formats of a list of coordinates: one packed buffer a bucket, its size known exactly.

A message is a whole number of 4-byte words, so that messages behind each other stay aligned:

  int32 indices   k, then k indices, then k values
  delta indices   k, c, then k values, then |c| codes of 2 bytes (c > 0) or 1 byte (c < 0), whichever is shorter

A code is the gap to the index before, less one. A gap that reaches the largest code M (65535 or 255) is written as M,
which means "M further, and go on", as often as needed, then the rest: an index takes at most 2 bytes while gaps stay
below 65536, and one byte at densities around .01 and above. Values are float32, or bfloat16 rounded to nearest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

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
        gaps = _gaps(indices)
        return _padded(2 * WORD + self.value_bytes * k + min(_code_bytes(gaps, np.uint8), _code_bytes(gaps, np.uint16)))

    def encode(self, indices: Array, values: Array) -> NDArray[np.uint8]:
        """One message of ascending distinct int32 indices and float32 values (rounded already), as bytes."""
        k = np.array([indices.size], np.int32)
        numbers = _to_bfloat16(values) if self.values == "bf16" else values
        if self.indices == "int32":
            return _joined(k, indices, numbers)
        codes = _codes(indices)
        count = codes.size if codes.itemsize == 2 else -codes.size
        return _joined(k, np.array([count], np.int32), numbers, codes)

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
        codes, at = _take(message, at, abs(count), np.uint16 if count > 0 else np.uint8)
        return (_indices(codes, k), values), _end(message, start, at)

    def _values(self, message: NDArray[np.uint8], at: int, k: int) -> tuple[Array, int]:
        if self.values == "fp32":
            return _take(message, at, k, np.float32)
        halves, at = _take(message, at, k, np.uint16)
        return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32), at


def _to_bfloat16(values: Array) -> Array:
    return (values.view(np.uint32) >> np.uint32(16)).astype(np.uint16)  # `rounded` has cleared what is dropped here


def _gaps(indices: Array) -> Array:
    """Places skipped before each index, uint32."""
    gaps = np.empty(indices.size, np.uint32)
    gaps[:1] = indices[:1]
    np.subtract(indices[1:], indices[:-1] + np.int32(1), out=gaps[1:], casting="unsafe")
    return gaps


def _code_bytes(gaps: Array, kind: type[np.uint8] | type[np.uint16]) -> int:
    largest, width = np.iinfo(kind).max, np.dtype(kind).itemsize
    long = gaps[gaps >= largest]
    return int(width * (gaps.size + (long // np.uint32(largest)).sum(dtype=np.int64)))


def _codes(indices: Array) -> Array:
    gaps = _gaps(indices)
    kind = np.uint8 if _code_bytes(gaps, np.uint8) < _code_bytes(gaps, np.uint16) else np.uint16
    largest = np.uint32(np.iinfo(kind).max)
    long = np.flatnonzero(gaps >= largest)
    if not long.size:
        return gaps.astype(kind)
    repeats = gaps[long] // largest
    gaps[long] %= largest
    return np.insert(gaps.astype(kind), np.repeat(long, repeats), largest)


def _indices(codes: Array, k: int) -> NDArray[np.int32]:
    """What `_codes` was given."""
    largest = np.iinfo(codes.dtype).max
    skipped = np.cumsum(codes, dtype=np.int64)
    last = codes != largest
    ends = skipped if last.all() else skipped[last]
    if ends.size != k or (k and ends[-1] + k > 2**31):
        raise RuntimeError(f"damaged message: {codes.size} codes for {k} indices")
    return (ends + np.arange(k)).astype(np.int32)


def _padded(size: int) -> int:
    return -(-size // WORD) * WORD


def _joined(*parts: Array) -> NDArray[np.uint8]:
    size = sum(part.nbytes for part in parts)
    message = np.empty(_padded(size), np.uint8)
    start = 0
    for part in parts:
        message[start : start + part.nbytes] = np.ascontiguousarray(part).view(np.uint8)
        start += part.nbytes
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
