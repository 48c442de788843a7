"""ASP, SSP, the switch and the online policies under mpirun: their laws, their end, what survives a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch

from toolkit.checkpoint.state import unpack_state

pytestmark = [pytest.mark.parallel, pytest.mark.timeout(200)]
ROOT = Path(__file__).resolve().parents[2]
SMALL = ROOT / "tests/parallel/small.toml"
JOB = Path(__file__).with_name("job_sync.py")


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_the_laws_of_every_policy(mpirun, tmp_path, ranks):
    done = mpirun(ranks, JOB, tmp_path / "run", timeout=150)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert done.stdout.rstrip().endswith("all laws hold")


def command(out: Path, *settings: str, program: tuple[str, ...] = ("-m", "toolkit")) -> list[str]:
    sets = [f"--set={setting}" for setting in ("cluster.workers=3", *settings) if not setting.startswith("--")]
    flags = [setting for setting in settings if setting.startswith("--")]
    start = [str(ROOT / "run_scripts/mpirun.sh"), "-np", "3", sys.executable, *program, "train", str(SMALL)]
    return [*start, "--out", str(out), *sets, *flags]


def finish(out: Path, *settings: str) -> dict:
    done = subprocess.run(command(out, *settings), capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "result.json").read_text()) if (out / "result.json").exists() else {}


@contextmanager
def running(out: Path, *settings: str) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A job that has begun to make steps, and its ranks; it is ended afterwards, whatever the test did to it."""
    job = subprocess.Popen(command(out, *settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        for line in job.stderr:
            if line.startswith("step"):
                break
        children = psutil.Process(job.pid).children(recursive=True)
        yield job, [p for p in children if "toolkit" in p.cmdline() and "python" in p.name()]
    finally:
        job.terminate()
        job.communicate(timeout=30)


@pytest.mark.parametrize(("policy", "victim"), [("asp", 0), ("ssp", 2)], ids=["asp-chief", "ssp-worker"])
def test_kill_9_of_one_rank_ends_the_job_with_its_reason(tmp_path, policy, victim):
    with running(tmp_path / "run", f"sync.policy={policy}", "run.steps=4000") as (job, ranks):
        assert len(ranks) == 3
        chosen = next(p for p in ranks if p.environ()["OMPI_COMM_WORLD_RANK"] == str(victim))
        os.kill(chosen.pid, signal.SIGKILL)
        began = time.monotonic()
        _, errors = job.communicate(timeout=60)
        assert time.monotonic() - began < 5
        assert job.returncode != 0
        assert "signal 9" in errors
        assert not psutil.wait_procs(ranks, timeout=5)[1]
    assert not (tmp_path / "run/result.json").exists()


@pytest.mark.parametrize("place", ["server.Shard.apply", "worker.AsynchronousWorker._update"])
def test_an_exception_in_server_or_worker_ends_the_job(mpirun, tmp_path, place):
    module, kind, method = place.split(".")
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from toolkit import __main__ as cli\n"
        "from toolkit.launcher import launched_rank\n"
        f"from toolkit.sync.{module} import {kind} as Kind\n"
        f"whole, calls = Kind.{method}, []\n"
        "def fail(self, *rest):\n"
        "    calls.append(1)\n"
        "    if launched_rank() == 1 and len(calls) == 5:\n"
        "        raise RuntimeError('the planned failure')\n"
        "    return whole(self, *rest)\n"
        f"Kind.{method} = fail\n"
        f"sys.exit(cli.main(['train', '{SMALL}', '--out', '{tmp_path}/run', '--set', 'cluster.workers=3',\n"
        "    '--set', 'sync.policy=asp', '--set', 'run.steps=1000']))\n"
    )
    done = mpirun(3, program, timeout=60)
    assert done.returncode not in (0, 2)
    assert "the planned failure" in done.stderr
    assert "rank 1 ends the job" in done.stdout + done.stderr


def test_killed_in_an_asynchronous_phase_and_resumed(tmp_path):
    out = tmp_path / "run"
    settings = ["sync.policy=switch", "sync.switch_at=0.02", "run.steps=400", "checkpoint.every=10"]
    settings += ["compression.name=sidco-e", "run.evaluate_every=100"]
    with running(out, *settings) as (_, ranks):
        deadline = time.monotonic() + 60
        while not any(int(path.name[5:]) > 60 for path in out.glob("checkpoints/step-*")):
            assert time.monotonic() < deadline, "no checkpoint of the asynchronous phase appeared"
            time.sleep(0.02)
        for process in ranks:
            os.kill(process.pid, signal.SIGKILL)
    assert not (out / "result.json").exists()
    result = finish(out, *settings, "--resume")
    assert [(row["name"], row["steps"]) for row in result["phases"]] == [("bsp", 8), ("asp", 392 * 3)]
    assert result["steps"] == len(result["training"]["losses"]) == 8 + 392 * 3
    assert result["sync"]["evaluations"][-1]["units"] == 400 * 3
    assert result["training"]["accuracy"] > 0.8


@pytest.mark.parametrize("policy", ["bsp", "asp"])
def test_a_dedicated_server_adds_nothing_to_the_running_statistics(train, tmp_path, policy):
    network = ("model.name=resnet20", "model.hidden=0", "run.steps=4", "optimizer.learning_rate=0.01")
    alone = train(1, *network, name="alone")
    served = train(2, *network, "sync.servers=dedicated", "sync.server_ranks=1", f"sync.policy={policy}", name="served")
    assert served["training"]["loss"] == pytest.approx(alone["training"]["loss"], rel=1e-5)
    expected, found = (
        unpack_state((tmp_path / name / "model.safetensors").read_bytes()) for name in ("alone", "served")
    )
    moved = [name for name in expected if "running" in name]
    assert len(moved) == 2 * 19
    for name in moved:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6)


def test_a_checkpoint_in_an_asynchronous_phase_keeps_a_dedicated_servers_own_state(tmp_path):
    """And not the chief's: it has seen no example and has no loss."""
    finish(
        tmp_path / "run",
        *("sync.policy=switch", "sync.switch_at=0.1", "run.steps=40", "checkpoint.every=10", "run.evaluate_every=0"),
        *("sync.servers=dedicated", "sync.server_ranks=1"),
    )
    last = max((tmp_path / "run/checkpoints").glob("step-*"), key=lambda path: int(path.name[5:]))
    chief, worker, server = (unpack_state((last / f"rank{rank}.safetensors").read_bytes()) for rank in range(3))
    assert chief["samples"] > 0
    assert worker["samples"] > 0
    assert server["samples"] == 0
    assert not any(server["losses"])
    assert server["position"] is None


def test_a_restart_at_the_switch_goes_on_where_the_job_would_have(tmp_path):
    settings = ["sync.policy=switch", "sync.switch_at=0.5", "run.steps=20"]
    stopped = finish(tmp_path / "restart", *settings, "--until-switch")
    assert stopped == {}
    restarted = finish(tmp_path / "restart", *settings, "--resume")
    whole = finish(tmp_path / "whole", *settings)
    for result, how in ((restarted, "restart"), (whole, "in-job")):
        (switch,) = (event for event in result["events"] if event["kind"] == "switch")
        assert (switch["how"], switch["from"], switch["to"]) == (how, "bsp", "asp")
        assert (switch["step"], switch["units"]) == (10, 30)
        assert [row["steps"] for row in result["phases"]] == [10, 30]
    assert restarted["training"]["losses"][:10] == whole["training"]["losses"][:10]
