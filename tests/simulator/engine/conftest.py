"""Small hand-made profiles and experiments, so that every expected time can be worked out on paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from simulator.profile import Cost, Layer, Profile
from toolkit.experiment import Experiment, parse

COST = {"call_s": 1e-4, "element_s": 2e-9, "entry_s": 5e-9}


@pytest.fixture(scope="session")
def make_profile() -> Callable[..., Profile]:
    def make(sizes: tuple[int, ...] = (300, 20, 5000, 100, 2000), **changes: Any) -> Profile:
        layers = tuple(
            Layer(f"layer{i}", size, 1e-3 + 1e-7 * size, 2e-3 + 3e-7 * size, (10, size // 10) if size % 10 == 0 else ())
            for i, size in enumerate(sizes)
        )
        names = ("none", "fp16", "topk", "randomk", "threshold", "sidco-e", "sidco-p", "sidco-gp")
        values: dict[str, Any] = {
            "model": "resnet20",
            "batch_size": 32,
            "source": "measured",
            "examples": 32 * 12 * 1000,
            "layers": layers,
            "data_s": 2e-4,
            "step_s": 3e-4,
            "compress": {name: Cost(**COST) for name in names},
            "merge": {"dense": Cost(1e-5, 1e-9), "sparse": Cost(2e-5, 1e-9, 3e-9)},
            "optimize": {"sgd": Cost(5e-5, 3e-9), "adam": Cost(5e-5, 6e-9), "sparse-sgd": Cost(5e-5, 0.0, 8e-9)},
            "achieved": {"sidco-e": 1.25, "threshold": 0.5},
        }
        return Profile(**(values | changes))

    return make


@pytest.fixture(scope="session")
def make_experiment() -> Callable[..., Experiment]:
    def make(**sections: dict[str, Any]) -> Experiment:
        document: dict[str, Any] = {"run": {"steps": 4}, "model": {"name": "resnet20"}}
        for name, content in sections.items():
            document.setdefault(name, {}).update(content)
        return parse(document, "test")

    return make
