"""Momentum in one pass: the reference's bits, on every instruction set and for any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import cext
from cext import reference


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
@pytest.mark.parametrize("nesterov", [False, True])
def test_kernel_equals_reference(
    level: str, length: int, kinds: tuple[str, ...], make: Any, same: Any, nesterov: bool
) -> None:
    for kind in kinds:
        gradient, outcomes = make(length, kind, seed=1), []
        for module in (cext, reference):
            velocity = make(length, kind, seed=2)
            taken = make(length, kind, seed=3) if nesterov else None
            module.momentum(gradient, velocity, 0.9, 1, taken)
            outcomes.append((velocity, velocity if taken is None else taken))
        assert same(outcomes[0][0], outcomes[1][0])
        assert same(outcomes[0][1], outcomes[1][1])
        assert same(gradient, make(length, kind, seed=1))


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
def test_scaled_is_the_references(level: str, length: int, kinds: tuple[str, ...], make: Any, same: Any) -> None:
    for kind in kinds:
        x, out, wanted = make(length, kind), make(length), make(length)
        cext.scaled(x, 0.3, out)
        reference.scaled(x, 0.3, wanted)
        assert same(out, wanted)
    with pytest.raises(ValueError, match="x has 3 elements, out has 4"):
        cext.scaled(np.ones(3, np.float32), 0.3, np.ones(4, np.float32))


def test_threads_and_torch_give_the_same_bits(make: Any) -> None:
    gradient, start = make(1_200_007), make(1_200_007, seed=1)
    wanted = torch.from_numpy(start.copy()).mul_(0.9).add_(torch.from_numpy(gradient)).numpy()
    for threads in (1, 2, 3):
        velocity = start.copy()
        cext.momentum(gradient, velocity, 0.9, threads)
        assert velocity.tobytes() == wanted.tobytes()
        cext.scaled(gradient, 0.1, velocity, threads)
        assert velocity.tobytes() == (torch.from_numpy(gradient) * 0.1).numpy().tobytes()


def test_what_is_refused_changes_nothing() -> None:
    velocity = np.ones(8, np.float32)
    for gradient, taken, message in (
        (np.ones(7, np.float32), None, "gradient has 7 elements, velocity has 8"),
        (np.ones(8, np.float32), np.ones(9, np.float32), "taken has 9 elements, velocity has 8"),
        (velocity, None, "share memory"),
        (np.ones(8, np.float32), velocity, "share memory"),
    ):
        with pytest.raises(ValueError, match=message):
            cext.momentum(gradient, velocity, 0.9, 1, taken)
    assert (velocity == 1.0).all()


def test_places_are_cleared_by_several_threads_alike(level: str) -> None:
    places = np.flatnonzero(np.random.default_rng(0).random(700_000) < 0.4).astype(np.int32)
    backwards = places[::-1].copy()
    for indices in (places, backwards):
        for threads in (1, 2, 3):
            x = np.ones(700_000, np.float32)
            cext.zero_at(x, indices, threads)
            assert not x[places].any()
            assert x.sum() == 700_000 - len(places)
