"""The standard library's source text as characters."""

import sysconfig
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.data.pysource import ALPHABET, LIMIT, MODULES, UNKNOWN, VOCABULARY, decode, encode, read_sources
from toolkit.errors import UserError


@settings(deadline=None, max_examples=50)
@given(text=st.text(alphabet=ALPHABET))
def test_characters_of_the_alphabet_survive(text):
    assert decode(encode(text)) == text


@settings(deadline=None, max_examples=50)
@given(text=st.text())
def test_other_characters_become_the_replacement(text):
    ids = encode(text)
    assert len(ids) == len(text)
    for character, i in zip(text, ids.tolist(), strict=True):
        assert i == (ALPHABET.index(character) if character in ALPHABET else UNKNOWN) < VOCABULARY


def test_training_and_test_are_consecutive_parts_of_the_library(load):
    task = load("pysource", sequence=50)
    assert (task.kind, task.classes, task.input_shape) == ("language", 98, (50,))
    text = read_sources(Path(sysconfig.get_paths()["stdlib"]))
    assert 1_000_000 < len(text) <= LIMIT
    assert text.startswith((Path(sysconfig.get_paths()["stdlib"]) / f"{MODULES[0]}.py").read_text()[:1000])
    inputs, targets = task.train.batch(torch.tensor([3]), None)
    assert decode(inputs[0]) == text[150:200]
    assert decode(targets[0]) == text[151:201]
    cut = len(task.train.ids)
    assert cut + len(task.test.ids) == len(text)
    assert decode(task.test.batch(torch.tensor([0]), None)[0][0]) == text[cut : cut + 50]
    assert 0.09 < len(task.test) / len(task.train) < 0.12


def test_a_python_without_sources_is_named(tmp_path):
    with pytest.raises(UserError, match=rf"{tmp_path}/{MODULES[0]}.py: .*pysource.*source files"):
        read_sources(tmp_path)


def test_a_window_longer_than_the_text_is_refused(load):
    with pytest.raises(UserError, match=r"\[data\] sequence = 300000: the test text of pysource"):
        load("pysource", sequence=300_000)
