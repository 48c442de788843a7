"""Whole cache lines: scores equal the reference bit for bit, taken blocks conserve the gradient."""

import numpy as np
import pytest

import cext
from cext import reference


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
@pytest.mark.parametrize("threads", [1, 2])
def test_scores_equal_reference(level, length, threads, make, same):
    for values in ("normal", "heavy", "zeros", "denormals", "nan", "infinite"):
        gradient, before = make(length, values, seed=1), make(length, values, seed=2)
        outcomes = []
        for module in (cext, reference):
            residual, scores = before.copy(), np.empty(-(-length // 16), np.float32)
            module.block_scores_feedback(gradient, residual, scores, threads)
            outcomes.append((residual, scores))
        assert same(outcomes[0][0], outcomes[1][0])
        assert same(outcomes[0][1], outcomes[1][1])


def test_scores_over_many_chunks(level, make, same):
    n = 700_003
    scores = [np.empty(-(-n // 16), np.float32) for _ in range(3)]
    for threads in (1, 2):
        cext.block_scores_feedback(make(n), make(n, seed=1), scores[threads - 1], threads)
    reference.block_scores_feedback(make(n), make(n, seed=1), scores[2])
    assert same(scores[0], scores[2])
    assert same(scores[1], scores[2])


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
