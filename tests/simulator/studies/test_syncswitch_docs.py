"""docs/syncswitch.md: its commands run, and its table is what the study says."""

import csv
import re
import shlex
from pathlib import Path

import pytest

from simulator.cli import main

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "syncswitch.md").read_text()
COMMANDS = [line.removeprefix("python -m simulator ") for line in PAGE.splitlines() if line.startswith("python -m sim")]


@pytest.mark.parametrize("command", [c for c in COMMANDS if "--plot" not in c])
def test_the_commands_run(command, monkeypatch, capsys):
    if command.startswith(("learn", "tune")):
        pytest.importorskip("torch")
    monkeypatch.chdir(ROOT)
    assert main(shlex.split(command)) == 0
    assert capsys.readouterr().out


def test_the_errors_are_the_studys():
    rows = csv.DictReader(Path(__file__).with_name("syncswitch.csv").open())
    errors = [(row["quantity"], 100 * float(row["error"])) for row in rows if row["role"] == "held-out"]
    told = re.findall(r"[+−]?\d\.\d(?= %)", "".join(line for line in PAGE.splitlines() if line.startswith("| ")))
    told = [float(text.replace("−", "-")) for text in told]
    order = ["train_time_s", "bsp_step_s", "time_to_accuracy_s"]
    wanted = [round(error, 1) for name in order for kind, error in errors if kind == name]
    assert told == wanted
