"""The Penn Treebank language-modelling text of Mikolov et al. (2010), one sentence a line: ptb.train.txt, ptb.test.txt.

ptb.valid.txt may lie beside them; it is for choosing settings, and not read here.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch

from toolkit.data.base import DataSettings, Task, read_bytes, root_of, sequence_of, windows
from toolkit.errors import UserError

FOLDERS = ("", "ptb", "simple-examples/data")
EXPECTED = "ptb.train.txt and ptb.test.txt (of Mikolov's simple-examples)"
END, UNKNOWN = "<eos>", "<unk>"
DEFAULT_SEQUENCE = 35


def read_words(path: Path) -> list[str]:
    """The words of a file, each line ended by <eos>."""
    try:
        text = read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file (byte {error.start} is not UTF-8)") from error
    words = text.replace("\n", f" {END} ").split()
    if not words:
        raise UserError(f"{path}: holds no words")
    return words


def vocabulary_of(words: list[str]) -> dict[str, int]:
    """Word -> id, the most frequent first and equals in alphabetical order."""
    counts = Counter(words)
    return {word: i for i, word in enumerate(sorted(counts, key=lambda word: (-counts[word], word)))}


def encode(path: Path, words: list[str], vocabulary: dict[str, int]) -> torch.Tensor:
    """(n,) int64 ids; a word that training did not have becomes <unk>, where training has that."""
    unknown = vocabulary.get(UNKNOWN)
    ids = [vocabulary.get(word, unknown) for word in words]
    if None in ids:
        word = words[ids.index(None)]
        raise UserError(f"{path}: '{word}' is not in the training text, and neither is {UNKNOWN} to stand for it")
    return torch.tensor(ids, dtype=torch.int64)


def load(section: DataSettings, seed: int) -> Task:
    """Windows of `sequence` words; 929,589 training words over a vocabulary of 10,000 in the original files."""
    root = root_of(section, EXPECTED)
    place = next((root / folder for folder in FOLDERS if (root / folder / "ptb.train.txt").is_file()), root)
    paths = [place / "ptb.train.txt", place / "ptb.test.txt"]
    for path in paths:
        if not path.is_file():
            raise UserError(f"[data] root = '{section.root}': {path} is missing; ptb expects {EXPECTED}")
    train, test = (read_words(path) for path in paths)
    vocabulary = vocabulary_of(train)
    sequence = sequence_of(section, DEFAULT_SEQUENCE)
    return Task(
        name="ptb",
        train=windows("ptb", "training", encode(paths[0], train, vocabulary), sequence),
        test=windows("ptb", "test", encode(paths[1], test, vocabulary), sequence),
        kind="language",
        classes=len(vocabulary),
        input_shape=(sequence,),
    )
