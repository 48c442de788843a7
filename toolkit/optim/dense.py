"""torch's own optimizers, made from an experiment file."""

from __future__ import annotations

import torch

from toolkit.experiment import OptimizerSection


def sgd(section: OptimizerSection, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        parameters,
        lr=section.learning_rate,
        momentum=section.momentum,
        nesterov=section.nesterov,
        weight_decay=section.weight_decay,
    )


def adam(section: OptimizerSection, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=section.learning_rate, weight_decay=section.weight_decay)
