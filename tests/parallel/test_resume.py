"""Checkpoint and resume: a run that is killed at any moment ends like one that never was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.parallel, pytest.mark.timeout(300)]
ROOT = Path(__file__).resolve().parents[2]
SETTINGS = [
    "--set=model.name=charlstm",
    "--set=model.hidden=32",
    "--set=data.name=pysource",
    "--set=model.dropout=0.1",
    "--set=data.batch_size=2",
    "--set=data.sequence=16",
    "--set=pipeline.accumulation=2",
    "--set=compression.name=sidco-e",
    "--set=compression.granularity=merged",
    "--set=checkpoint.every=4",
    "--set=run.steps=200",
    "--set=run.evaluate_every=1000",
    "--set=cluster.workers=2",
]


def command(out: Path, *extra: str) -> list[str]:
    program = ["-m", "toolkit", "train", str(ROOT / "tests/parallel/small.toml"), "--quiet", "--out", str(out)]
    return [str(ROOT / "run_scripts/mpirun.sh"), "-np", "2", sys.executable, *program, *SETTINGS, *extra]


def wait_for_step(out: Path, step: int, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not any(int(path.name[5:]) >= step for path in out.glob("checkpoints/step-*")):
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.02)


def ranks_of(job: subprocess.Popen[bytes]) -> list[psutil.Process]:
    children = psutil.Process(job.pid).children(recursive=True)
    return [p for p in children if "toolkit" in p.cmdline() and "python" in p.name()]


def finish(out: Path, *extra: str) -> dict:
    done = subprocess.run(command(out, *extra), capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "result.json").read_text())


def test_killed_and_resumed_ends_like_uninterrupted(tmp_path):
    whole = finish(tmp_path / "whole")
    out = tmp_path / "killed"
    for step, victims in ((8, "one"), (40, "all")):
        job = subprocess.Popen(command(out, "--resume"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_step(out, step)
        ranks = ranks_of(job)
        assert len(ranks) == 2
        for process in ranks[: 1 if victims == "one" else 2]:
            os.kill(process.pid, signal.SIGKILL)
        assert job.wait(timeout=60) != 0
        assert not (out / "result.json").exists()
    resumed = finish(out, "--resume")
    assert resumed["training"] == whole["training"]
    assert resumed["bytes_sent_per_worker"] == whole["bytes_sent_per_worker"]
    assert resumed["steps"] == whole["steps"] == 200
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed"))
    assert first == second


@pytest.mark.parametrize(
    ("name", "exchange", "optimizer"),
    [("dgc", "gtopk", "sparse-adam"), ("dgc", "oktopk", "sparse-sgd"), ("powersgd", "linear", "sgd")],
    ids=["gtopk-adam", "oktopk-sgd", "powersgd"],
)
def test_state_survives_a_resume(tmp_path, name, exchange, optimizer):
    chosen = [
        f"--set=compression.exchange={exchange}",
        f"--set=compression.name={name}",
        f"--set=compression.residual={'bf16' if name == 'powersgd' else 'fp32'}",
        f"--set=optimizer.name={optimizer}",
    ]
    whole = finish(tmp_path / "whole", *chosen, "--set=run.steps=18")
    finish(tmp_path / "parts", *chosen, "--set=run.steps=9")
    parts = finish(tmp_path / "parts", *chosen, "--set=run.steps=18", "--resume")
    assert parts["training"] == whole["training"]


def test_damaged_checkpoint_is_refused_in_one_line(tmp_path):
    out = tmp_path / "run"
    finish(out, "--set=run.steps=9")
    victim = out / "checkpoints/step-00000008/rank1.safetensors"
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    done = subprocess.run(command(out, "--resume"), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert str(victim) in errors[0]
    assert "damaged checkpoint" in errors[0]


def test_resume_with_another_experiment_is_refused(tmp_path):
    out = tmp_path / "run"
    finish(out, "--set=run.steps=5")
    changed = command(out, "--resume", "--set=optimizer.learning_rate=0.2")
    done = subprocess.run(changed, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "[optimizer] learning_rate = 0.05" in done.stderr
