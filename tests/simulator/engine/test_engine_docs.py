"""Every command of docs/simulator.md runs as it stands there."""

import os
import re
import shlex
from pathlib import Path

import pytest

from simulator.cli import main

ROOT = Path(__file__).resolve().parents[3]
BLOCKS = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "simulator.md").read_text(encoding="utf-8"), re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line]


def test_there_are_commands():
    assert len(COMMANDS) >= 4


@pytest.mark.parametrize("command", COMMANDS)
def test_a_documented_command_runs(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "simulator"]
    before = set(os.listdir(ROOT))
    assert main(words[3:]) == 0
    assert "simulated" in capsys.readouterr().out
    assert set(os.listdir(ROOT)) == before
