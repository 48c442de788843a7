"""Whole vectors: added, scaled, rounded to 16 bits; what they become is said in cext and cext.reference."""

from __future__ import annotations

from cext.levels import _kernels
from cext.places import Vector


def add(gradient: Vector, residual: Vector, threads: int = 1) -> None:
    """residual += gradient: the floor of everything with error feedback."""
    _kernels.add(gradient, residual, threads)


def scaled(x: Vector, factor: float, out: Vector, threads: int = 1) -> None:
    """out[:] = factor * x."""
    _kernels.scaled(x, factor, out, threads)


def momentum(gradient: Vector, velocity: Vector, factor: float, threads: int = 1, taken: Vector | None = None) -> None:
    """velocity = factor * velocity + gradient; or Nesterov's, with what is `taken`; see cext.reference.momentum."""
    _kernels.momentum(gradient, velocity, factor, threads, taken)


def round_bf16(x: Vector, residual: Vector, threads: int = 1, seed: int = 0) -> None:
    """residual[:] = x as bfloat16 (uint16), each rounded up or down at random, without bias."""
    _kernels.round_bf16(x, residual, threads, seed)


def round_half(gradient: Vector | None, x: Vector, out: Vector, kind: int, threads: int = 1) -> None:
    """x += gradient, if there is one; out = x in 16 bits, to nearest; with a gradient x keeps what was rounded away."""
    _kernels.round_half(gradient, x, out, kind, threads)


def put_bf16(residual: Vector, indices: Vector, values: Vector, seed: int = 0) -> None:
    """residual[indices] = values, each rounded as round_bf16 does it at its place."""
    _kernels.put_bf16(residual, indices, values, seed)


def huge_pages(x: Vector) -> bool:
    """Asks for huge pages behind x, which keeps what it holds; whether it has them now. Scattered access gains."""
    huge: bool = _kernels.huge_pages(x)
    return huge
