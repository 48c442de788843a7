"""Real jobs: mpirun, Horovod, files. Each has a hard time limit and must not leave a process behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def mpirun() -> Run:
    """Run a Python program on `ranks` processes; returns the completed process with its output as text."""

    def run(ranks: int, *program: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        command = [ROOT / "run_scripts/mpirun.sh", "-np", ranks, sys.executable, *program]
        return run_limited([str(part) for part in command], timeout)

    return run


def run_limited(command: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
    """subprocess.run, but a job over its time is ended by SIGTERM, which mpirun passes on to its ranks."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
        try:
            out, err = job.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            job.terminate()
            out, err = job.communicate(timeout=30)
            pytest.fail(f"over {timeout} s: {' '.join(command)}\n{out[-2000:]}\n{err[-2000:]}")
    return subprocess.CompletedProcess(command, job.returncode, out, err)


@pytest.fixture
def train(mpirun: Run, tmp_path: Path) -> Callable[..., dict]:
    """Train the small experiment on `ranks` workers with overrides; returns its result.json."""

    def run(ranks: int, *overrides: str, name: str = "run", extra: tuple[str, ...] = ()) -> dict:
        settings = [part for override in overrides for part in ("--set", override)]
        out = tmp_path / name
        program = ["-m", "toolkit", "train", ROOT / "tests/parallel/small.toml", "--quiet", "--out", out, *extra]
        done = mpirun(ranks, *program, "--set", f"cluster.workers={ranks}", *settings)
        assert done.returncode == 0, done.stderr
        return json.loads((out / "result.json").read_text())

    return run
