"""MNIST (LeCun et al., 1998) from its IDX files, plain or gzipped."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch

from toolkit.data.base import DataSettings, Images, Task, read_bytes, root_of
from toolkit.errors import UserError

FOLDERS = ("", "mnist", "MNIST/raw")
EXPECTED = (
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (or .gz)"
)

# Mean and deviation of the training pixels, scaled to [0, 1].
MEAN = (0.1307,)
STD = (0.3081,)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The uint8 array of an IDX file: two zero bytes, type 8, the number of dimensions, big-endian sizes, data."""
    raw = read_bytes(path)
    if path.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{path}: not a whole gzip file ({error})") from error
    header = 4 + 4 * dimensions
    if len(raw) < header or raw[:4] != bytes((0, 0, 8, dimensions)):
        raise UserError(f"{path}: not an IDX file of unsigned bytes in {dimensions} dimensions")
    shape = tuple(int(size) for size in np.frombuffer(raw, dtype=">u4", count=dimensions, offset=4))
    wanted = header + int(np.prod(shape, dtype=np.int64))
    if len(raw) != wanted:
        raise UserError(f"{path}: {len(raw)} bytes where its header promises {wanted}")
    return np.frombuffer(raw, dtype=np.uint8, offset=header).reshape(shape)


def find(section: DataSettings, stem: str) -> Path:
    """The file under data.root, under any of the names it is handed round by."""
    root = root_of(section, EXPECTED)
    for folder in FOLDERS:
        for name in (stem, stem.replace("-idx", ".idx")):
            for ending in ("", ".gz"):
                path = root / folder / (name + ending)
                if path.is_file():
                    return path
    raise UserError(f"[data] root = '{section.root}': {stem} is missing; mnist expects {EXPECTED}")


def read_part(section: DataSettings, part: str) -> Images:
    """part: "train" or "t10k"."""
    pictures, labels = find(section, f"{part}-images-idx3-ubyte"), find(section, f"{part}-labels-idx1-ubyte")
    pixels, classes = read_idx(pictures, 3), read_idx(labels, 1)
    if pixels.shape[1:] != (28, 28) or len(pixels) == 0:
        raise UserError(
            f"{pictures}: {pixels.shape[0]} pictures of {pixels.shape[1]}x{pixels.shape[2]}; MNIST's are 28x28"
        )
    if len(pixels) != len(classes):
        raise UserError(f"{labels}: {len(classes)} labels for the {len(pixels)} pictures of {pictures.name}")
    if classes.max() > 9:
        raise UserError(f"{labels}: label {classes.max()}; MNIST has labels 0 to 9")
    return Images(torch.from_numpy(pixels.copy())[:, None], torch.from_numpy(classes.astype(np.int64)), MEAN, STD)


def load(section: DataSettings, seed: int) -> Task:
    """60,000 training and 10,000 test pictures, (1, 28, 28)."""
    return Task(
        name="mnist",
        train=read_part(section, "train"),
        test=read_part(section, "t10k"),
        kind="classification",
        classes=10,
        input_shape=(1, 28, 28),
    )
