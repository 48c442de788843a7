"""scikit-learn's handwritten digits: 1,797 grey pictures of 8x8 in ten classes, part of every install.

Source: the test part of "Optical Recognition of Handwritten Digits" (UCI), as shipped by sklearn.datasets.load_digits.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch

from toolkit.data.base import DataSettings, Images, Task
from toolkit.errors import UserError

# The split is part of the data set, not of the experiment: accuracies at different seeds are over the same pictures.
SPLIT_SEED = 20210405
TEST_SHARE = 0.2
FILE = "datasets/data/digits.csv.gz"  # in scikit-learn's package
LEVELS = 16.0  # pixels are counts of set points in a 4x4 block, 0 to 16


def stratified_split(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted train and test indices that keep each class's share: round(share * count) of every class is test."""
    rng = np.random.default_rng(seed)
    test = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        test.append(rng.permutation(members)[: round(share * len(members))])
    held_out = np.sort(np.concatenate(test))
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def read() -> tuple[np.ndarray, np.ndarray]:
    """Pictures (1797, 8, 8) and their classes.

    From scikit-learn's file: importing scikit-learn as well takes every rank 1.7 s, almost as long as importing torch.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise UserError("[data] name = 'digits': needs scikit-learn, which is not installed")
    file = Path(package.origin).parent / FILE
    if not file.is_file():  # a release that keeps it elsewhere
        from sklearn.datasets import load_digits

        bunch = load_digits()
        return bunch.images, bunch.target
    rows = np.loadtxt(file, delimiter=",")
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(int)


def load(section: DataSettings, seed: int) -> Task:
    """Digits as (1, 8, 8) pictures in [0, 1], standardised by the training part's mean and deviation."""
    images, classes = read()
    pixels = torch.from_numpy(images).float()[:, None] / LEVELS
    labels = torch.from_numpy(classes).long()
    train, test = (torch.from_numpy(part) for part in stratified_split(classes, TEST_SHARE, SPLIT_SEED))
    mean, std = (float(pixels[train].mean()),), (float(pixels[train].std()),)
    return Task(
        name="digits",
        train=Images(pixels[train], labels[train], mean, std),
        test=Images(pixels[test], labels[test], mean, std),
        kind="classification",
        classes=10,
        input_shape=(1, 8, 8),
    )
