"""Optimizers: torch's own for dense gradients, sparse ones that touch only the listed coordinates."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from toolkit.experiment import OptimizerSection
from toolkit.optim.compiler import leave_compiler_unloaded
from toolkit.registry import OPTIMIZERS, resolve


def create(section: OptimizerSection, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer that the experiment file asks for."""
    leave_compiler_unloaded()
    optimizer: torch.optim.Optimizer = resolve(OPTIMIZERS[section.name])(section, list(parameters))
    return optimizer
