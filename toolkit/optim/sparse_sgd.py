"""SGD that touches only the listed coordinates (StellaTrain, SIGCOMM 2024, section 4: CPU sparse optimizer).

Momentum of a coordinate decays only when it is listed, or, with lazy_decay, by momentum to the power of the steps since
it was last listed ("smart momentum").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

import cext
from toolkit.experiment import OptimizerSection
from toolkit.optim.sparse import SparseOptimizer


class SparseSGD(SparseOptimizer):
    """Equal to torch.optim.SGD where every coordinate is listed in every step, but for the rounding of float32."""

    def __init__(self, section: OptimizerSection, parameters: Iterable[Any], threads: int = 1) -> None:
        defaults = {
            "lr": section.learning_rate,
            "momentum": section.momentum,
            "nesterov": section.nesterov,
            "weight_decay": section.weight_decay,
            "lazy_decay": section.lazy_decay,
        }
        super().__init__(parameters, defaults)
        self.threads = threads
        self._everywhere = torch.empty(0, dtype=torch.int32)

    def _update(
        self, group: dict[str, Any], parameter: torch.Tensor, indices: torch.Tensor | None, values: torch.Tensor
    ) -> None:
        state = self.state[parameter]
        if group["momentum"] and not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
            state["last_touched"] = torch.full(parameter.shape, -1, dtype=torch.int32)
        state["step"] = state.get("step", 0) + 1
        momentum = state.get("momentum_buffer")
        touched = state.get("last_touched")
        cext.sparse_sgd(
            parameter.detach().view(-1).numpy(),
            None if momentum is None else momentum.view(-1).numpy(),
            None if touched is None else touched.view(-1).numpy(),
            (self._all(values.numel()) if indices is None else indices).numpy(),
            values.numpy(),
            step=state["step"],
            lr=group["lr"],
            momentum=group["momentum"],
            weight_decay=group["weight_decay"],
            nesterov=group["nesterov"],
            lazy_decay=group["lazy_decay"],
            threads=self.threads,
        )

    def _all(self, elements: int) -> torch.Tensor:
        """0, 1, … elements - 1, made once for the largest parameter."""
        if self._everywhere.numel() < elements:
            self._everywhere = torch.arange(elements, dtype=torch.int32)
        return self._everywhere[:elements]
