"""Data sets: the two that every install has (digits, pysource), and loaders for the field's on-disk formats."""

from __future__ import annotations

from toolkit.data.base import DataSettings, Examples, Task
from toolkit.registry import DATASETS, check_name, resolve

__all__ = ["Examples", "Task", "load_task"]


def load_task(section: DataSettings, seed: int) -> Task:
    """The task that an experiment's [data] section names. Raises UserError for an unknown name or missing data."""
    name = check_name("[data] name", section.name, DATASETS)
    task: Task = resolve(DATASETS[name])(section, seed)
    return task
