"""fcn5: a fully connected network, large in parameters and cheap in arithmetic.

The default widths are those of FCN-5 on MNIST (Shi et al., "Benchmarking State-of-the-Art Deep Learning Software
Tools", 2016): 784-2048-4096-1024-10, five layers of units, 14,205,962 parameters. With hidden = 200 it is the
784-200-200-10 network (199,210 parameters) that trainers of the gTop-k family call fcn5net.
"""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn

from toolkit.data.base import Task
from toolkit.models.base import ModelSettings, accept

WIDTHS = (2048, 4096, 1024)


class FullyConnected(nn.Module):
    """Linear layers with ReLU between them, over flattened pictures."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, pixels: Tensor) -> Tensor:
        x = pixels.flatten(1)
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        last: Tensor = self.layers[-1](x)
        return last


def fcn5(section: ModelSettings, task: Task) -> nn.Module:
    """Settings: hidden (width of every hidden layer) and layers (how many of them, 2 unless told)."""
    accept(section, task, "classification", ("hidden", "layers"))
    inner: tuple[int, ...] = WIDTHS
    if section.hidden or section.layers:
        inner = (section.hidden or 200,) * (section.layers or 2)
    return FullyConnected((math.prod(task.input_shape), *inner, task.classes))
