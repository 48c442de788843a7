"""Networks are built through the registry, as a trainer builds them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from toolkit.data.base import Task
from toolkit.experiment import ModelSection
from toolkit.models import build
from toolkit.models.describe import STANDARD


@pytest.fixture
def make() -> Callable[..., nn.Module]:
    """make("gpt", task, hidden=64): seeded; without a task, on the shape of the network's standard data."""

    def make_network(name: str, task: Task | None = None, seed: int = 1, **settings: Any) -> nn.Module:
        torch.manual_seed(seed)
        return build(ModelSection(name=name, **settings), STANDARD[name] if task is None else task)

    return make_network
