"""Residuals in bfloat16 (uint16, the upper halves of floats) in NumPy: how they are rounded, and passes over them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cext.moments_type import HALF_FP16
from cext.places import Vector, check_places

LARGEST, INFINITY = np.uint32(0x7F7FFFFF), np.uint32(0x7F800000)
MAGNITUDE, SIGN, QUIET = np.uint32(0x7FFFFFFF), np.uint32(0x8000), np.uint32(0x400000)


def widened(values: Vector) -> NDArray[np.float32]:
    """bfloat16 as float32: exact."""
    return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)


def noise(places: Vector, seed: int) -> NDArray[np.uint32]:
    """16 well mixed bits for each place; one hash serves two places, eight apart (its constants are MurmurHash3's)."""
    p: NDArray[np.uint32] = places.astype(np.uint32)
    h: NDArray[np.uint32] = (p >> np.uint32(4) << np.uint32(3) | p & np.uint32(7)) * np.uint32(0x9E3779B1)
    h += np.uint32(seed)
    h = (h ^ h >> np.uint32(15)) * np.uint32(0x85EBCA6B)
    h = (h ^ h >> np.uint32(13)) * np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    return np.where(p & np.uint32(8), h & np.uint32(0xFFFF), h >> np.uint32(16))


def round_bf16(x: Vector, residual: Vector, threads: int = 1, seed: int = 0) -> None:
    """residual[:] = x as bfloat16, each rounded up or down at random, in proportion to how near either is.

    The error is below 2^-7 of the value and zero on average; what bfloat16 holds stays as it is, finite numbers stay
    finite, infinity and NaN are kept. A draw depends on the seed (0 to 2^32 - 1) and the place only.
    """
    residual[:] = rounded(x, noise(np.arange(len(x)), seed))


def put_bf16(residual: Vector, indices: Vector, values: Vector, seed: int = 0) -> None:
    """residual[indices] = values, each rounded as round_bf16 does it at its place.

    ValueError before any write if an index is outside [0, n).
    """
    check_places(indices, len(residual))
    residual[indices] = rounded(values, noise(indices, seed))


def rounded(x: Vector, up: NDArray[np.uint32]) -> NDArray[np.uint16]:
    """The upper halves of x's bits, after `up` has been added to the lower ones."""
    bits = x.view(np.uint32)
    magnitude = bits & MAGNITUDE
    finite = np.minimum(magnitude + up, LARGEST)
    other = np.where(magnitude > INFINITY, magnitude | QUIET, magnitude)  # a NaN may have its bits in the lower half
    upper = np.where(magnitude < INFINITY, finite, other) >> np.uint32(16)
    values: NDArray[np.uint16] = (upper | bits >> np.uint32(16) & SIGN).astype(np.uint16)
    return values


def either(function: Callable[..., Any]) -> Callable[..., Any]:
    """Lets the `residual` be bfloat16, too: everything is decided on exact sums, and what is left is rounded."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def called(*args: Any, **named: Any) -> Any:
        bound = signature.bind(*args, **named)
        residual = bound.arguments["residual"]
        if residual.dtype != np.uint16:
            return function(*args, **named)
        bound.arguments["residual"] = wide = widened(residual)
        try:
            return function(*bound.args, **bound.kwargs)
        finally:
            round_bf16(wide, residual, seed=bound.arguments.get("seed", 0))

    return called


def round_half(gradient: Vector | None, x: Vector, out: Vector, kind: int, threads: int = 1) -> None:
    """x += gradient, if there is one; then out (uint16) = x in IEEE half precision (HALF_FP16) or bfloat16 (HALF_BF16),
    rounded to nearest, ties to even.

    Finite numbers beyond the format's range are cut to its largest; infinity and NaN are kept, NaN as one pattern. With
    a gradient x keeps what was rounded away, and 0 where it is not finite. The two make up the sum exactly, except that
    half precision cuts numbers beyond 2^29 by more than float32 can hold apart.
    """
    if gradient is not None:
        x += gradient
    magnitude, sign = x.view(np.uint32) & np.uint32(0x7FFFFFFF), x.view(np.uint32) >> np.uint32(31)
    finite = np.isfinite(x)
    if kind == HALF_FP16:
        rounded = np.clip(x, np.float32(-65504), np.float32(65504)).astype(np.float16)
        bits, back = rounded.view(np.uint16) & np.uint16(0x7FFF), rounded.astype(np.float32)
        infinity, nan = np.uint16(0x7C00), np.uint16(0x7E00)
    else:
        up = magnitude + np.uint32(0x7FFF) + (magnitude >> np.uint32(16) & np.uint32(1))
        bits = np.minimum(up >> np.uint32(16), np.uint32(0x7F7F)).astype(np.uint16)
        back = (bits.astype(np.uint32) << np.uint32(16) | sign << np.uint32(31)).view(np.float32)
        infinity, nan = np.uint16(0x7F80), np.uint16(0x7FC0)
    bits = np.where(finite, bits, np.where(np.isinf(x), infinity, nan))
    sign = np.where(np.isnan(x), np.uint32(0), sign)
    out[:] = bits | (sign << np.uint32(15)).astype(np.uint16)
    if gradient is not None:
        x[:] = np.where(finite, x - back, np.float32(0))
