"""Bad input under mpirun: one line from one rank, exit code 2, no hang, nothing half-written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.parallel, pytest.mark.timeout(120)]
SMALL = Path(__file__).with_name("small.toml")
CASES = {
    "unknown key": (["compression.densty=0.1"], ["small.toml", "[compression] densty", "did you mean 'density'"]),
    "misspelt network": (["model.name=resnet21"], ["[model] name = 'resnet21'", "resnet20"]),
    "density 0": (["compression.density=0"], ["[compression] density = 0.0", "> 0.0", "<= 1.0"]),
    "density 2": (["compression.density=2"], ["[compression] density = 2.0"]),
    "missing data": (["data.name=cifar10", "data.root=/nowhere", "model.name=lenet"], ["/nowhere", "cifar10"]),
    "wrong number of ranks": (["cluster.workers=3"], ["[cluster] workers = 3", "mpirun started 2 ranks", "-np 3"]),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_exit_code_2(mpirun, tmp_path, case):
    overrides, expected = CASES[case]
    settings = [part for override in ["cluster.workers=2", *overrides] for part in ("--set", override)]
    done = mpirun(2, "-m", "toolkit", "train", SMALL, "--out", tmp_path / "run", *settings, timeout=60)
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, done.stderr
    assert all(text in errors[0] for text in expected), errors[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize("late", [0, 1])
@pytest.mark.parametrize("bad", ["0 and 1", "1"])
def test_what_is_refused_before_the_ranks_met_is_said_once(mpirun, tmp_path, bad, late):
    """mpirun takes the job down as soon as a rank has ended: the line of a slower one must not be lost by that."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, time\n"
        "from toolkit.launcher import launched_rank\n"
        "rank = launched_rank()\n"
        f"time.sleep(2.0 if rank == {late} else 0.0)\n"
        "from toolkit import __main__ as cli\n"
        f"density = '2' if str(rank) in '{bad}' else '0.1'\n"
        "options = ['--set', 'cluster.workers=2', '--set', 'compression.density=' + density]\n"
        f"sys.exit(cli.main(['train', '{SMALL}', '--out', '{tmp_path}/run', *options]))\n"
    )
    done = mpirun(2, program, timeout=60)
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("error: rank 1: " if bad == "1" else "error: ")
    assert "density" in errors[0]


def test_an_exception_on_one_rank_ends_the_job(mpirun, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from toolkit import __main__ as cli, train\n"
        "from toolkit.launcher import launched_rank\n"
        "from toolkit.trainer import Trainer\n"
        "step = Trainer._train_step\n"
        "def fail(self, *phase):\n"
        "    if launched_rank() == 1 and self.course.raw_steps == 3:\n"
        "        raise RuntimeError('the planned failure')\n"
        "    return step(self, *phase)\n"
        "Trainer._train_step = fail\n"
        f"sys.exit(cli.main(['train', '{SMALL}', '--out', '{tmp_path}/run', '--set', 'cluster.workers=2']))\n"
    )
    done = mpirun(2, program, timeout=60)
    assert done.returncode not in (0, 2)
    assert "the planned failure" in done.stderr
    assert "rank 1 ends the job" in done.stderr


@pytest.mark.parametrize("victim", [0, 1])
def test_bad_data_found_by_one_rank_in_mid_run_ends_the_job_with_2(mpirun, tmp_path, victim):
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from toolkit import __main__ as cli\n"
        "from toolkit.errors import UserError\n"
        "from toolkit.launcher import launched_rank\n"
        "from toolkit.trainer import Trainer\n"
        "step = Trainer._train_step\n"
        "def fail(self, *phase):\n"
        f"    if launched_rank() == {victim} and self.course.raw_steps == 3:\n"
        "        raise UserError('picture.png: damaged')\n"
        "    return step(self, *phase)\n"
        "Trainer._train_step = fail\n"
        f"sys.exit(cli.main(['train', '{SMALL}', '--out', '{tmp_path}/run', '--set', 'cluster.workers=2']))\n"
    )
    done = mpirun(2, program, timeout=60)
    assert done.returncode == 2, done.stderr
    assert next(line for line in done.stderr.splitlines() if line.startswith("error:")).endswith("picture.png: damaged")


def test_absent_horovod_is_said_with_what_to_do(tmp_path):
    program = (
        "import sys\n"
        "class Wall:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('horovod', 'mpi4py'):\n"
        "            raise ImportError(name + ' is absent')\n"
        "sys.meta_path.insert(0, Wall())\n"
        "from toolkit.__main__ import main\n"
        f"sys.exit(main(['train', '{SMALL}', '--out', '{tmp_path}/run']))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "run ./run_scripts/setup.sh" in done.stderr
    assert not (tmp_path / "run").exists()
