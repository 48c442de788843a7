"""What every data set gives a trainer: a Task with training and test examples.

Examples are addressed by index, so that a sampler alone decides who sees what, on which rank and in which order;
whatever is random about an example (crop, flip) is drawn from the generator the caller passes, so that a resumed run
repeats it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from toolkit.errors import UserError

Kind = Literal["classification", "language"]
Augment = Callable[[Tensor, torch.Generator], Tensor]


class DataSettings(Protocol):
    """The part of an experiment's [data] section that loaders read; sequence 0 means the data set's own default."""

    @property
    def name(self) -> str: ...
    @property
    def root(self) -> str: ...
    @property
    def sequence(self) -> int: ...


class Examples(ABC):
    """A fixed, ordered set of examples, read by index."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, indices: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the int64 `indices`, in their order.

        A generator means training: augmentation is allowed and drawn only from it. None means evaluation: no chance.
        Classification gives float32 (batch, channels, height, width) and int64 (batch,); language gives int64
        (batch, sequence) twice, the targets being the inputs one place later.
        """


@dataclass(frozen=True)
class Task:
    """A data set as a trainer sees it.

    input_shape: one example without the batch, (channels, height, width) or (sequence,).
    classes: labels, or vocabulary.
    """

    name: str
    train: Examples
    test: Examples
    kind: Kind
    classes: int
    input_shape: tuple[int, ...]


class Images(Examples):
    """Labelled pictures in memory, stored as bytes or floats and standardised when read.

    pixels: (n, channels, height, width), uint8 (then scaled to [0, 1] first) or float32. labels: (n,) int64.
    mean, std: one number a channel, applied after the scaling.
    augment: of the standardised float batch, training only; a border it pads with zeros is therefore the mean colour.
    """

    def __init__(
        self,
        pixels: Tensor,
        labels: Tensor,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        augment: Augment | None = None,
    ) -> None:
        assert len(pixels) == len(labels)
        assert labels.dtype == torch.int64
        self.pixels = pixels
        self.labels = labels
        self.mean = torch.tensor(mean).view(1, -1, 1, 1)
        self.std = torch.tensor(std).view(1, -1, 1, 1)
        self.augment = augment

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        pixels = self.pixels[indices]
        if pixels.dtype == torch.uint8:
            pixels = pixels.float() / 255
        pixels = (pixels - self.mean) / self.std
        if generator is not None and self.augment is not None:
            pixels = self.augment(pixels, generator)
        return pixels, self.labels[indices]


class Windows(Examples):
    """A long text cut into consecutive windows that do not overlap; a tail shorter than a window is left out.

    ids: (n,) integers below the vocabulary. Every window starts from an empty state: examples are independent, so that
    they can be shuffled and dealt out to workers like pictures. (Carrying an LSTM's state from batch to batch, as some
    PTB recipes do, would tie each worker to one stretch of the text.)
    """

    def __init__(self, ids: Tensor, sequence: int) -> None:
        self.ids = ids
        self.sequence = sequence

    def __len__(self) -> int:
        return max(0, (len(self.ids) - 1) // self.sequence)

    def batch(self, indices: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        places = indices[:, None] * self.sequence + torch.arange(self.sequence + 1)
        window = self.ids[places].long()
        return window[:, :-1], window[:, 1:]


def windows(name: str, part: str, ids: Tensor, sequence: int) -> Windows:
    """Windows over `ids`, refusing a text too short to fill even one."""
    examples = Windows(ids, sequence)
    if len(examples) == 0:
        raise UserError(
            f"[data] sequence = {sequence}: the {part} text of {name} has {len(ids)} tokens, which fill no window of "
            f"sequence + 1; allowed are 1 to {max(1, len(ids) - 1)}"
        )
    return examples


def sequence_of(section: DataSettings, default: int) -> int:
    """The section's window length, or the data set's default where it says 0."""
    if section.sequence < 0:
        raise UserError(f"[data] sequence = {section.sequence}: allowed are positive lengths, or 0 for {default}")
    return section.sequence or default


def root_of(section: DataSettings, expected: str) -> Path:
    """The section's data folder; `expected` says what should lie there, for the message when it is not a folder."""
    if not section.root:
        raise UserError(f"[data] root = '': {section.name} needs a folder holding {expected}")
    root = Path(section.root).expanduser()
    if not root.is_dir():
        raise UserError(f"[data] root = '{section.root}': no such folder; {section.name} expects {expected} in it")
    return root


def read_bytes(path: Path) -> bytes:
    """The file's bytes; an unreadable file is the user's to mend."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
