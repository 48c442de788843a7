"""Character-level language modelling on the Python standard library's own source text, part of every install.

The text is that of the running interpreter, so losses are comparable between runs on one installation, and only roughly
between Python versions. The vocabulary is fixed: shapes of networks are the same everywhere.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path

import numpy as np
import torch

from toolkit.data.base import DataSettings, Task, sequence_of, windows
from toolkit.errors import UserError

# fmt: off
MODULES = [
    "argparse", "ast", "base64", "calendar", "codecs", "collections/__init__", "configparser", "contextlib", "csv",
    "dataclasses", "difflib", "dis", "enum", "fractions", "functools", "gzip", "heapq", "http/client", "inspect",
    "ipaddress", "json/decoder", "logging/__init__", "optparse", "os", "pdb", "platform", "random", "shutil",
    "smtplib", "socket", "statistics", "subprocess", "tarfile", "textwrap", "threading", "tokenize", "typing",
]
# fmt: on
LIMIT = 2_000_000  # characters; a guard against growth of the library, not reached by 3.11
TEST_SHARE = 0.1
DEFAULT_SEQUENCE = 64

ALPHABET = "\t\n" + "".join(chr(code) for code in range(32, 127))
UNKNOWN = len(ALPHABET)  # one more class: every character outside the alphabet
VOCABULARY = len(ALPHABET) + 1


def encode(text: str) -> torch.Tensor:
    """One uint8 id a character, by position in ALPHABET; characters outside it become UNKNOWN."""
    table = np.full(128, UNKNOWN, dtype=np.uint8)
    table[[ord(character) for character in ALPHABET]] = np.arange(len(ALPHABET), dtype=np.uint8)
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    # index 127 is DEL, itself outside the alphabet: it stands for everything beyond ASCII
    return torch.from_numpy(table[np.minimum(points, 127)])


def decode(ids: torch.Tensor) -> str:
    """The text of (n,) ids, the replacement character standing for UNKNOWN."""
    return "".join((ALPHABET + "�")[i] for i in ids.tolist())


def read_sources(library: Path) -> str:
    """The modules' text, in the fixed order; universal newlines."""
    texts = []
    for module in MODULES:
        path = library / f"{module}.py"
        try:
            texts.append(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(
                f"{path}: [data] name = 'pysource': cannot be read ({error.strerror}); pysource needs the standard "
                "library as .py source files, which this Python came without"
            ) from error
    return "".join(texts)[:LIMIT]


def load(section: DataSettings, seed: int) -> Task:
    """Windows of `sequence` characters; the last tenth of the text, other modules than the training's, is the test."""
    ids = encode(read_sources(Path(sysconfig.get_paths()["stdlib"])))
    sequence = sequence_of(section, DEFAULT_SEQUENCE)
    cut = len(ids) - int(len(ids) * TEST_SHARE)
    return Task(
        name="pysource",
        train=windows("pysource", "training", ids[:cut], sequence),
        test=windows("pysource", "test", ids[cut:], sequence),
        kind="language",
        classes=VOCABULARY,
        input_shape=(sequence,),
    )
