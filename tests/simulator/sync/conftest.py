"""A small hand-made profile, so that every expected time can be worked out on paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from simulator.plan import Plan, build
from simulator.profile import Cost, Layer, Profile
from toolkit.experiment import parse

COST = {"call_s": 1e-4, "element_s": 2e-9, "entry_s": 5e-9}


def profile_of(**changes: Any) -> Profile:
    sizes = (300, 20, 5000, 100, 2000)
    values: dict[str, Any] = {
        "model": "resnet20",
        "batch_size": 32,
        "source": "measured",
        "examples": 32 * 12 * 1000,
        "layers": tuple(Layer(f"layer{i}", n, 1e-3 + 1e-7 * n, 2e-3 + 3e-7 * n) for i, n in enumerate(sizes)),
        "data_s": 2e-4,
        "step_s": 3e-4,
        "compress": {name: Cost(**COST) for name in ("none", "topk", "sidco-e")},
        "merge": {"dense": Cost(1e-5, 1e-9), "sparse": Cost(2e-5, 1e-9, 3e-9)},
        "optimize": {"sgd": Cost(5e-5, 3e-9)},
        "achieved": {"sidco-e": 1.25},
    }
    return Profile(**(values | changes))


@pytest.fixture(scope="session")
def make_plan() -> Callable[..., Plan]:
    def make(profile: dict[str, Any] | None = None, **sections: dict[str, Any]) -> Plan:
        document: dict[str, Any] = {"run": {"steps": 20}, "cluster": {"cycle_time": "1 ns"}}
        for name, content in sections.items():
            document.setdefault(name, {}).update(content)
        return build(parse(document, "test"), profile_of(**(profile or {})), source="test")

    return make
