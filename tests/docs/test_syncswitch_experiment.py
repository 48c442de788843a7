"""docs/syncswitch_experiment.md: its tables are what the rows beside it say, its settings those of the experiment."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from toolkit.experiment import digest, load
from toolkit.policies.protocol import plan_phases, total_units
from toolkit.studies.runs import read
from toolkit.studies.syncswitch import arguments, cases
from toolkit.studies.syncswitch_report import tables
from toolkit.studies.syncswitch_rows import Row

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "exp_configs" / "syncswitch"
PAGE = (ROOT / "docs" / "syncswitch_experiment.md").read_text(encoding="utf-8")
ROWS = read(ROOT / "docs" / "syncswitch_experiment.csv", Row)


TASKS = {"digits": 7}  # settings of each, with and without a straggler


def test_the_tables_are_those_of_the_rows():
    parts = tables(ROWS).strip().split("\n\n")
    assert len(parts) == 3 * 2 * len(TASKS)
    assert [part for part in parts if part not in PAGE] == []
    assert PAGE.count("| setting | test accuracy |") == 2 * len(TASKS)  # and no table of other rows


@pytest.mark.parametrize("task", TASKS)
def test_every_setting_has_every_seed_and_all_work_is_done(task):
    rows = [row for row in ROWS if row.task == task]
    cells: dict[tuple[int, str], set[int]] = {}
    for row in rows:
        cells.setdefault((row.factor, row.setting), set()).add(row.seed)
    seeds = int(re.search(r"(\d+) seeds", PAGE)[1])
    assert len(cells) == 2 * TASKS[task]
    assert all(found == set(range(1, seeds + 1)) for found in cells.values())
    assert len(rows) == len(cells) * seeds
    experiment = load(CONFIGS / f"{task}.toml")
    network = experiment.model.name
    steps = int(re.search(rf"`{network}`.*?(\d+) BSP steps", PAGE, re.DOTALL)[1])
    assert {row.points[-1][0] for row in rows} == {total_units(plan_phases(experiment, steps))}
    assert f"at a rate of {experiment.optimizer.learning_rate:g}" in PAGE


def test_the_experiment_is_what_left_the_rows(monkeypatch):
    """The files and the study's settings as they are now are those of the rows, to the last key."""
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    files = [f"{CONFIGS}/{task}.toml" for task in TASKS]
    now = {(case, digest(experiment)) for case, experiment in cases(arguments(files))}
    assert [row.case for row in ROWS if (row.case, row.settings) not in now] == []
