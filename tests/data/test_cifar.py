"""CIFAR-10's binary version, written here as its page describes it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from toolkit.data.cifar import MEAN, RECORD, STD, TEST, TRAIN
from toolkit.errors import UserError


def write(folder: Path, count: int = 4) -> np.ndarray:
    """Six files of `count` records; returns them, (6, count, 3073)."""
    records = np.random.default_rng(7).integers(0, 256, (6, count, RECORD), dtype=np.uint8)
    records[..., 0] %= 10
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in zip((*TRAIN, TEST), records, strict=True):
        part.tofile(folder / name)
    return records


@pytest.mark.parametrize("folder", ["", "cifar-10-batches-bin", "cifar10"])
def test_pictures_and_labels_come_back(load, tmp_path, folder):
    records = write(tmp_path / folder)
    task = load("cifar10", tmp_path)
    assert (task.kind, task.classes, task.input_shape) == ("classification", 10, (3, 32, 32))
    for examples, wanted in ((task.train, records[:5].reshape(-1, RECORD)), (task.test, records[5])):
        pixels, labels = examples.batch(torch.arange(len(examples)), None)
        assert labels.tolist() == wanted[:, 0].tolist()
        back = (pixels * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255
        # red, green, blue, each row by row
        assert np.array_equal(back.round().numpy().astype(np.uint8).reshape(-1, 3072), wanted[:, 1:])


def test_only_training_is_augmented(load, tmp_path):
    write(tmp_path)
    task = load("cifar10", tmp_path)
    indices = torch.arange(4)
    plain = task.train.batch(indices, None)[0]
    assert not torch.equal(task.train.batch(indices, torch.Generator().manual_seed(0))[0], plain)
    assert torch.equal(task.test.batch(indices, torch.Generator().manual_seed(0))[0], task.test.batch(indices, None)[0])


def test_the_pickle_version_is_refused_and_the_binary_one_named(load, tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(b"\x80\x02}.")
    with pytest.raises(UserError, match=rf"{folder}: .*pickle version.*cifar-10-binary.tar.gz"):
        load("cifar10", tmp_path)


def spoil_missing(folder: Path) -> None:
    (folder / "data_batch_3.bin").unlink()


def spoil_length(folder: Path) -> None:
    path = folder / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-1])


def spoil_count(folder: Path) -> None:
    path = folder / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-RECORD])


def spoil_label(folder: Path) -> None:
    path = folder / "test_batch.bin"
    raw = bytearray(path.read_bytes())
    raw[RECORD] = 10
    path.write_bytes(raw)


def spoil_empty(folder: Path) -> None:
    (folder / "test_batch.bin").write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_missing, r"data_batch_3\.bin missing"),
        (spoil_length, r"data_batch_2\.bin: 12291 bytes; .*records of 3073 bytes"),
        (spoil_count, r"data_batch_2\.bin: 3 pictures where other training files have 4"),
        (spoil_label, r"test_batch\.bin: record 1 has label 10"),
        (spoil_empty, r"test_batch\.bin: 0 bytes"),
    ],
)
def test_spoilt_files_are_named(load, tmp_path, spoil, message):
    write(tmp_path)
    spoil(tmp_path)
    with pytest.raises(UserError, match=message):
        load("cifar10", tmp_path)
