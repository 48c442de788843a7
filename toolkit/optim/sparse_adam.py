"""Adam and AdamW that touch only the listed coordinates (StellaTrain, SIGCOMM 2024, section 4: CPU sparse optimizer).

Both moments of a coordinate decay only when it is listed. Their bias is corrected by the number of steps of the tensor,
as StellaTrain does, or by the number of updates that the coordinate itself has had (age = "element"): a coordinate that
is listed first in step 1000 then takes a first step of the learning rate, as in dense Adam, instead of one that is
(1 - β1)/√(1 - β2), by default 3.2 times, as long. Both are dense Adam where every coordinate is listed in every step.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

import cext
from toolkit.experiment import OptimizerSection
from toolkit.optim.sparse import SparseOptimizer


class SparseAdam(SparseOptimizer):
    """Weight decay is an L2 penalty, as in torch.optim.Adam.

    The two moments stand beside each other, state["moments"] float32 (n, 2), so that a listed coordinate costs a
    cache line less; parameters stay where they are, views of a flat vector.
    """

    decoupled = False

    def __init__(self, section: OptimizerSection, parameters: Iterable[Any], threads: int = 1) -> None:
        defaults = {
            "lr": section.learning_rate,
            "betas": (section.beta1, section.beta2),
            "eps": section.epsilon,
            "weight_decay": section.weight_decay,
            "age": section.age,
        }
        super().__init__(parameters, defaults)
        self.threads = threads

    def _update(
        self, group: dict[str, Any], parameter: torch.Tensor, indices: torch.Tensor | None, values: torch.Tensor
    ) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["moments"] = torch.zeros(parameter.numel(), 2)
            if group["age"] == "element":
                state["updates"] = torch.zeros(parameter.numel(), dtype=torch.int32)
        state["step"] += 1
        updates = state.get("updates")
        cext.adam_pairs(
            parameter.detach().view(-1).numpy(),
            state["moments"].view(-1).numpy(),
            None if updates is None else updates.numpy(),
            None if indices is None else indices.numpy(),
            values.numpy(),
            step=state["step"],
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            epsilon=group["eps"],
            weight_decay=group["weight_decay"],
            decoupled=self.decoupled,
            threads=self.threads,
        )


class SparseAdamW(SparseAdam):
    """Weight decay shrinks the listed parameters themselves, as in torch.optim.AdamW."""

    decoupled = True
