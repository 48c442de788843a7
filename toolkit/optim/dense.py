"""torch's own optimizers, made from an experiment file."""

from __future__ import annotations

from typing import Any

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
    return torch.optim.Adam(parameters, **adam_settings(section))


def adamw(section: OptimizerSection, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, **adam_settings(section))


def adam_settings(section: OptimizerSection) -> dict[str, Any]:
    """What Adam and AdamW, dense and sparse, take from an experiment file."""
    return {
        "lr": section.learning_rate,
        "betas": (section.beta1, section.beta2),
        "eps": section.epsilon,
        "weight_decay": section.weight_decay,
    }
