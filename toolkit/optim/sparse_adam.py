"""Adam and AdamW that touch only the listed coordinates (StellaTrain, SIGCOMM 2024, section 4: CPU sparse optimizer).

Both moments of a coordinate decay only when it is listed. Their bias is corrected by the number of steps of the tensor,
as StellaTrain and torch.optim.SparseAdam do, or by the number of updates that the coordinate itself has had
(age = "element"): a coordinate that is listed first in step 1000 then takes a first step of the learning rate, as in
dense Adam, instead of one that is (1 - β1)/√(1 - β2), by default 3.2 times, as long. Both are dense Adam where every
coordinate is listed in every step.
"""

from __future__ import annotations

from typing import Any

import torch

import cext
from toolkit.experiment import OptimizerSection
from toolkit.optim.dense import adam_settings
from toolkit.optim.sparse import SparseOptimizer, refuse_unless


class SparseAdam(SparseOptimizer):
    """torch.optim.Adam's arguments and, on dense input, its numbers but for rounding. Weight decay is an L2 penalty.

    The two moments stand beside each other, state["moments"] float32 (n, 2), so that a listed coordinate costs a cache
    line less; parameters stay contiguous, as matrix products need them. ValueError as torch's.
    """

    decoupled = False

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        age: str = "step",
    ) -> None:
        refuse_unless(lr >= 0, f"learning rate: {lr}")
        refuse_unless(eps >= 0, f"epsilon value: {eps}")
        refuse_unless(weight_decay >= 0, f"weight_decay value: {weight_decay}")
        for number, beta in enumerate(betas):
            refuse_unless(0 <= beta < 1, f"beta parameter at index {number}: {beta}")
        refuse_unless(age in ("step", "element"), f"age: {age}: allowed are step, element")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "age": age})

    def _update(
        self, group: dict[str, Any], parameter: torch.Tensor, indices: torch.Tensor | None, values: torch.Tensor
    ) -> None:
        own, elements = self.state[parameter], parameter.numel()
        if not own:
            own["step"] = 0
            own["moments"] = torch.zeros(elements, 2)
            if group["age"] == "element":
                own["updates"] = torch.zeros(elements, dtype=torch.int32)
        own["step"] += 1
        updates = own.get("updates")
        cext.sparse_adam(
            parameter.detach().view(-1).numpy(),
            own["moments"].view(-1).numpy(),
            None if updates is None else updates.numpy(),
            None if indices is None else indices.numpy(),
            values.numpy(),
            step=own["step"],
            lr=float(group["lr"]),
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            epsilon=group["eps"],
            weight_decay=group["weight_decay"],
            decoupled=self.decoupled,
            threads=torch.get_num_threads(),
        )


class SparseAdamW(SparseAdam):
    """Weight decay shrinks the listed parameters themselves, as in torch.optim.AdamW (whose default is 0.01)."""

    decoupled = True


def sparse_adam(section: OptimizerSection, parameters: list[torch.nn.Parameter]) -> SparseAdam:
    """As an experiment file asks for it."""
    return SparseAdam(parameters, **adam_settings(section), age=section.age)


def sparse_adamw(section: OptimizerSection, parameters: list[torch.nn.Parameter]) -> SparseAdamW:
    """As an experiment file asks for it."""
    return SparseAdamW(parameters, **adam_settings(section), age=section.age)
