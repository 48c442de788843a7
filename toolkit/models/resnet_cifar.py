"""The CIFAR residual networks of He et al. (CVPR 2016, section 4.2): depth 6n + 2, option A shortcuts.

Parameters for 3 channels and 10 classes: resnet8 75,290; resnet20 269,722; resnet56 853,018; resnet110 1,727,962.
resnet8, n = 1, is not in the paper: the shallowest of the family, for studies that train many times over.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.data.base import Task
from toolkit.models.base import ModelSettings, accept


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (option A: every second pixel, new channels zero)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.added = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.added:
            before = self.added // 2
            shortcut = F.pad(shortcut, (0, 0, 0, 0, before, self.added - before))
        x = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(x)) + shortcut).relu()


class CifarResNet(nn.Module):
    """n blocks at each of three widths, then the mean over the picture: any size of picture will do, 8x8 digits too."""

    def __init__(self, blocks: int, channels: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, stride=1)
        self.layer2 = self._stage(16, 32, blocks, stride=2)
        self.layer3 = self._stage(32, 64, blocks, stride=2)
        self.fc = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(inputs, outputs, stride)
        return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.bn1(self.conv1(pixels)).relu()
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def _build(depth: int, section: ModelSettings, task: Task) -> nn.Module:
    accept(section, task, "classification")
    return CifarResNet((depth - 2) // 6, task.input_shape[0], task.classes)


def resnet8(section: ModelSettings, task: Task) -> nn.Module:
    """One block a width; no settings."""
    return _build(8, section, task)


def resnet20(section: ModelSettings, task: Task) -> nn.Module:
    """Three blocks a width; no settings."""
    return _build(20, section, task)


def resnet56(section: ModelSettings, task: Task) -> nn.Module:
    """Nine blocks a width; no settings."""
    return _build(56, section, task)


def resnet110(section: ModelSettings, task: Task) -> nn.Module:
    """Eighteen blocks a width; no settings."""
    return _build(110, section, task)
