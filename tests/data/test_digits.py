"""The digits and their split."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from toolkit.data import digits
from toolkit.data.digits import stratified_split


@settings(deadline=None, max_examples=50)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=200),
    share=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_a_stratified_split_keeps_every_class_share(labels, share, seed):
    array = np.array(labels)
    train, test = stratified_split(array, share, seed)
    assert sorted([*train, *test]) == list(range(len(labels)))
    for label in set(labels):
        assert (array[test] == label).sum() == round(share * labels.count(label))


def test_digits_are_all_there_once_and_standardised(load):
    task = load("digits")
    assert (task.kind, task.classes, task.input_shape) == ("classification", 10, (1, 8, 8))
    assert len(task.train) + len(task.test) == 1797
    train, labels = task.train.batch(torch.arange(len(task.train)), None)
    test, _ = task.test.batch(torch.arange(len(task.test)), None)
    assert train.shape[1:] == (1, 8, 8)
    assert abs(float(train.mean())) < 1e-5
    assert abs(float(train.std()) - 1) < 1e-5
    assert labels.bincount().min() > 130
    scale = task.train.std.item() * 16
    counts = torch.cat([train, test]) * scale + task.train.mean.item() * 16
    original = torch.from_numpy(load_digits().images).float()
    assert sorted(counts.round().flatten(1).tolist()) == sorted(original.flatten(1).tolist())


def test_the_split_does_not_depend_on_the_experiment(load):
    everything = torch.arange(359)
    first, second = load("digits").test.batch(everything, None), load("digits").test.batch(everything, None)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize("file", [digits.FILE, "elsewhere.csv.gz"])
def test_they_are_scikit_learns_own_wherever_it_keeps_them(file, monkeypatch):
    monkeypatch.setattr(digits, "FILE", file)
    for ours, theirs in zip(digits.read(), load_digits(return_X_y=True), strict=True):
        assert np.array_equal(ours.reshape(theirs.shape), theirs)


def test_scikit_learn_itself_is_not_imported():
    code = "import sys; from toolkit.data.digits import read; read(); print('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"
