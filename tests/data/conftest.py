"""Data sets are loaded through the registry, as a trainer loads them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit.data import Task, load_task
from toolkit.experiment import DataSection


@pytest.fixture
def load() -> Callable[..., Task]:
    def from_folder(name: str, root: Path | str = "", sequence: int = 64) -> Task:
        return load_task(DataSection(name=name, root=str(root), sequence=sequence), seed=0)

    return from_folder
