"""A real job on the testbed: over shaped links between hosts, and nothing left behind, even when interrupted."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from toolkit.testbed import hosts

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "run_scripts/testbed.sh"
SETTINGS = """
[model]
name = "lenet"
[data]
name = "digits"
batch_size = 4
[cluster]
workers = 2
bandwidth = "200 Mbit/s"
allreduce = "ring"
device = "cpu-core"
[run]
compute = "paced"
steps = 4
"""

pytestmark = [
    pytest.mark.parallel,
    pytest.mark.usefixtures("namespaces"),
]


@pytest.fixture
def start(tmp_path):
    """Start the testbed on the small experiment; ends it, if it still runs, when the test is over."""
    (tmp_path / "small.toml").write_text(SETTINGS)
    started = []

    def run(*options, train=()):
        command = [SCRIPT, *options, "--", tmp_path / "small.toml", "--out", tmp_path / "run", "--quiet", *train]
        process = subprocess.Popen(
            [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=30)


def left(owner):
    return [name for name in hosts.namespaces() if name.startswith(f"{hosts.PREFIX}-{owner}-")]


def runs(pid):
    """Whether a process is there and no zombie that nobody has waited for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def ranks_of(owner):
    """Processes of training in the testbed's hosts: what sets a host up comes and goes before them."""
    found = [pid for name in left(owner) if "host" in name for pid in hosts.processes(name)]
    return [pid for pid in found if b"train" in command_of(pid)]


def header_of(run):
    return json.loads((run / "trace/rank0.jsonl").read_text().splitlines()[0])


def test_training_over_the_testbed(start, tmp_path):
    process = start("--hosts", "2")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["workers"] == 2
    assert result["pace"]["compute"] == "paced"
    assert "training" not in result
    gradient = sum(size for _, size in header_of(tmp_path / "run")["tensors"])
    assert result["bytes_sent_per_worker"] == 4 * 4 * gradient  # steps x bytes of a value x values
    header = header_of(tmp_path / "run")
    assert len(set(header["hosts"])) == 2
    assert header["core_sharers"] == 2
    assert not left(process.pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(start, number):
    process = start(train=("--set", "run.steps=100000"))
    deadline = time.monotonic() + 60
    while process.poll() is None and not (ranks := ranks_of(process.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert process.poll() is None, process.stderr.read()
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert not left(process.pid)
    assert not [pid for pid in ranks if runs(pid)]


def test_a_run_over_its_time_is_ended(start):
    process = start("--timeout", "3 s", train=("--set", "run.steps=100000"))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 124
    assert "ended after 3 s" in errors
    assert not left(process.pid)
