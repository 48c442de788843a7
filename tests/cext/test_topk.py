"""The exact top-k: exactly k, the largest, ties by the lowest index, on every instruction set."""

import itertools

import numpy as np
import pytest

import cext
from cext import reference


def some_k(n):
    return sorted({0, min(1, n), n // 100, n // 3, max(0, n - 1), n})


def run(module, gradient, residual, k, room, threads=1):
    payload = room(k)
    workspace = np.full(module.topk_workspace(len(residual), k) + 1, 0xA5, np.uint8)[1:]
    if gradient is None:
        assert module.topk_select(residual, k, *payload, workspace, threads) == k
    else:
        assert module.topk_select_feedback(gradient, residual, k, *payload, workspace, threads) == k
    return payload


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
class TestAgainstReference:
    def test_select(self, level, length, kinds, make, room, same):
        for kind, threads in itertools.product(kinds, (1, 2)):
            x = make(length, kind)
            for k in some_k(length):
                indices, values = run(cext, None, x, k, room, threads)
                wanted_indices, wanted_values = run(reference, None, x, k, room)
                assert np.array_equal(indices, wanted_indices)
                assert same(values, wanted_values)

    def test_feedback(self, level, length, kinds, make, room, same):
        for kind, threads in itertools.product(kinds, (1, 2)):
            gradient, before = make(length, kind, seed=1), make(length, kind, seed=2)
            for k in some_k(length):
                residual, wanted = before.copy(), before.copy()
                indices, values = run(cext, gradient, residual, k, room, threads)
                wanted_indices, wanted_values = run(reference, gradient, wanted, k, room)
                assert np.array_equal(indices, wanted_indices)
                assert same(values, wanted_values)
                assert same(residual, wanted)


@pytest.mark.parametrize("kind", ["normal", "ties", "zeros", "nan", "infinite"])
def test_the_reference_is_the_head_of_a_stable_sort(kind, make, room):
    x = make(500, kind)
    order = np.argsort(-reference.magnitude_key(x).astype(np.int64), kind="stable")
    for k in range(501):
        assert np.array_equal(run(reference, None, x, k, room)[0], np.sort(order[:k]))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("kind", ["normal", "ties", "zeros", "heavy", "mostly_zeros", "hidden"])
@pytest.mark.parametrize("density", [0.1, 0.01, 0.004, 0.001])
def test_large_vectors(level, threads, kind, density, make, room, same):
    gradient, residual = make(600_001, kind, seed=5), make(600_001, kind, seed=6)
    compensated = residual + gradient
    k = int(density * len(residual))
    wanted_indices, wanted_values = run(reference, None, compensated, k, room)
    indices, values = run(cext, gradient, residual, k, room, threads)
    assert np.array_equal(indices, wanted_indices)
    assert same(values, wanted_values)
    residual[indices] += values
    assert np.array_equal(residual, compensated)


@pytest.mark.parametrize("order", ["mixed", "rising", "saw"])
def test_many_keys_around_the_border(level, order, make, room, same):
    """So many that a sample of them says between which two the border lies."""
    n = 2_200_001
    x = make(n, seed=7)
    if order == "rising":
        x[:] = np.sort(np.abs(x))
    elif order == "saw":  # every 64th is among the largest
        x[: n // 64 * 64] = np.sort(np.abs(x[: n // 64 * 64])).reshape(64, -1).T.ravel()
    k = int(0.3 * n)
    border = np.partition(np.abs(x), n - k)[n - k]
    indices, values = run(cext, None, x, k, room, 2)
    chosen = np.flatnonzero(np.abs(x) > border)
    ties = np.flatnonzero(np.abs(x) == border)[: k - len(chosen)]
    assert np.array_equal(indices, np.sort(np.concatenate((chosen, ties))))
    assert same(values, x[indices])


def test_a_sample_of_keys_that_misses(level, room):
    """Large entries lie where the vector's sample does not look; every 64th of them is larger than all others."""
    n, k, many, grains = 2_000_000, 8192, 16384, 1024
    seen = np.empty(32 * grains, np.float32)
    cext.sample(np.arange(n, dtype=np.float32), np.zeros(n, np.float32), seen)
    unseen = np.setdiff1d(np.arange(n), seen.astype(np.int64))
    rng = np.random.default_rng(0)
    x = rng.random(n, dtype=np.float32)
    x[: n // 2] *= np.float32(1e-3)  # no candidate comes between the large ones
    places = np.sort(rng.choice(unseen[unseen < n // 2], many, replace=False))
    x[places] = 2.0 + rng.random(many, dtype=np.float32) + 5.0 * (np.arange(many) % 64 == 0)
    indices, values = run(cext, None, x, k, room)
    assert np.array_equal(indices, np.sort(np.argsort(-x, kind="stable")[:k]))
    assert np.array_equal(values, x[indices])


def test_nan_first_then_infinity_then_ties_by_lowest_index(level, room):
    x = np.array([1, -1, np.inf, 1, np.nan, -1, 1], np.float32)
    for k, wanted in ((1, [4]), (2, [2, 4]), (4, [0, 1, 2, 4]), (5, [0, 1, 2, 3, 4])):
        assert run(cext, None, x, k, room)[0].tolist() == wanted


def test_larger_payload_is_left_alone_behind_k(level, make, room):
    x = make(5000)
    indices, values = room(60)
    assert cext.topk_select(x, 50, indices, values, np.empty(cext.topk_workspace(5000, 50), np.uint8)) == 50
    assert (indices[50:] == -7).all()
    assert (values[50:] == np.float32(7e33)).all()
