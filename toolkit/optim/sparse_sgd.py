"""SGD that touches only the listed coordinates (StellaTrain, SIGCOMM 2024, section 4: CPU sparse optimizer).

Momentum of a coordinate decays only when it is listed, or, with lazy_decay, by momentum to the power of the steps since
it was last listed ("smart momentum").
"""

from __future__ import annotations

from typing import Any

import torch

import cext
from toolkit.experiment import OptimizerSection
from toolkit.optim.sparse import SparseOptimizer, refuse_unless


class SparseSGD(SparseOptimizer):
    """torch.optim.SGD's arguments and, where every coordinate is listed in every step, its numbers but for rounding.

    lazy_decay: momentum also decays for the steps in which a coordinate was not listed. ValueError as torch's.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        lazy_decay: bool = False,
    ) -> None:
        refuse_unless(lr >= 0, f"learning rate: {lr}")
        refuse_unless(momentum >= 0, f"momentum value: {momentum}")
        refuse_unless(weight_decay >= 0, f"weight_decay value: {weight_decay}")
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        if lazy_decay and momentum == 0:
            raise ValueError("lazy_decay requires a momentum")
        settings = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, settings | {"nesterov": nesterov, "lazy_decay": lazy_decay})

    def _update(
        self, group: dict[str, Any], parameter: torch.Tensor, indices: torch.Tensor | None, values: torch.Tensor
    ) -> None:
        own = self.state[parameter]
        if group["momentum"] and "momentum_buffer" not in own:
            own["momentum_buffer"] = torch.zeros(parameter.shape)
        if group["momentum"] and (group["lazy_decay"] or group["dampening"]) and "last_touched" not in own:
            own["last_touched"] = torch.full(parameter.shape, -1, dtype=torch.int32)
        own["step"] = own.get("step", 0) + 1
        momentum, touched = own.get("momentum_buffer"), own.get("last_touched")
        cext.sparse_sgd(
            parameter.detach().view(-1).numpy(),
            None if momentum is None else momentum.view(-1).numpy(),
            None if touched is None else touched.view(-1).numpy(),
            None if indices is None else indices.numpy(),
            values.numpy(),
            step=own["step"],
            lr=float(group["lr"]),
            momentum=group["momentum"],
            dampening=group["dampening"],
            weight_decay=group["weight_decay"],
            nesterov=group["nesterov"],
            lazy_decay=group["lazy_decay"],
            threads=torch.get_num_threads(),
        )


def sparse_sgd(section: OptimizerSection, parameters: list[torch.nn.Parameter]) -> SparseSGD:
    """As an experiment file asks for it."""
    return SparseSGD(
        parameters,
        lr=section.learning_rate,
        momentum=section.momentum,
        weight_decay=section.weight_decay,
        nesterov=section.nesterov,
        lazy_decay=section.lazy_decay,
    )
