"""The README names only what is there: scripts, commands, files, figures."""

from __future__ import annotations

import re
from pathlib import Path

from simulator import cli
from toolkit.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def test_named_scripts_files_and_links_exist():
    paths = re.findall(r"(?:\./)?(run_scripts/[\w./]+\.sh|exp_configs/[\w./]+\.toml|docs/[\w./]+\.\w+)", README)
    paths += re.findall(r"\]\(([\w./]+)\)", README)
    assert len(paths) > 8
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_named_commands_exist():
    assert set(re.findall(r"python -m toolkit (\w+)", README)) <= set(COMMANDS)
    assert set(re.findall(r"python -m simulator (\w+)", README)) <= set(cli.COMMANDS)


def test_no_placeholder_is_left():
    assert "@@" not in README
