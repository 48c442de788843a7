"""docs/compression.md names every method, and its convergence table is that of the file of runs beside it."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest

from toolkit.__main__ import COMMANDS
from toolkit.registry import COMPRESSORS, EXCHANGES
from toolkit.studies.convergence import Row, methods
from toolkit.studies.convergence_report import LIMIT, ratios
from toolkit.studies.runs import read

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/compression.md").read_text()


def test_every_compressor_and_exchange_is_named():
    listed = {
        name
        for row in re.findall(r"^\| (`.*?) \|", PAGE, flags=re.MULTILINE)
        for name in re.findall(r"`([\w-]+)`", row)
    }
    assert listed == set(COMPRESSORS)
    assert all(f"`{name}`" in PAGE for name, entry in EXCHANGES.items() if entry.wire == "sparse")


def test_commands_scripts_and_files_exist():
    assert set(re.findall(r"python -m toolkit ([\w-]+)", PAGE)) <= set(COMMANDS)
    paths = re.findall(r"(?:\./)?(run_scripts/[\w./]+\.sh|exp_configs/[\w./]+\.toml|grads/[\w./]+\.toml)", PAGE)
    paths += [f"docs/{name}" for name in re.findall(r"\]\(([\w./]+)\)", PAGE)]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert "@@" not in PAGE


@pytest.mark.parametrize("method", methods())
def test_the_convergence_table_is_that_of_the_runs(method):
    rows = read(ROOT / "docs/convergence.csv", Row)
    means = [statistics.fmean(ratios(rows, task, method)) for task in ("digits", "charlm")]
    (line,) = re.findall(rf"^\| {re.escape(method)} \| (.*) \|$", PAGE, flags=re.MULTILINE)
    cells = line.split(" | ")
    assert (cells[-1] == "yes") == all(mean <= LIMIT for mean in means)
    for cell, mean in zip(cells[0:4:2], means, strict=True):
        assert "diverged" in cell if mean != mean else cell.split()[0] in (f"{mean:.3f}", f"{mean:.0f}")
