"""Pictures in class folders, ImageNet's usual layout: root/train/<class>/*.jpg and root/val/<class>/*.jpg (or png).

Pictures are decoded when a batch asks for them, never kept. The shorter side becomes 256 pixels; evaluation takes the
middle 224x224, training a random 224x224, mirrored half of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from toolkit.data.base import DataSettings, Examples, Task, root_of
from toolkit.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

SHORTER, SIDE = 256, 224
ENDINGS = {".jpg", ".jpeg", ".png"}
EXPECTED = "train/<class>/*.jpg and val/<class>/*.jpg (or .jpeg, .png)"

# ImageNet's mean and deviation by channel, scaled to [0, 1]; the values that published weights assume.
MEAN = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
STD = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)


def decode(path: Path, place: Callable[[int, int], tuple[int, int]]) -> Tensor:
    """The picture's 224x224 cut as standardised float32 (3, 224, 224).

    place: from the room left over (width, height), in pixels, to the cut's left and top.
    """
    from PIL import Image

    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: not a whole picture ({error})") from error
    return standardise(cut(picture, place))


def cut(picture: Image.Image, place: Callable[[int, int], tuple[int, int]]) -> Image.Image:
    """Bring the shorter side to 256 pixels and cut 224x224 where `place` says."""
    scale = SHORTER / min(picture.size)
    width, height = (max(SHORTER, round(scale * size)) for size in picture.size)
    left, top = place(width - SIDE, height - SIDE)
    return picture.resize((width, height)).crop((left, top, left + SIDE, top + SIDE))


def standardise(picture: Image.Image) -> Tensor:
    """(3, height, width) float32, by ImageNet's constants."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
    return (pixels - MEAN) / STD


class ImageFiles(Examples):
    """Pictures on disk with their labels."""

    def __init__(self, paths: list[Path], labels: list[int]) -> None:
        self.paths = paths
        self.labels = torch.tensor(labels, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        pictures = [self._picture(self.paths[i], generator) for i in indices.tolist()]
        return torch.stack(pictures), self.labels[indices]

    @staticmethod
    def _picture(path: Path, generator: torch.Generator | None) -> Tensor:
        if generator is None:
            return decode(path, lambda across, down: (across // 2, down // 2))
        x, y, mirror = torch.rand(3, generator=generator).tolist()
        pixels = decode(path, lambda across, down: (int(x * (across + 1)), int(y * (down + 1))))
        return pixels.flip(2) if mirror < 0.5 else pixels


def classes_of(folder: Path) -> list[str]:
    """The class folders' names, sorted; a label is its place in this list."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; imagefolder expects {EXPECTED} under data.root")
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())


def read_part(folder: Path, classes: list[str]) -> ImageFiles:
    """The pictures of `folder`, class by class and by name within a class."""
    strange = sorted(set(classes_of(folder)) - set(classes))
    if strange:
        raise UserError(f"{folder / strange[0]}: a class that the training folder does not have")
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():
            continue
        found = sorted(path for path in (folder / name).iterdir() if path.suffix.lower() in ENDINGS)
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise UserError(f"{folder}: no pictures; imagefolder expects {EXPECTED} under data.root")
    return ImageFiles(paths, labels)


def load(section: DataSettings, seed: int) -> Task:
    """(3, 224, 224) pictures, as many classes as root/train has folders."""
    root = root_of(section, EXPECTED)
    classes = classes_of(root / "train")
    return Task(
        name="imagefolder",
        train=read_part(root / "train", classes),
        test=read_part(root / "val", classes),
        kind="classification",
        classes=len(classes),
        input_shape=(3, SIDE, SIDE),
    )
