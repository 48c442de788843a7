"""Drawn places: uniform subsets of a block, the reference's to the bit, taken out of the vector without loss."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import cext
from cext import reference

B = cext.DRAW_BLOCK
Vector = NDArray[Any]


def ends_of(n: int, share: float) -> Vector:
    """Some more in later blocks, and nothing in the first of several."""
    blocks = -(-n // B)
    lengths = np.minimum(B, n - B * np.arange(blocks))
    shares = np.full(blocks, share) if blocks < 2 else np.linspace(0.0, share, blocks)
    return np.cumsum((lengths * shares).astype(np.int64))


def draw(
    module: Any, gradient: Vector | None, x: Vector | None, n: int, ends: Vector, seed: int, threads: int = 1
) -> tuple[Vector, Vector, Vector | None]:
    k, after = int(ends[-1]) if len(ends) else 0, None if x is None else x.copy()
    indices, values = np.full(k, -7, np.int32), np.full(k, np.float32(7e33))
    module.select_drawn(gradient, after, n, ends, seed, indices, values, threads)
    return indices, values, after


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.51, 0.97, 1.0])
def test_kernel_equals_reference(level: str, make: Any, same: Any, share: float) -> None:
    for n in (0, 1, 2, 3, 5, 63, 64, 65, 1000, 8192, 8193, B - 1, B, B + 1, 3 * B + 77):
        x, gradient, ends = make(n), make(n, seed=1), ends_of(n, share)
        for seed, added, vector in ((0, gradient, x), (2**64 - 1, None, x), (12345, None, None)):
            got = draw(cext, added, vector, n, ends, seed)
            wanted = draw(reference, added, vector, n, ends, seed)
            for a, b in zip(got, wanted, strict=True):
                assert (a is None) == (b is None)
                assert a is None or a.tobytes() == b.tobytes()


@settings(max_examples=100, deadline=None)
@given(n=st.integers(0, 200), share=st.floats(0.0, 1.0), seed=st.integers(0, 2**64 - 1))
def test_drawn_places_ascend_and_conserve(n: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(n)
    x, gradient = rng.standard_normal((2, n + 1)).astype(np.float32)[:, 1:].copy()
    k = int(share * n)
    indices, values, after = draw(cext, gradient, x, n, np.full(min(n, 1), k), seed)
    assert len(np.unique(indices)) == k
    assert np.array_equal(indices, np.sort(indices))
    assert k == 0 or (indices[0] >= 0 and indices[-1] < n)
    assert after is not None
    assert not after[indices].any()
    after[indices] += values
    assert after.tobytes() == (x + gradient).tobytes()


def test_threads_draw_the_same(make: Any) -> None:
    n = 40 * B + 3
    x, gradient, ends = make(n), make(n, seed=1), ends_of(n, 0.05)
    outcomes = [draw(cext, gradient, x, n, ends, 7, threads) for threads in (1, 2, 3)]
    for other in outcomes[1:]:
        assert all(a.tobytes() == b.tobytes() for a, b in zip(outcomes[0], other, strict=True))  # type: ignore[union-attr]


@pytest.mark.parametrize(("n", "k"), [(5, 2), (6, 3), (5, 4), (4, 1)])
def test_all_subsets_are_equally_likely(n: int, k: int) -> None:
    every = dict.fromkeys(itertools.combinations(range(n), k), 0)
    for seed in range(8000):
        every[tuple(draw(cext, None, None, n, np.array([k]), seed)[0].tolist())] += 1
    expected = 8000 / len(every)
    assert (
        sum((count - expected) ** 2 / expected for count in every.values()) < len(every) + 4 * (2 * len(every)) ** 0.5
    )


@pytest.mark.parametrize("length", [B, B - 5000])
@pytest.mark.parametrize("k", [600, 50_000])
def test_places_of_a_block_are_equally_likely(length: int, k: int) -> None:
    """Counts in 64 stretches: hypergeometric, so their chi-squared is near 63 times the share that is left out."""
    squared = []
    for seed in range(200):
        indices = draw(cext, None, None, length, np.array([k]), seed)[0]
        counts = np.bincount(indices.astype(np.int64) * 64 // length, minlength=64)
        squared.append(((counts - k / 64) ** 2).sum() * 64 / k)
    assert np.mean(squared) == pytest.approx(63 * (1 - k / length), rel=0.1)


def test_blocks_draw_apart() -> None:
    indices = draw(cext, None, None, 2 * B, np.array([6000, 12_000]), 3)[0]
    shared = np.intersect1d(indices[:6000], indices[6000:] - B).size
    assert shared == pytest.approx(6000 * 6000 / B, rel=0.2)


def test_a_seed_that_changes_the_ends_is_looked_at_first() -> None:
    ends = np.array([2, 4], np.int64)

    class Seed:
        def __index__(self) -> int:
            ends[0] = 10**9
            return 7

    n, (indices, values) = B + 100, (np.empty(4, np.int32), np.empty(4, np.float32))
    with pytest.raises(ValueError, match="ends must ascend"):
        cext.select_drawn(None, None, n, ends, Seed(), indices, values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"ends": [3]}, ValueError, "ends has 1 elements, the blocks has 2"),
        ({"ends": [3, 2]}, ValueError, "ends must ascend"),
        ({"ends": [-1, 4]}, ValueError, "ends must ascend"),
        ({"ends": [0, 101]}, ValueError, "by at most a block's elements"),
        ({"ends": [2, 3]}, ValueError, "to the 4 of indices"),
        ({"x": None}, ValueError, "a gradient needs an x"),
        ({"n": B}, ValueError, f"x has {B + 100} elements, n has {B}"),
        ({"seed": "7"}, TypeError, "an integer is required|must be int|cannot be interpreted|expected"),
        ({"threads": 0}, ValueError, "threads = 0"),
    ],
)
def test_what_is_refused_changes_nothing(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    n = B + 100
    x, gradient = np.ones(n, np.float32), np.ones(n, np.float32)
    given_ = {"x": x, "n": n, "ends": [2, 4], "seed": 7, "threads": 1, **arguments}
    indices, values = np.full(4, -7, np.int32), np.zeros(4, np.float32)
    with pytest.raises(error, match=message):
        cext.select_drawn(
            gradient,
            given_["x"],
            given_["n"],
            np.array(given_["ends"], np.int64),
            given_["seed"],
            indices,
            values,
            given_["threads"],
        )
    assert (x == 1.0).all()
    assert (indices == -7).all()
