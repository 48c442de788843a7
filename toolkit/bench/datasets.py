"""Vectors for the benchmark: noise of several laws, saved gradients, and data made to defeat a sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import UserError
from toolkit.gradients import store

Vector = NDArray[np.float32]
GRADIENTS = Path("grads")
LAYERS = 24


def _normal(generator: np.random.Generator, n: int) -> Vector:
    return generator.standard_normal(n, dtype=np.float32)


def _laplace(generator: np.random.Generator, n: int) -> Vector:
    signs = generator.integers(0, 2, n, dtype=np.int8) * np.int8(2) - np.int8(1)
    return generator.standard_exponential(n, dtype=np.float32) * signs


def _student(generator: np.random.Generator, n: int) -> Vector:
    """Three degrees of freedom: no fourth moment."""
    squares = sum(np.square(_normal(generator, n)) for _ in range(3))
    return np.asarray(_normal(generator, n) / np.sqrt(squares / 3), np.float32)


def _mostly_zeros(generator: np.random.Generator, n: int) -> Vector:
    """60 % zeros."""
    return _normal(generator, n) * (generator.random(n, dtype=np.float32) > 0.6)


def _layers(generator: np.random.Generator, n: int) -> Vector:
    """Layers one behind the other, each of its own scale, over four orders of magnitude."""
    scales = np.repeat(10.0 ** generator.uniform(-4, 0, LAYERS), -(-n // LAYERS))[:n]
    return _normal(generator, n) * scales.astype(np.float32)


def _saved(generator: np.random.Generator, n: int) -> Vector:
    """The saved gradients behind each other, again and again at slightly different scales."""
    files = sorted(GRADIENTS.glob("*.npy"))
    if not files:
        raise UserError(f"--data saved: no gradients in {GRADIENTS}/")
    every = np.concatenate([store.load(file) for file in files])
    copies = -(-n // every.size)
    scales = generator.uniform(0.9, 1.1, copies).astype(np.float32)
    return np.ascontiguousarray((scales[:, None] * every).reshape(-1)[:n])


def _equal(generator: np.random.Generator, n: int) -> Vector:
    """Every prediction is useless: what is chosen is decided by position alone."""
    return np.full(n, 0.25, np.float32)


def _hidden(generator: np.random.Generator, n: int) -> Vector:
    """Large values in every thousandth cache line only, so that a sample of lines is mostly blind to them."""
    x = _normal(generator, n)
    lines = x[: n // 16 * 16].reshape(-1, 16)
    lines[::1009] *= 1e6
    return x


DATA: dict[str, Callable[[np.random.Generator, int], Vector]] = {
    "normal": _normal,
    "laplace": _laplace,
    "student": _student,
    "mostly zeros": _mostly_zeros,
    "layers": _layers,
    "saved": _saved,
    "equal": _equal,
    "hidden": _hidden,
}


def make(name: str, n: int, seed: int) -> Vector:
    """float32 (n,), aligned to a cache line."""
    room = np.empty(n + 16, np.float32)
    start = -room.ctypes.data % 64 // 4
    vector = room[start : start + n]
    vector[:] = DATA[name](np.random.default_rng([seed, n]), n)
    return vector
