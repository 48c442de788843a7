"""CIFAR-10 (Krizhevsky, 2009) from its binary version: records of one label byte and 3 x 32 x 32 colour bytes.

The pickle version is not read: loading a pickle runs whatever code it holds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from toolkit.data.augment import pad_crop_flip
from toolkit.data.base import DataSettings, Images, Task, read_bytes, root_of
from toolkit.errors import UserError

RECORD = 1 + 3 * 32 * 32
TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST = "test_batch.bin"
FOLDERS = ("", "cifar-10-batches-bin", "cifar10", "cifar10/cifar-10-batches-bin")
EXPECTED = "data_batch_1.bin to data_batch_5.bin and test_batch.bin (cifar-10-binary.tar.gz, unpacked)"

# Mean and deviation of the training pictures' channels, scaled to [0, 1].
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)


def read_batch(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """One file's pixels (n, 3, 32, 32) uint8 and labels (n,) int64."""
    raw = np.frombuffer(read_bytes(path), dtype=np.uint8)
    if len(raw) == 0 or len(raw) % RECORD:
        raise UserError(f"{path}: {len(raw)} bytes; the CIFAR-10 binary version has records of {RECORD} bytes")
    records = raw.reshape(-1, RECORD)
    if records[:, 0].max() > 9:
        record = int(np.argmax(records[:, 0] > 9))
        raise UserError(f"{path}: record {record} has label {records[record, 0]}; CIFAR-10 has labels 0 to 9")
    pixels = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy())
    return pixels, torch.from_numpy(records[:, 0].astype(np.int64))


def find(section: DataSettings) -> Path:
    """The folder under data.root with the binary version; says so where only the pickle version is there."""
    root = root_of(section, EXPECTED)
    places = [root / folder for folder in FOLDERS]
    for place in places:
        if any((place / name).is_file() for name in (*TRAIN, TEST)):
            return place
    for place in (root, *(parent / "cifar-10-batches-py" for parent in (root, root / "cifar10"))):
        if (place / "data_batch_1").is_file():
            raise UserError(
                f"{place}: this is CIFAR-10's pickle version, not read because loading a pickle runs its code; "
                f"take the binary version, cifar-10-binary.tar.gz, from the same page and unpack it under {root}"
            )
    raise UserError(f"[data] root = '{section.root}': cifar10 expects {EXPECTED} in it or in its {FOLDERS[1]}")


def load(section: DataSettings, seed: int) -> Task:
    """50,000 training and 10,000 test pictures, (3, 32, 32); training pads by four, crops and flips."""
    place = find(section)
    missing = [name for name in (*TRAIN, TEST) if not (place / name).is_file()]
    if missing:
        raise UserError(f"{place}: {', '.join(missing)} missing; cifar10 expects {EXPECTED}")
    batches = [read_batch(place / name) for name in TRAIN]
    longest = max(len(labels) for _, labels in batches)
    for name, (_, labels) in zip(TRAIN, batches, strict=True):
        if len(labels) < longest:
            raise UserError(
                f"{place / name}: {len(labels)} pictures where other training files have {longest}: cut off?"
            )
    pixels = torch.cat([pixels for pixels, _ in batches])
    labels = torch.cat([labels for _, labels in batches])
    return Task(
        name="cifar10",
        train=Images(pixels, labels, MEAN, STD, pad_crop_flip),
        test=Images(*read_batch(place / TEST), MEAN, STD),
        kind="classification",
        classes=10,
        input_shape=(3, 32, 32),
    )
