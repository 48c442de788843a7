"""Networks with the field's exact shapes, their loss and their accuracy.

Weights are drawn from torch's global generator when a network is built: `torch.manual_seed(s); build(...)` is the same
network on every rank, and `with torch.device("meta")` builds the largest ones without memory.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.data.base import Kind, Task
from toolkit.models.base import ModelSettings
from toolkit.registry import MODELS, check_name, resolve

__all__ = ["accuracy", "build", "loss"]


def build(section: ModelSettings, task: Task) -> nn.Module:
    """The network that an experiment's [model] section names, shaped for the task.

    Classification networks map (batch, channels, height, width) to (batch, classes); language networks map int64
    (batch, sequence) to (batch, sequence, classes). Raises UserError for an unknown name or settings it does not have.
    """
    name = check_name("[model] name", section.name, MODELS)
    network: nn.Module = resolve(MODELS[name])(section, task)
    return network


def loss(kind: Kind, outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy in nats over examples, or over all characters or words of a language batch."""
    if kind == "language":
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())
    return F.cross_entropy(outputs, targets)


def accuracy(kind: Kind, outputs: Tensor, targets: Tensor) -> tuple[int, int]:
    """How many of the predictions are right, and of how many: examples, or tokens of a language batch."""
    assert outputs.shape[:-1] == targets.shape, (kind, outputs.shape, targets.shape)
    return int((outputs.argmax(-1) == targets).sum()), targets.numel()
