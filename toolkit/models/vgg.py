"""VGG (Simonyan and Zisserman, 2015): vgg16 as the compression papers train it on CIFAR-10, vgg19 on ImageNet.

vgg16: thirteen 3x3 convolutions with batch normalisation, 512 units, classes: 14,990,922 parameters at 10 classes, the
15.0 M of SIDCo's table (14,982,474 without the normalisation). vgg19: the paper's network E, 143,667,240 at 1,000
classes. Tensor names are torchvision's.
"""

from __future__ import annotations

from torch import Tensor, nn

from toolkit.data.base import Task
from toolkit.models.base import ModelSettings, accept, fit

SIDE = 32  # five halvings need at least this much; smaller pictures are brought up to it
VGG19_DROPOUT = 0.5


def convolutions(channels: int, repeats: tuple[int, ...], normalise: bool) -> nn.Sequential:
    """3x3 convolutions, `repeats` of them at 64, 128, 256, 512, 512 channels, halving after each width."""
    layers: list[nn.Module] = []
    for width, count in zip((64, 128, 256, 512, 512), repeats, strict=True):
        for _ in range(count):
            layers.append(nn.Conv2d(channels, width, 3, padding=1))
            if normalise:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU())
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


class VGG(nn.Module):
    """Convolutions, a mean down to side x side places, and linear layers."""

    def __init__(self, features: nn.Sequential, side: int, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(side)
        self.classifier = classifier
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.features(fit(pixels, SIDE))
        logits: Tensor = self.classifier(self.avgpool(x).flatten(1))
        return logits


def vgg16(section: ModelSettings, task: Task) -> nn.Module:
    """For CIFAR's 32x32. Settings: dropout (none) before the last layer."""
    accept(section, task, "classification", ("dropout",))
    features = convolutions(task.input_shape[0], (2, 2, 3, 3, 3), normalise=True)
    head = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Dropout(section.dropout), nn.Linear(512, task.classes))
    return VGG(features, 1, head)


def vgg19(section: ModelSettings, task: Task) -> nn.Module:
    """For ImageNet's 224x224. Settings: dropout (0.5) after each wide linear layer."""
    accept(section, task, "classification", ("dropout",))
    features = convolutions(task.input_shape[0], (2, 2, 4, 4, 4), normalise=False)
    dropout = section.dropout or VGG19_DROPOUT
    head = nn.Sequential(
        nn.Linear(512 * 7 * 7, 4096),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(4096, task.classes),
    )
    return VGG(features, 7, head)
