"""A tiny network on digits, and a profile of made-up times for it: what is learned does not depend on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from simulator.profile import Cost, Layer, Profile
from toolkit.experiment import parse

SIZES = (64 * 32, 32, 32 * 32, 32, 32 * 10, 10)


def tiny_profile(cv: float = 0.0) -> Profile:
    costs = {name: Cost(1e-5, 1e-9) for name in ("none", "topk", "sidco-e", "powersgd")}
    layers = tuple(Layer(f"layer{i}", size, 1e-3, 2e-3) for i, size in enumerate(SIZES))
    merge = {"dense": Cost(1e-5, 1e-9), "sparse": Cost(1e-5, 1e-9)}
    optimize = {"sgd": Cost(1e-5, 1e-9), "sparse-sgd": Cost(1e-5, 1e-9)}
    return Profile("fcn5", 16, "measured", 1437, layers, compress=costs, merge=merge, optimize=optimize, compute_cv=cv)


@pytest.fixture(scope="session")
def learned() -> Callable[..., dict[str, Any]]:
    """The result of learning with overrides; cv: spread of the compute times."""
    pytest.importorskip("torch")
    from simulator.learning.run import learn
    from simulator.plan import build

    def run(cv: float = 0.0, **sections: dict[str, Any]) -> dict[str, Any]:
        document: dict[str, Any] = {
            "model": {"name": "fcn5", "hidden": 32},
            "data": {"name": "digits", "batch_size": 16},
            "compression": {"density": 0.05, "granularity": "layer"},
            "optimizer": {"learning_rate": 0.05},
            "run": {"steps": 8},
            "cluster": {"workers": 4},
        }
        for name, content in sections.items():
            document.setdefault(name, {}).update(content)
        experiment = parse(document, "test")
        return learn(experiment, build(experiment, tiny_profile(cv)), "test")

    return run
