"""What studies of many trainings share: train once and keep no folder; a CSV with a line a run, to be gone on with."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from toolkit.comm import Communicator
from toolkit.errors import UserError
from toolkit.experiment import Experiment

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Row = TypeVar("Row", bound=DataclassInstance)
else:
    Row = TypeVar("Row")

KINDS = {"str": str, "int": int, "float": float}


def train_once(experiment: Experiment, comm: Communicator) -> dict[str, Any]:
    """Train in a folder that is not kept; the result, on every rank. All ranks call it together."""
    from toolkit.train import train

    with tempfile.TemporaryDirectory() as folder:
        shared = Path(comm.broadcast(folder))
        result = train(experiment, shared / "run", comm)
        comm.barrier()
    return result


def read(path: Path, kind: type[Row]) -> list[Row]:
    """The rows of an earlier job, each a dataclass of str, int and float; none where the file is not there.

    UserError where it is not a file of such rows.
    """
    if not path.exists():
        return []
    columns = {spec.name: KINDS[str(spec.type)] for spec in fields(kind)}
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            lines = list(csv.DictReader(stream, strict=True))
        return [kind(**{name: make(line[name]) for name, make in columns.items()}) for line in lines]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        said = f"has no column {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path}: not a CSV of this study ({said}); give another --out") from None


def append(path: Path, row: Row) -> None:
    """Add a line, whole or not at all: who is killed meanwhile leaves the lines before it."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=[spec.name for spec in fields(row)])
    if not path.exists():
        writer.writeheader()
    writer.writerow(asdict(row))
    part = path.with_name(path.name + ".part")
    before = path.read_bytes() if path.exists() else b""
    part.write_bytes(before + text.getvalue().encode())
    os.replace(part, path)
