"""What the sparse optimizers share: gradients as lists of coordinates, and updates that touch nothing else.

Cost is O(listed coordinates), whatever the model's size. A dense gradient in `parameter.grad` is a list of everything.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch

SparseGradient = tuple[torch.Tensor, torch.Tensor]


class SparseOptimizer(torch.optim.Optimizer):
    """torch.optim-compatible: param groups, state_dict, step hooks, learning-rate schedulers.

    Parameters are contiguous float32 CPU tensors of any shape; indices count along the flattened one. Before a `step`,
    `assign` gives a parameter's gradient as (indices int32 ascending, values float32); where none was given, the dense
    `parameter.grad` is applied; a parameter that has neither is left as it is.
    """

    def __init__(self, parameters: Iterable[Any], defaults: dict[str, Any]) -> None:
        super().__init__(parameters, defaults)
        self._gradients: dict[int, SparseGradient] = {}

    def assign(self, parameter: torch.Tensor, indices: torch.Tensor, values: torch.Tensor) -> None:
        """Set the sparse gradient that the next `step` applies; `values` may be scaled in place by `clip_norm`."""
        self._gradients[id(parameter)] = (indices, values)

    def clip_norm(self, limit: float) -> None:
        """Scale the gradients of the next `step` so that their joint Euclidean norm is at most `limit`."""
        gradients = [self._values(p) for group in self.param_groups for p in group["params"]]
        present = [values for values in gradients if values is not None]
        norm = sum(float(values.double().square().sum()) for values in present) ** 0.5
        if norm > limit:
            for values in present:
                values.mul_(limit / norm)

    def _values(self, parameter: torch.Tensor) -> torch.Tensor | None:
        assigned = self._gradients.get(id(parameter))
        return parameter.grad if assigned is None else assigned[1]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                assigned = self._gradients.pop(id(parameter), None)
                if assigned is not None:
                    self._update(group, parameter, *assigned)
                elif parameter.grad is not None:
                    self._update(group, parameter, None, parameter.grad.contiguous().view(-1))
        return loss

    @abstractmethod
    def _update(
        self, group: dict[str, Any], parameter: torch.Tensor, indices: torch.Tensor | None, values: torch.Tensor
    ) -> None:
        """One step of one parameter; no indices: values of every coordinate."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """torch would make every tensor of the state a float one, but counters are whole numbers beyond float32's."""
        super().load_state_dict(state_dict)
        saved = state_dict["state"]
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        parameters = [p for group in self.param_groups for p in group["params"]]
        for number, parameter in zip(numbers, parameters, strict=True):
            for name, value in saved.get(number, {}).items():
                if isinstance(value, torch.Tensor) and not value.is_floating_point():
                    self.state[parameter][name] = value.clone()
