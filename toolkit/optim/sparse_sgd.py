"""SGD that touches only the listed coordinates (StellaTrain, SIGCOMM 2024, section 4: CPU sparse optimizer).

Momentum of a coordinate decays only when it is listed. Cost is O(listed coordinates), whatever the model's size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import cext
from toolkit.experiment import OptimizerSection


class SparseSGD(torch.optim.Optimizer):
    """torch.optim-compatible: param groups, state_dict, step hooks.

    Parameters are contiguous float32 CPU tensors. Before each `step`, `assign` gives a parameter's gradient as
    (indices int32 ascending, values float32); a parameter that got none is left as it is.
    """

    def __init__(self, section: OptimizerSection, parameters: list[torch.nn.Parameter]) -> None:
        defaults = {
            "lr": section.learning_rate,
            "momentum": section.momentum,
            "nesterov": section.nesterov,
            "weight_decay": section.weight_decay,
        }
        super().__init__(parameters, defaults)
        self._gradients: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def assign(self, parameter: torch.Tensor, indices: torch.Tensor, values: torch.Tensor) -> None:
        """Set the sparse gradient that the next `step` applies."""
        self._gradients[id(parameter)] = (indices, values)

    def clip_norm(self, limit: float) -> None:
        """Scale the assigned gradients so that their joint Euclidean norm is at most `limit`."""
        norm = sum(float(values.double().square().sum()) for _, values in self._gradients.values()) ** 0.5
        if norm > limit:
            for _, values in self._gradients.values():
                values.mul_(limit / norm)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = self._gradients.pop(id(parameter), None)
                if gradient is not None:
                    self._update(group, parameter, *gradient)

    def _update(
        self, group: dict[str, Any], parameter: torch.Tensor, indices: torch.Tensor, values: torch.Tensor
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
            indices.numpy(),
            values.numpy(),
            step=state["step"],
            lr=group["lr"],
            momentum=group["momentum"],
            weight_decay=group["weight_decay"],
            nesterov=group["nesterov"],
        )
