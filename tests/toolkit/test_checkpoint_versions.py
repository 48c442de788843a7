"""A checkpoint that another version wrote is refused in one line, not taken apart until something is missing."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = """
[model]
name = "fcn5"
[data]
name = "digits"
[run]
steps = 2
[checkpoint]
every = 1
"""


def train(tmp_path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "toolkit", "train", str(tmp_path / "exp.toml"), "--out", str(tmp_path / "run")]
    return subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_another_versions_checkpoint_is_refused(tmp_path):
    (tmp_path / "exp.toml").write_text(EXPERIMENT)
    first = train(tmp_path)
    assert first.returncode == 0, first.stderr
    manifest = sorted((tmp_path / "run" / "checkpoints").glob("step-*/manifest.json"))[-1]
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"schema": "sandtable-checkpoint/2"}))
    again = train(tmp_path, "--resume")
    assert again.returncode == 2, again.stderr
    (line,) = [line for line in again.stderr.splitlines() if line.startswith("error:")]
    assert f"{manifest}: schema = 'sandtable-checkpoint/2': allowed is 'sandtable-checkpoint/3'" in line
