"""A network as a list of parameter tensors: what the simulator, and anyone who plans an exchange, needs to know of it.

Arithmetic is counted by torch's own flop counter: 2 for each multiply-add of matrix products, convolutions and
attention; normalisations, activations and additions count nothing. A pass backward costs about twice the forward.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from toolkit.data.base import Examples, Kind, Task
from toolkit.models import build
from toolkit.registry import MODELS, check_name

COLUMNS = ("tensor", "module", "shape", "elements", "forward_flops")


@dataclass(frozen=True)
class Row:
    """One parameter tensor. module: the class that owns it. forward_flops: of the example that was shown."""

    tensor: str
    module: str
    shape: tuple[int, ...]
    elements: int
    forward_flops: int


@dataclass(frozen=True)
class Description:
    """A network on its standard data at batch 1.

    activation_bytes: what autograd keeps of one example for the backward pass, parameters not counted (torch's
    reference path; an optimised kernel may keep more or less).
    """

    network: str
    data: str
    input_shape: tuple[int, ...]
    classes: int
    activation_bytes: int
    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        return sum(row.elements for row in self.rows)

    @property
    def forward_flops(self) -> int:
        return sum(row.forward_flops for row in self.rows)


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


class _NoExamples(Examples):
    """A task's shape without its data: enough to build a network."""

    def __len__(self) -> int:
        return 0

    def batch(self, indices: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        raise IndexError("a shape has no examples")


@dataclass(frozen=True)
class _Defaults:
    """A [model] section in which everything but the name is the network's own default."""

    name: str
    hidden: int = 0
    layers: int = 0
    heads: int = 0
    dropout: float = 0.0


def _shape(name: str, kind: Kind, classes: int, input_shape: tuple[int, ...]) -> Task:
    return Task(name, _NoExamples(), _NoExamples(), kind, classes, input_shape)


_CIFAR = _shape("cifar10", "classification", 10, (3, 32, 32))
_MNIST = _shape("mnist", "classification", 10, (1, 28, 28))
_IMAGENET = _shape("imagefolder", "classification", 1000, (3, 224, 224))
_PTB = _shape("ptb", "language", 10_000, (35,))
_PYSOURCE = _shape("pysource", "language", 98, (64,))

STANDARD: dict[str, Task] = {
    "fcn5": _MNIST,
    "lenet": _MNIST,
    "resnet20": _CIFAR,
    "resnet56": _CIFAR,
    "resnet110": _CIFAR,
    "vgg16": _CIFAR,
    "vgg19": _IMAGENET,
    "resnet50": _IMAGENET,
    "lstm": _PTB,
    "charlstm": _PYSOURCE,
    "gpt": _PYSOURCE,
}


def standard(network: str) -> Description:
    """Describe a network by name, on its standard data's shape, without its data and without memory."""
    task = STANDARD[check_name("network", network, MODELS)]
    with torch.device("meta"):
        module = build(_Defaults(network), task)
        kind = torch.int64 if task.kind == "language" else torch.float32
        example = torch.zeros((1, *task.input_shape), dtype=kind)
        rows = tuple(describe(module, example))
        kept = activation_bytes(module, example)
    return Description(network, task.name, task.input_shape, task.classes, kept, rows)


def _across(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def to_csv(description: Description) -> str:
    """A comment line of key=value facts, then one line a tensor under COLUMNS."""
    text = io.StringIO()
    facts = {
        "network": description.network,
        "data": description.data,
        "input": _across(description.input_shape),
        "classes": description.classes,
        "batch": 1,
        "parameters": description.parameters,
        "forward_flops": description.forward_flops,
        "activation_bytes": description.activation_bytes,
    }
    text.write("# " + " ".join(f"{key}={value}" for key, value in facts.items()) + "\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in description.rows:
        writer.writerow((row.tensor, row.module, _across(row.shape), row.elements, row.forward_flops))
    return text.getvalue()


def write_csv(description: Description, path: Path) -> None:
    """Write what the simulator reads as exp_configs/networks/<network>.csv."""
    path.write_text(to_csv(description), encoding="utf-8")


def to_table(description: Description) -> str:
    """The same facts for a reader at a terminal."""
    width = max(len(row.tensor) for row in description.rows)
    lines = [
        f"{description.network} on {description.data}: input {_across(description.input_shape)}, "
        f"{description.classes} classes, {description.parameters:,} parameters in {len(description.rows)} tensors, "
        f"{description.forward_flops / 1e6:,.1f} Mflop forward and {description.activation_bytes:,} bytes "
        "of activations an example",
        f"{'tensor':<{width}}  {'module':<12} {'shape':>16} {'elements':>12} {'forward flops':>16}",
    ]
    for row in description.rows:
        shape = _across(row.shape)
        lines.append(
            f"{row.tensor:<{width}}  {row.module:<12} {shape:>16} {row.elements:>12,} {row.forward_flops:>16,}"
        )
    return "\n".join(lines)
