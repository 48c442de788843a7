"""How many bytes a list of coordinates takes on the wire: toolkit/exchange/wire.py, from numbers alone."""

from __future__ import annotations

import math

WORD = 4
VALUE_BYTES = {"fp32": 4, "bf16": 2}


def list_bytes(entries: int, elements: int, indices: str = "int32", values: str = "fp32") -> int:
    """Bytes of one message of `entries` coordinates among `elements`.

    indices: "int32" (exact) or "delta": what is expected of coordinates that lie evenly at random, less than which a
    gradient's clusters take. values: "fp32" or "bf16".
    """
    whole = VALUE_BYTES[values] * entries
    if indices == "int32":
        return _padded(WORD + WORD * entries + whole)
    codes = min(code_bytes(entries, elements, 1), code_bytes(entries, elements, 2))
    return _padded(2 * WORD + whole + math.ceil(codes))


def code_bytes(entries: int, elements: int, width: int) -> float:
    """Expected bytes of the gaps' codes of `width` bytes each: a gap of M or more takes one further code an M."""
    missing = max(0, elements - entries)
    if not entries or not missing:
        return float(width * entries)
    largest, further, chance = 256**width - 1, 0.0, 1.0
    stay = missing / elements  # a gap goes on for another place with this chance
    chance = stay**largest
    if chance < 1.0:
        further = chance / (1.0 - chance)
    most = missing / (largest * entries)  # gaps cannot be longer than the vector
    return width * entries * (1.0 + min(further, most))


def _padded(size: int) -> int:
    return -(-size // WORD) * WORD
