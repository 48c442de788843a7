"""The parameter tensors of a network in the order of its forward pass, each with the arithmetic that is done at it.

Arithmetic is counted by torch's own flop counter: 2 for each multiply-add of matrix products, convolutions and
attention; normalisations, activations and additions count nothing. A pass backward costs about twice the forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Row:
    """One parameter tensor. module: the class that owns it. forward_flops: of the example that was shown."""

    tensor: str
    module: str
    shape: tuple[int, ...]
    elements: int
    forward_flops: int


class _Ledger:
    """Follows a forward pass: which parameters come next, and whose the latest arithmetic was."""

    def __init__(self, module: nn.Module, counter: FlopCounterMode) -> None:
        self.names = {id(parameter): name for name, parameter in module.named_parameters()}
        self.counter = counter
        self.tensors: list[tuple[str, str, Tensor]] = []
        self.flops: list[int] = []
        self.stack: list[int] = []  # for each module being run, the row its arithmetic goes to
        self.counted = 0

    def enter(self, module: nn.Module, *_: Any) -> None:
        self.settle()
        first = len(self.tensors)
        for parameter in module.parameters(recurse=False):
            name = self.names.pop(id(parameter), None)  # a shared tensor is listed where it is met first
            if name is not None:
                self.tensors.append((name, type(module).__name__, parameter))
                self.flops.append(0)
        # without tensors of its own: the tensor before it, so that rows stay in the order of the work
        self.stack.append(first if len(self.tensors) > first else max(0, first - 1))

    def leave(self, *_: Any) -> None:
        self.settle()
        self.stack.pop()

    def settle(self) -> None:
        total = self.counter.get_total_flops()
        if total > self.counted:
            self.flops[self.stack[-1]] += total - self.counted
            self.counted = total


def describe(module: nn.Module, example: Tensor) -> list[Row]:
    """One row a parameter tensor, in the order of the forward pass.

    example: a batch of inputs on the module's device; the meta device costs no memory. The arithmetic of a module
    stands at its first tensor; that of a module without tensors of its own (attention, a shared output layer) at the
    tensor before it. Parameters that the pass does not touch come last. The module is left as it was.
    """
    training = module.training
    counter = FlopCounterMode(display=False)
    ledger = _Ledger(module, counter)
    hooks = []
    for part in module.modules():
        hooks.append(part.register_forward_pre_hook(ledger.enter))
        hooks.append(part.register_forward_hook(ledger.leave))
    try:
        module.eval()
        with torch.no_grad(), counter:
            module(example)
    finally:
        for hook in hooks:
            hook.remove()
        module.train(training)
    rows = [
        Row(name, owner, tuple(tensor.shape), tensor.numel(), flops)
        for (name, owner, tensor), flops in zip(ledger.tensors, ledger.flops, strict=True)
    ]
    for name, tensor in module.named_parameters():
        if id(tensor) in ledger.names:
            rows.append(Row(name, "unused", tuple(tensor.shape), tensor.numel(), 0))
    return rows


def activation_bytes(module: nn.Module, example: Tensor) -> int:
    """Bytes that autograd keeps for the backward pass of `example`, each storage once, parameters not counted.

    Runs the module forward in its present mode: in training mode, running statistics move.
    """
    parameters = {parameter.untyped_storage()._cdata for parameter in module.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in parameters:
            kept[storage] = tensor  # holding it keeps the address from being used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(example)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
