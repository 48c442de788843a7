"""Awkward vectors for the kernels, and every instruction set that this processor can run."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

import cext

LENGTHS = (0, 1, 2, 3, 15, 16, 17, 31, 33, 63, 64, 65, 97, 200, 4095, 4097, 100_003)
KINDS = ("normal", "ties", "equal", "zeros", "mostly_zeros", "denormals", "nan", "infinite", "heavy", "random_bits")


@pytest.fixture(params=cext.capabilities())
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test on each instruction set in turn, and puts back the one that was in use."""
    before = cext.simd()
    cext.use(request.param)
    yield request.param
    cext.use(before)


@pytest.fixture(params=LENGTHS)
def length(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def kinds() -> tuple[str, ...]:
    return KINDS


def _special(rng: np.random.Generator, n: int, kind: str) -> NDArray[np.float32]:
    if kind == "ties":
        return rng.integers(-3, 4, n).astype(np.float32)
    if kind == "hidden":  # large ones where a sample hardly looks
        x = rng.standard_normal(n).astype(np.float32)
        for at in range(5, n - 16, 16 * 211):
            x[at : at + 16] *= np.float32(1e6)
        return x
    if kind == "equal":
        return np.full(n, -0.25, np.float32)
    if kind == "zeros":
        return np.where(rng.random(n) < 0.5, np.float32(0), np.float32(-0.0))
    if kind == "denormals":
        return rng.integers(-9, 10, n).astype(np.int32).astype(np.float32) * np.float32(1e-45)
    if kind == "random_bits":
        return rng.integers(0, 2**32, n, dtype=np.uint32).view(np.float32)
    return rng.standard_t(1.5, n).astype(np.float32)


@pytest.fixture
def make() -> Callable[..., NDArray[np.float32]]:
    """make(n, kind, seed): float32 (n,), its start one element past an aligned address, so never aligned to 64."""

    def vector(n: int, kind: str = "normal", seed: int = 0) -> NDArray[np.float32]:
        rng = np.random.default_rng([seed, n])
        room = np.empty(n + 1, np.float32)[1:]
        if kind in ("normal", "mostly_zeros", "nan", "infinite"):
            room[:] = rng.standard_normal(n)
        else:
            room[:] = _special(rng, n, kind)
        if kind == "mostly_zeros":
            room[rng.random(n) < 0.6] = 0
        places = rng.integers(0, n, min(n, 3)) if n else []
        if kind == "nan":
            room[places] = np.nan
        if kind == "infinite":
            room[places] = (np.inf, -np.inf, np.inf)[: len(places)]
        return room

    return vector


@pytest.fixture
def mixed_list() -> Callable[[int], NDArray[np.int32]]:
    """mixed_list(n): ascending places of every density from 0.01 to 1, and a gapless run, up to the last place."""

    def places(n: int) -> NDArray[np.int32]:
        share = np.repeat([0.01, 0.2, 0.3, 0.4, 0.6, 0.9, 1.0, 0.05, 0.99], -(-n // 9))[:n]
        listed = np.random.default_rng(n).random(n) < share
        listed[-1] = True
        return np.flatnonzero(listed).astype(np.int32)

    return places


@pytest.fixture
def same() -> Callable[[NDArray[np.float32], NDArray[np.float32]], bool]:
    """Bit for bit the same, signs of zero included; only the payload of a NaN may differ."""

    def compare(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
        return bool(np.all((a.view(np.int32) == b.view(np.int32)) | (np.isnan(a) & np.isnan(b))))

    return compare


@pytest.fixture
def room() -> Callable[[int], tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """room(capacity): empty indices and values, filled with marks that no kernel may leave in what it wrote."""
    return lambda capacity: (np.full(capacity, -7, np.int32), np.full(capacity, np.float32(7e33)))
