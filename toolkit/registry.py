"""Names a user may write in an experiment file, and where each one's code lives.

Adding a network, data set, compressor, exchange or optimizer is one file and one line here. The targets are strings
("module:attribute"), so that reading a name never imports torch: the simulator checks the same names.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from toolkit.errors import UserError


@dataclass(frozen=True)
class CompressorEntry:
    """A compressor: its class, and the facts about its payload that a simulator needs.

    wire: "dense" payloads travel by allreduce, "sparse" ones (index and value a coordinate) by sparse exchanges,
    "linear" ones (values alone, added up as they are) by rounds of allreduce. value_bytes: bytes of one value on the
    wire. exact_count: whether a payload holds exactly max(1, floor(n*density)).
    """

    target: str
    wire: str = "sparse"
    value_bytes: int = 4
    exact_count: bool = True


@dataclass(frozen=True)
class ExchangeEntry:
    """An exchange: its class, and the wire of the payloads that it carries."""

    target: str
    wire: str = "sparse"


MODELS: dict[str, str] = {
    "fcn5": "toolkit.models.fcn:fcn5",
    "lenet": "toolkit.models.lenet:lenet",
    "resnet8": "toolkit.models.resnet_cifar:resnet8",
    "resnet20": "toolkit.models.resnet_cifar:resnet20",
    "resnet56": "toolkit.models.resnet_cifar:resnet56",
    "resnet110": "toolkit.models.resnet_cifar:resnet110",
    "vgg16": "toolkit.models.vgg:vgg16",
    "vgg19": "toolkit.models.vgg:vgg19",
    "resnet50": "toolkit.models.resnet_imagenet:resnet50",
    "lstm": "toolkit.models.lstm:lstm",
    "charlstm": "toolkit.models.lstm:charlstm",
    "gpt": "toolkit.models.gpt:gpt",
}

DATASETS: dict[str, str] = {
    "digits": "toolkit.data.digits:load",
    "pysource": "toolkit.data.pysource:load",
    "mnist": "toolkit.data.mnist:load",
    "cifar10": "toolkit.data.cifar:load",
    "ptb": "toolkit.data.ptb:load",
    "imagefolder": "toolkit.data.imagefolder:load",
}

COMPRESSORS: dict[str, CompressorEntry] = {
    "none": CompressorEntry("toolkit.compression.dense:Dense", wire="dense"),
    "fp16": CompressorEntry("toolkit.compression.dense:Half", wire="dense", value_bytes=2),
    "bf16": CompressorEntry("toolkit.compression.dense:BFloat16", wire="dense", value_bytes=2),
    "topk": CompressorEntry("toolkit.compression.topk:TopK"),
    "randomk": CompressorEntry("toolkit.compression.randomk:RandomK", wire="linear"),
    "randomk-independent": CompressorEntry("toolkit.compression.randomk:IndependentRandomK"),
    "powersgd": CompressorEntry("toolkit.compression.powersgd:PowerSGD", wire="linear", exact_count=False),
    "threshold": CompressorEntry("toolkit.compression.threshold:Threshold", exact_count=False),
    "threshold-v": CompressorEntry("toolkit.compression.thresholdv:ThresholdV"),
    "thresholdv16": CompressorEntry("toolkit.compression.thresholdv:ThresholdV16", exact_count=False),
    "dgc": CompressorEntry("toolkit.compression.dgc:DGC", exact_count=False),
    "redsync": CompressorEntry("toolkit.compression.redsync:RedSync", exact_count=False),
    "redsync-trimmed": CompressorEntry("toolkit.compression.redsync:RedSyncTrimmed"),
    "gaussiank": CompressorEntry("toolkit.compression.gaussiank:GaussianK", exact_count=False),
    "sidco-e": CompressorEntry("toolkit.compression.sidco:SidcoE", exact_count=False),
    "sidco-p": CompressorEntry("toolkit.compression.sidco:SidcoP", exact_count=False),
    "sidco-gp": CompressorEntry("toolkit.compression.sidco:SidcoGP", exact_count=False),
}

EXCHANGES: dict[str, ExchangeEntry] = {  # the first of a wire is what "auto" stands for
    "dense": ExchangeEntry("toolkit.exchange.dense:DenseAllreduce", wire="dense"),
    "linear": ExchangeEntry("toolkit.exchange.linear:LinearAllreduce", wire="linear"),
    "allgather": ExchangeEntry("toolkit.exchange.allgather:SparseAllgather"),
    "gtopk": ExchangeEntry("toolkit.exchange.gtopk:GTopK"),
    "oktopk": ExchangeEntry("toolkit.exchange.oktopk:OkTopk"),
}

OPTIMIZERS: dict[str, str] = {
    "sgd": "toolkit.optim.dense:sgd",
    "adam": "toolkit.optim.dense:adam",
    "adamw": "toolkit.optim.dense:adamw",
    "sparse-sgd": "toolkit.optim.sparse_sgd:sparse_sgd",
    "sparse-adam": "toolkit.optim.sparse_adam:sparse_adam",
    "sparse-adamw": "toolkit.optim.sparse_adam:sparse_adamw",
}


def exchanges_of(compressor: str) -> list[str]:
    """The exchanges that carry a compressor's payloads; the first is the automatic one."""
    wire = COMPRESSORS[compressor].wire
    return [name for name, entry in EXCHANGES.items() if entry.wire == wire]


def resolve(target: str) -> Any:
    """Import "module:attribute" and return the attribute."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A hint "; did you mean 'x'?" for a misspelt name, or an empty string where nothing is near."""
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


def check_name(where: str, name: str, allowed: Iterable[str]) -> str:
    """Return `name` if it is one of `allowed`, else raise UserError with the nearest known name."""
    names = list(allowed)
    if name not in names:
        raise UserError(f"{where} = '{name}': allowed are {', '.join(names)}{nearest(name, names)}")
    return name
