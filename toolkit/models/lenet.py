"""LeNet-5 (LeCun et al., 1998) as it is trained today: ReLU, max pooling, 61,706 parameters on MNIST."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.data.base import Task
from toolkit.models.base import ModelSettings, accept, fit

SIDE = 32


class LeNet(nn.Module):
    """Two 5x5 convolutions and three linear layers, on 32x32 pictures.

    Smaller pictures are brought up to 32x32 in forward: MNIST's 28x28 by zeros, as in the paper; 8x8 digits by
    repeating each pixel four times. Larger ones are averaged down after the convolutions.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        x = fit(pixels, SIDE)
        x = F.max_pool2d(self.conv1(x).relu(), 2)
        x = F.max_pool2d(self.conv2(x).relu(), 2)
        if x.shape[-2:] != (5, 5):
            x = F.adaptive_avg_pool2d(x, 5)
        x = self.fc1(x.flatten(1)).relu()
        x = self.fc2(x).relu()
        logits: Tensor = self.fc3(x)
        return logits


def lenet(section: ModelSettings, task: Task) -> nn.Module:
    """No settings: the shape is fixed."""
    accept(section, task, "classification")
    return LeNet(task.input_shape[0], task.classes)
