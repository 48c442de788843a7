"""What the sparse optimizers share: gradients as lists of coordinates, and updates that touch nothing else.

Cost is O(listed coordinates), whatever the model's size. A dense gradient in `parameter.grad` is a list of everything;
a sparse COO one (an embedding's) is the list of its rows' elements. Kernels take as many threads as torch does.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch

import cext

SparseGradient = tuple[torch.Tensor, torch.Tensor]


class SparseOptimizer(torch.optim.Optimizer):
    """torch.optim-compatible: param groups, state_dict, step hooks, learning-rate schedulers.

    Parameters are contiguous float32 CPU tensors of any shape; indices count along the flattened one. Before a `step`,
    `assign` gives a parameter's gradient as (indices int32 ascending, values float32); where none was given, the
    `parameter.grad` is applied; a parameter that has neither is left as it is.
    """

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)
        self._gradients: dict[int, SparseGradient] = {}
        self._paged: set[int] = set()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        for p in self.param_groups[-1]["params"]:
            if p.dtype != torch.float32 or p.device.type != "cpu" or not p.is_contiguous():
                kind = f"{'' if p.is_contiguous() else 'strided '}{p.dtype} on {p.device}"
                self.param_groups.pop()
                raise ValueError(f"{type(self).__name__} takes contiguous float32 parameters on the CPU, not {kind}")

    def assign(self, parameter: torch.Tensor, indices: torch.Tensor, values: torch.Tensor) -> None:
        """Set the sparse gradient that the next `step` applies; `values` may be scaled in place by `clip_norm`."""
        self._gradients[id(parameter)] = (indices, values)

    def clip_norm(self, limit: float) -> None:
        """Scale the gradients of the next `step` so that their joint Euclidean norm is at most `limit`."""
        gradients = [self._gradient(p) for group in self.param_groups for p in group["params"]]
        present = [gradient[1] for gradient in gradients if gradient is not None]
        norm = sum(float(values.double().square().sum()) for values in present) ** 0.5
        if norm > limit:
            for values in present:
                values.mul_(limit / norm)

    def _gradient(self, parameter: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor] | None:
        """The listed coordinates (None: all) and their values, one-dimensional, of the next step."""
        assigned = self._gradients.get(id(parameter))
        if assigned is not None or parameter.grad is None:
            return assigned
        if parameter.grad.is_sparse:
            self._gradients[id(parameter)] = listed(parameter.grad)
            return self._gradients[id(parameter)]
        if not parameter.grad.is_contiguous():
            parameter.grad = parameter.grad.contiguous()
        return None, parameter.grad.view(-1)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = self._gradient(parameter)
                self._gradients.pop(id(parameter), None)
                if gradient is not None:
                    self._update(group, parameter, *gradient)
                    self._page(parameter)
        return loss

    def _page(self, parameter: torch.Tensor) -> None:
        """Once: huge pages for the parameter and its state, whose scattered places then cost half the time."""
        if id(parameter) in self._paged:
            return
        self._paged.add(id(parameter))
        for tensor in (parameter.detach(), *self.state[parameter].values()):
            if isinstance(tensor, torch.Tensor):
                cext.huge_pages(tensor.view(-1).numpy())

    @abstractmethod
    def _update(
        self, group: dict[str, Any], parameter: torch.Tensor, indices: torch.Tensor | None, values: torch.Tensor
    ) -> None:
        """One step of one parameter; no indices: values of every coordinate."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """torch would make every tensor of the state a float one, but counters are whole numbers beyond float32's."""
        super().load_state_dict(state_dict)
        self._paged.clear()
        saved = state_dict["state"]
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        parameters = [p for group in self.param_groups for p in group["params"]]
        for number, parameter in zip(numbers, parameters, strict=True):
            for name, value in saved.get(number, {}).items():
                if isinstance(value, torch.Tensor) and not value.is_floating_point():
                    self.state[parameter][name] = value.clone()


def listed(gradient: torch.Tensor) -> SparseGradient:
    """A sparse COO gradient as a list of coordinates: its places are whole slices of the last, dense dimensions."""
    gradient = gradient.coalesce()
    if gradient.numel() > 2**31 - 1:
        raise ValueError(f"a sparse gradient of {gradient.numel()} elements: int32 indices reach 2147483647")
    sizes = gradient.shape[: gradient.sparse_dim()]
    slice_elements = gradient.numel() // max(1, sizes.numel())
    places = torch.zeros(gradient._nnz(), dtype=torch.int64)
    for size, index in zip(sizes, gradient.indices(), strict=True):
        places = places * size + index
    places = places[:, None] * slice_elements + torch.arange(slice_elements)
    return places.view(-1).int(), gradient.values().reshape(-1)


def refuse_unless(allowed: bool, setting: str) -> None:
    """ValueError in torch.optim's words."""
    if not allowed:
        raise ValueError(f"Invalid {setting}")
