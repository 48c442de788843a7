"""A network as a table of its parameter tensors: what the simulator, and anyone who plans an exchange, needs to know.

The tables under exp_configs/networks are written here: `python -m toolkit describe --csv exp_configs/networks`.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from toolkit.data.base import Examples, Kind, Task
from toolkit.errors import UserError
from toolkit.models import build
from toolkit.models.tensors import Row, activation_bytes, describe
from toolkit.registry import MODELS, check_name

__all__ = [
    "STANDARD",
    "Description",
    "Row",
    "activation_bytes",
    "describe",
    "standard",
    "to_csv",
    "to_table",
    "write_csv",
]

COLUMNS = ("tensor", "module", "shape", "elements", "forward_flops")


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
    vocabulary: int = 0
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
    "resnet8": _CIFAR,
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
    try:
        path.write_text(to_csv(description), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


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


def main(argv: Sequence[str]) -> int:
    """`python -m toolkit describe [NETWORK …] [--csv FOLDER]`: tables on stdout, or one CSV file a network."""
    parser = argparse.ArgumentParser(
        prog="python -m toolkit describe",
        description="Tensors, sizes and arithmetic of networks on their standard data.",
    )
    parser.add_argument(
        "networks", nargs="*", metavar="NETWORK", help=f"{', '.join(STANDARD)}; all of them unless told"
    )
    parser.add_argument("--csv", type=Path, metavar="FOLDER", help="write FOLDER/NETWORK.csv instead")
    options = parser.parse_args(argv)
    for network in options.networks or STANDARD:
        description = standard(network)
        if options.csv is None:
            print(to_table(description))
        else:
            write_csv(description, options.csv / f"{network}.csv")
            print(options.csv / f"{network}.csv")
    return 0
