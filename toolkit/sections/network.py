"""[model] and [data]: what is trained, on what."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit import registry
from toolkit.keys import key


@dataclass(frozen=True)
class ModelSection:
    name: str = key("resnet20", "network", choices=registry.MODELS)
    hidden: int = key(0, "width of a language model; 0 takes the network's own", low=0)
    layers: int = key(0, "depth of a language model; 0 takes the network's own", low=0)
    heads: int = key(0, "attention heads of gpt; 0 takes the network's own", low=0)
    vocabulary: int = key(0, "words gpt has room for; 0 takes the data set's own number", low=0)
    dropout: float = key(0.0, "dropout probability", low=0.0, high=0.99)


@dataclass(frozen=True)
class DataSection:
    name: str = key("digits", "data set", choices=registry.DATASETS)
    root: str = key("data", "folder that holds the data sets which are not in every install")
    batch_size: int = key(32, "examples a worker and micro-batch", low=1)
    sequence: int = key(64, "characters or words a window, for language models", low=2)
