"""Whole cache lines: scores equal the reference bit for bit, taken blocks conserve the gradient."""

import numpy as np
import pytest

import cext
from cext import reference


def select(module, gradient, x, low, room, threads=1):
    blocks, scores = np.full(room, -7, np.int32), np.empty(room, np.float32)
    count = module.select_blocks(gradient, x, low, blocks, scores, threads)
    return count, blocks[: min(count, room)], scores[: min(count, room)], x


def equal(got, wanted, same):
    assert got[0] == wanted[0]
    assert np.array_equal(got[1], wanted[1])
    assert same(got[2], wanted[2])
    assert same(got[3], wanted[3])


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
@pytest.mark.parametrize("threads", [1, 2])
def test_selected_blocks_equal_reference(level, length, threads, make, same):
    for values in ("normal", "heavy", "zeros", "denormals", "nan", "infinite"):
        gradient, before = make(length, values, seed=1), make(length, values, seed=2)
        every = -(-length // 16)
        for added, low in ((gradient, -1.0), (None, -1.0), (gradient, 12.0), (None, 0.0)):
            for room in (every, every // 2):
                got = select(cext, added, before.copy(), low, room, threads)
                equal(got, select(reference, added, before.copy(), low, room), same)


@pytest.mark.parametrize("low", [-1.0, 18.0, 24.0])
def test_selected_blocks_over_many_tiles(level, low, make, same):
    n = 700_003
    wanted = select(reference, make(n), make(n, seed=1), low, n)
    for threads in (1, 2, 3):
        equal(select(cext, make(n), make(n, seed=1), low, n, threads), wanted, same)


def test_without_a_gradient_the_vector_is_only_read(make):
    x = make(1000)
    x.setflags(write=False)
    assert cext.select_blocks(None, x, -1.0, np.empty(63, np.int32), np.empty(63, np.float32)) == 63
    with pytest.raises(TypeError, match="x must be a writable"):
        cext.select_blocks(make(1000), x, -1.0, np.empty(63, np.int32), np.empty(63, np.float32))


@pytest.mark.parametrize("n", [1, 16, 31, 1000])
def test_taken_blocks_conserve(level, n, make, room, same):
    blocks = np.array([b for b in (0, 2, 5, (n - 1) // 16) if b <= (n - 1) // 16], np.int32)
    blocks = np.unique(blocks).astype(np.int32)
    outcomes = []
    for module in (cext, reference):
        residual, (indices, values) = make(n), room(n)
        taken = module.take_blocks(residual, blocks, indices, values)
        outcomes.append((taken, residual.copy(), indices, values))
        residual[indices[:taken]] += values[:taken]
        assert same(residual, make(n))
    for got, wanted in zip(*outcomes, strict=True):
        assert np.array_equal(got, wanted)


def test_blocks_that_are_only_read_stay(level, make, room):
    x, blocks = make(1000), np.array([0, 7, 62], np.int32)
    before = x.copy()
    x.setflags(write=False)
    for module in (cext, reference):
        indices, values = room(48)
        assert module.take_blocks(x, blocks, indices, values, zero=False) == 40
        assert np.array_equal(indices[:40], [*range(16), *range(112, 128), *range(992, 1000)])
        assert np.array_equal(values[:40], before[indices[:40]])
    with pytest.raises(TypeError, match="residual must be a writable"):
        cext.take_blocks(x, blocks, *room(48))


def test_threads_take_the_same_blocks(level, make, room, same):
    n = 700_003
    blocks = np.arange(1, -(-n // 16), 2, dtype=np.int32)
    outcomes = []
    for threads in (1, 2):
        residual, payload = make(n), room(n)
        outcomes.append((cext.take_blocks(residual, blocks, *payload, threads), residual, *payload))
    assert outcomes[0][0] == outcomes[1][0]
    assert np.array_equal(outcomes[0][2], outcomes[1][2])
    assert same(outcomes[0][1], outcomes[1][1])
    assert same(outcomes[0][3], outcomes[1][3])


@pytest.mark.parametrize("blocks", [[-1], [7], [1, 1], [2, 1]])
def test_wrong_blocks_are_refused(blocks, make, room):
    residual = make(100)
    with pytest.raises(ValueError, match="blocks must ascend strictly within 0 to 6"):
        cext.take_blocks(residual, np.array(blocks, np.int32), *room(100))
    with pytest.raises(ValueError, match="has room for 20, needed are 32"):
        cext.take_blocks(residual, np.array([0, 1], np.int32), *room(20))
    assert np.array_equal(residual, make(100))
