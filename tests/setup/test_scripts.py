"""The scripts: they parse, say what is missing, leave a failed set-up in a state that the next call mends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [*sorted((ROOT / "run_scripts").glob("*.sh")), ROOT / ".ci" / "run"]
# What set-up may need of a machine before it looks for a compiler.
TOOLS = (
    "bash",
    "env",
    "dirname",
    "cat",
    "sed",
    "cut",
    "tr",
    "grep",
    "paste",
    "mkdir",
    "rm",
    "sha256sum",
    "flock",
    "tail",
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_is_executable_and_parses(script: Path):
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/usr/bin/env bash\n")
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files that set-up reads, in a folder of their own, without an environment."""
    shutil.copytree(ROOT / "run_scripts", tmp_path / "run_scripts")
    for name in ("requirements.txt", "requirements-mpi.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "cext").mkdir()
    return tmp_path


def set_up(clone: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the clone's set-up from another folder, with nothing of this environment's own settings."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "SANDTABLE_", "MPI", "CXX"))}
    env |= {"PYTHON": sys._base_executable, "SANDTABLE_CACHE": str(clone / "cache")} | variables
    script = str(clone / "run_scripts" / "setup.sh")
    return subprocess.run([script], cwd="/", env=env, capture_output=True, text=True, timeout=120, check=False)


def test_a_missing_compiler_is_named(clone: Path):
    tools = clone / "tools"
    tools.mkdir()
    for tool in TOOLS:
        (tools / tool).symlink_to(shutil.which(tool) or pytest.skip(f"this machine has no {tool}"))
    done = set_up(clone, PATH=str(tools))
    assert done.returncode == 2
    assert "no 'cc' found" in done.stderr
    assert "build-essential" in done.stderr
    assert not (clone / ".venv").exists()


def test_a_compiler_that_is_too_old_is_named(clone: Path):
    old = clone / "g++-old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = set_up(clone, CXX=str(old))
    assert done.returncode == 2
    assert f"'{old}' does not compile a C++17 program" in done.stderr


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"PYTHON": "/nowhere/python3.11"}, "no Python 3.11 (/nowhere/python3.11)"),
        ({"MPI_HOME": "/nowhere"}, "MPI_HOME=/nowhere: no bin/mpicxx there"),
        ({"SANDTABLE_MPI": "sytem"}, "SANDTABLE_MPI=sytem"),
    ],
)
def test_a_wrong_variable_is_named_with_what_to_do(clone: Path, variables: dict[str, str], message: str):
    done = set_up(clone, **variables)
    assert done.returncode == 2
    assert message in done.stderr
    assert "what to do:" in done.stderr
    assert not (clone / ".venv").exists()


def test_a_failed_step_is_reported_and_only_what_is_needed_is_redone(clone: Path):
    nothing = {"SANDTABLE_PIP_ARGS": "--no-index"}
    first = set_up(clone, **nothing)
    assert first.returncode == 1
    assert "[1/5]" in first.stdout
    assert "step 2/5" in first.stderr
    assert "No matching distribution found" in first.stderr
    assert "SANDTABLE_PIP_ARGS" in first.stderr
    assert str(clone / ".venv" / "setup.log") in first.stderr

    second = set_up(clone, **nothing)
    assert second.returncode == 1
    assert "[1/5]" not in second.stdout
    assert "[2/5]" in second.stdout

    # A marker left by a killed installation: files may be half-written, so the environment is made anew.
    (clone / ".venv" / ".sandtable" / "installing").touch()
    third = set_up(clone, **nothing)
    assert "[1/5]" in third.stdout


def mpirun(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "run_scripts" / "mpirun.sh"), *words]
    return subprocess.run(
        command, env=os.environ | variables, capture_output=True, text=True, timeout=60, check=False, cwd="/"
    )


def test_absent_mpi_is_one_line_and_exit_2():
    done = mpirun("-np", "2", "true", MPIRUN="/nowhere/mpirun")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "MPI absent" in done.stderr


@pytest.mark.parallel
@pytest.mark.parametrize("code", [0, 2, 7])
def test_mpirun_passes_the_exit_code_on(code: int):
    assert mpirun("-np", "2", "sh", "-c", f"exit {code}").returncode == code


@pytest.mark.parallel
def test_mpirun_runs_more_ranks_than_cores_from_a_long_temporary_folder(tmp_path: Path):
    deep = tmp_path.joinpath(*["a-rather-long-folder-name"] * 4)
    deep.mkdir(parents=True)
    ranks = (os.cpu_count() or 1) + 2
    program = "from mpi4py import MPI; c = MPI.COMM_WORLD; t = c.allreduce(1); c.rank == 0 and print(t)"
    done = mpirun("-np", str(ranks), "python", "-c", program, TMPDIR=str(deep))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(ranks)]


@pytest.mark.parallel
def test_an_option_of_the_caller_is_not_given_twice():
    done = mpirun("--map-by", ":OVERSUBSCRIBE", "--bind-to", "none", "-np", "2", "sh", "-c", "echo $OMP_NUM_THREADS")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [os.environ.get("OMP_NUM_THREADS", "1")] * 2
