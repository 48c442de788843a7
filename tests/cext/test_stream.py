"""Output that goes past the caches: the same entries, wherever the arrays begin, and nothing beside them."""

import numpy as np
import pytest

import cext
import cext.reference

N = 5_300_009  # of which more than the 2^19 entries are selected from which output is streamed
GUARD = -7


def out(count: int, start: int) -> tuple[np.ndarray, ...]:
    """Indices and values that begin `start` elements behind a cache line, with 16 guards on either side."""
    arrays = []
    for kind in (np.int32, np.float32):
        room = np.full(count + 64 + start, GUARD, kind)
        first = -room.ctypes.data % 64 // 4 + 16 + start
        room[first : first + count] = 0
        arrays += [room, room[first : first + count]]
    return tuple(arrays)


def guarded(room: np.ndarray, count: int) -> bool:
    return int((room == GUARD).sum()) == len(room) - count


@pytest.mark.parametrize("start", [0, 1, 5, 15])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.usefixtures("level")
def test_selections(start: int, threads: int) -> None:
    rng = np.random.default_rng(start)
    x, gradient = rng.standard_normal(N, dtype=np.float32), rng.standard_normal(N, dtype=np.float32)
    chosen = np.flatnonzero(np.abs(x + gradient) > 1.8)
    indices_room, indices, values_room, values = out(len(chosen), start)
    residual = x.copy()
    count = cext.threshold_select_feedback(gradient, residual, 1.8, indices, values, threads)
    assert count == len(chosen)
    assert count > 1 << 19
    np.testing.assert_array_equal(indices, chosen)
    np.testing.assert_array_equal(values, (x + gradient)[chosen])
    assert not residual[chosen].any()
    assert guarded(indices_room, count)
    assert guarded(values_room, count)


@pytest.mark.parametrize("start", [0, 3])
@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.usefixtures("level")
def test_blocks(start: int, zero: bool) -> None:
    """The vector's last block is a short one."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal(N, dtype=np.float32)
    blocks = np.append(np.sort(rng.choice(N // 16, 9000, replace=False)), N // 16).astype(np.int32)
    count, room = 16 * 9000 + N % 16, 16 * 9001
    indices_room, indices, values_room, values = out(room, start)
    expected = np.zeros(room, np.int32), np.zeros(room, np.float32)
    residual, other = x.copy(), x.copy()
    assert cext.take_blocks(residual, blocks, indices, values, 2, zero) == count
    assert cext.reference.take_blocks(other, blocks, *expected, 1, zero) == count
    np.testing.assert_array_equal(indices, expected[0])
    np.testing.assert_array_equal(values, expected[1])
    np.testing.assert_array_equal(residual, other)
    assert guarded(indices_room, room)
    assert guarded(values_room, room)
