"""Saved gradients on disk, one file a rank and iteration, by the SIDCo artifact's naming.

A file is `{dataset}_{dnn}_r{rank}_gradients_iter_{i}.npy`: float32, one dimension, the whole model in forward order,
this rank's own gradient before error feedback and compression. Files are read without pickle.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import UserError

_NAME = re.compile(r"(?P<dataset>[^_]+)_(?P<dnn>.+)_r(?P<rank>\d+)_gradients_iter_(?P<iteration>\d+)\.npy")
_EXPECTED = "{dataset}_{dnn}_r{rank}_gradients_iter_{i}.npy"


@dataclass(frozen=True, order=True)
class GradientFile:
    """Where one gradient lies, and which it is."""

    dataset: str
    dnn: str
    rank: int
    iteration: int
    folder: Path

    @property
    def path(self) -> Path:
        name = f"{self.dataset}_{self.dnn}_r{self.rank}_gradients_iter_{self.iteration}.npy"
        return self.folder / name

    @property
    def series(self) -> str:
        """What the files of one worker of one run share: dataset, network and rank."""
        return f"{self.dataset}_{self.dnn}_r{self.rank}"

    @classmethod
    def parse(cls, path: Path) -> GradientFile:
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise UserError(f"{path}: not the name of a saved gradient; {_EXPECTED} is expected")
        return cls(match["dataset"], match["dnn"], int(match["rank"]), int(match["iteration"]), path.parent)


def save(file: GradientFile, gradient: NDArray[np.float32]) -> None:
    """Write a gradient whole or not at all."""
    assert gradient.dtype == np.float32
    assert gradient.ndim == 1
    file.folder.mkdir(parents=True, exist_ok=True)
    temporary = file.path.with_name(f".{file.path.name}.tmp")
    with temporary.open("wb") as stream:
        np.save(stream, np.ascontiguousarray(gradient), allow_pickle=False)
    temporary.replace(file.path)


def load(path: Path) -> NDArray[np.float32]:
    """Read a gradient, float32 (n,), n >= 1; UserError where the file is missing, damaged or of another kind."""
    try:
        with path.open("rb") as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
            rest = stream.read(1)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError, SyntaxError) as error:
        raise UserError(f"{path}: not a NumPy file of plain numbers: {_first_line(error)}") from None
    if array.dtype != np.float32 or array.ndim != 1 or array.size == 0 or rest:
        raise UserError(
            f"{path}: {array.dtype} of shape {array.shape}{' and more behind it' if rest else ''}: one float32 vector "
            "with at least one element is expected"
        )
    return np.ascontiguousarray(array)


def find(places: Iterable[str | Path]) -> list[GradientFile]:
    """The saved gradients at the given files and folders, by series and iteration; UserError where there are none."""
    folders = [Path(place) for place in places]
    files: set[GradientFile] = set()
    for place in folders:
        if place.is_dir():
            files |= {GradientFile.parse(path) for path in place.glob("*_gradients_iter_*.npy")}
        elif place.exists():
            files.add(GradientFile.parse(place))
        else:
            raise UserError(f"{place}: no such file or folder")
    if not files:
        raise UserError(f"{', '.join(map(str, folders))}: no saved gradients here; {_EXPECTED} is expected")
    return sorted(files)


def by_series(files: Iterable[GradientFile]) -> dict[str, list[GradientFile]]:
    """Files grouped by series, iterations ascending."""
    groups: dict[str, list[GradientFile]] = {}
    for file in sorted(files):
        groups.setdefault(file.series, []).append(file)
    return groups


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["unknown reason"])[0]
