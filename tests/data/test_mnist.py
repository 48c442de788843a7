"""MNIST's IDX files, plain and gzipped."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from toolkit.data.mnist import MEAN, STD
from toolkit.errors import UserError


def idx(array: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes."""
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write(folder: Path, zipped: bool = False, dotted: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    arrays = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (6, 28, 28), dtype=np.uint8),
        "train-labels-idx1-ubyte": np.arange(6, dtype=np.uint8),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (3, 28, 28), dtype=np.uint8),
        "t10k-labels-idx1-ubyte": np.array([9, 0, 9], dtype=np.uint8),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        path = folder / (name.replace("-idx", ".idx") if dotted else name)
        if zipped:
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(idx(array)))
        else:
            path.write_bytes(idx(array))
    return arrays


@pytest.mark.parametrize(
    ("folder", "zipped", "dotted"),
    [("", False, False), ("", True, False), ("mnist", True, True), ("MNIST/raw", False, False)],
)
def test_pictures_and_labels_come_back(load, tmp_path, folder, zipped, dotted):
    arrays = write(tmp_path / folder, zipped, dotted)
    task = load("mnist", tmp_path)
    assert (task.kind, task.classes, task.input_shape) == ("classification", 10, (1, 28, 28))
    for examples, part in ((task.train, "train"), (task.test, "t10k")):
        pixels, labels = examples.batch(torch.arange(len(examples)), None)
        assert labels.tolist() == arrays[f"{part}-labels-idx1-ubyte"].tolist()
        back = ((pixels * STD[0] + MEAN[0]) * 255).round().numpy().astype(np.uint8)
        assert np.array_equal(back[:, 0], arrays[f"{part}-images-idx3-ubyte"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte", b"", "not an IDX file"),
        (
            "train-images-idx3-ubyte",
            idx(np.zeros((6, 28), dtype=np.uint8)),
            r"train-images-idx3-ubyte: not an IDX file .* 3 dimensions",
        ),
        ("train-images-idx3-ubyte", idx(np.zeros((6, 28, 28), dtype=np.uint8))[:-1], r"4719 bytes where .* 4720"),
        ("train-images-idx3-ubyte", idx(np.zeros((6, 27, 28), dtype=np.uint8)), "6 pictures of 27x28"),
        ("train-images-idx3-ubyte", idx(np.zeros((0, 28, 28), dtype=np.uint8)), "0 pictures"),
        ("train-labels-idx1-ubyte", idx(np.zeros(5, dtype=np.uint8)), "5 labels for the 6 pictures"),
        ("t10k-labels-idx1-ubyte", idx(np.array([0, 1, 10], dtype=np.uint8)), "label 10"),
        ("t10k-labels-idx1-ubyte", None, "t10k-labels-idx1-ubyte is missing"),
    ],
)
def test_spoilt_files_are_named(load, tmp_path, name, content, message):
    write(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        load("mnist", tmp_path)


@pytest.mark.parametrize("keep", [5, 40, -9])
def test_a_cut_gzip_file_is_named(load, tmp_path, keep):
    write(tmp_path, zipped=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz: not a whole gzip file"):
        load("mnist", tmp_path)
