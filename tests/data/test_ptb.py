"""PTB's text files."""

import pytest
import torch

from toolkit.data.ptb import vocabulary_of
from toolkit.errors import UserError

TRAIN = " the cat sat \n the <unk> sat on the mat \n"
TEST = " the dog sat \n a cat \n"


def write(folder, train=TRAIN, test=TEST):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ptb.train.txt").write_text(train)
    (folder / "ptb.test.txt").write_text(test)


def test_the_vocabulary_is_by_frequency_and_then_by_alphabet():
    vocabulary = vocabulary_of(list("bacbcd"))
    assert list(vocabulary) == ["b", "c", "a", "d"]
    assert list(vocabulary.values()) == [0, 1, 2, 3]


@pytest.mark.parametrize("folder", ["", "ptb", "simple-examples/data"])
def test_words_come_back_with_sentence_ends(load, tmp_path, folder):
    write(tmp_path / folder)
    task = load("ptb", tmp_path, sequence=3)
    assert (task.kind, task.input_shape) == ("language", (3,))
    words = TRAIN.replace("\n", "<eos>").split()
    vocabulary = vocabulary_of(words)
    assert task.classes == len(vocabulary) == 7
    ids = [vocabulary[word] for word in words]
    inputs, targets = task.train.batch(torch.arange(len(task.train)), None)
    assert inputs.flatten().tolist() == ids[:9]
    assert targets.flatten().tolist() == ids[1:10]
    inputs, _ = task.test.batch(torch.arange(len(task.test)), None)
    unknown = vocabulary["<unk>"]
    assert inputs.flatten().tolist() == [
        vocabulary["the"], unknown, vocabulary["sat"], vocabulary["<eos>"], unknown, vocabulary["cat"],
    ]  # fmt: skip


def test_a_strange_word_without_a_stand_in_is_named(load, tmp_path):
    write(tmp_path, train="the cat sat on the mat\n")
    with pytest.raises(UserError, match=r"ptb\.test\.txt: 'dog' is not in the training text"):
        load("ptb", tmp_path, sequence=2)


def test_spoilt_files_are_named(load, tmp_path):
    write(tmp_path, train="\n"[:0])
    with pytest.raises(UserError, match=r"ptb\.train\.txt: holds no words"):
        load("ptb", tmp_path, sequence=2)
    (tmp_path / "ptb.train.txt").write_bytes(b"the \xff\xfe cat")
    with pytest.raises(UserError, match=r"ptb\.train\.txt: not a text file"):
        load("ptb", tmp_path, sequence=2)
    write(tmp_path)
    with pytest.raises(UserError, match=r"sequence = 11: the training text of ptb has 11 tokens.*1 to 10"):
        load("ptb", tmp_path, sequence=11)
    (tmp_path / "ptb.test.txt").unlink()
    with pytest.raises(UserError, match=r"ptb\.test\.txt is missing; ptb expects"):
        load("ptb", tmp_path, sequence=2)
