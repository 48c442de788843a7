"""docs/syncswitch_experiment.md: its tables are what the rows beside it say, its settings those of the experiment."""

from __future__ import annotations

import re
from pathlib import Path

from toolkit.experiment import load
from toolkit.policies.protocol import plan_phases, total_units
from toolkit.studies.runs import read
from toolkit.studies.syncswitch_report import tables
from toolkit.studies.syncswitch_rows import Row

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "syncswitch_experiment.md").read_text(encoding="utf-8")
ROWS = read(ROOT / "docs" / "syncswitch_experiment.csv", Row)


def test_the_tables_are_those_of_the_rows():
    parts = tables(ROWS).strip().split("\n\n")
    assert len(parts) == 6
    assert [part for part in parts if part not in PAGE] == []


def test_every_setting_has_every_seed_and_all_work_is_done():
    cells: dict[tuple[int, str], set[int]] = {}
    for row in ROWS:
        cells.setdefault((row.factor, row.setting), set()).add(row.seed)
    seeds = int(re.search(r"(\d+) seeds", PAGE)[1])
    assert len(cells) == 14
    assert all(len(found) == seeds for found in cells.values())
    assert len(ROWS) == 14 * seeds
    experiment = load(ROOT / "exp_configs" / "syncswitch" / "digits.toml")
    steps = int(re.search(r"(\d+) BSP steps", PAGE)[1])
    assert {row.points[-1][0] for row in ROWS} == {total_units(plan_phases(experiment, steps))}
