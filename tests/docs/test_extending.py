"""docs/extending.md is true: its compressor, taken from the page, keeps the laws and trains under mpirun."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from toolkit.registry import COMPRESSORS, EXCHANGES

ROOT = Path(__file__).resolve().parents[2]
JOB = """
import sys
from pathlib import Path
from toolkit import registry
from toolkit.registry import CompressorEntry

registry.COMPRESSORS |= REGISTRY_LINE
from toolkit.comm import Communicator
from toolkit.experiment import load
from toolkit.train import train

sys.path.insert(0, "tests/parallel")
import job_laws

comm = Communicator()
for granularity in job_laws.GRANULARITIES:
    job_laws.check_exchange(comm, "blockmax", granularity)
    job_laws.check_training(comm, Path(sys.argv[1]), "blockmax", granularity, "sgd")
if comm.rank == 0:
    print("the example keeps the laws")
comm.close()
"""


def test_the_page_names_what_is_there() -> None:
    page = (ROOT / "docs/extending.md").read_text()
    table = {
        row[0]: row for row in re.findall(r"^\| `\"(\w+)\"` \| (.*?) \| (.*?) \| (.*?) \|$", page, flags=re.MULTILINE)
    }
    assert set(table) == {entry.wire for entry in COMPRESSORS.values()}
    for wire, (_, _, ways, examples) in table.items():
        assert re.findall(r"`(\w+)`", ways) == [name for name, entry in EXCHANGES.items() if entry.wire == wire]
        assert all((ROOT / "toolkit/compression" / file).exists() for file in re.findall(r"`(\w+\.py)`", examples))
    fragment = re.findall(r"```python-fragment\n(.*?)```", page, flags=re.DOTALL)[0]
    assert textwrap.indent(fragment, "    ") in (ROOT / "toolkit/compression/randomk.py").read_text()


@pytest.mark.parallel
@pytest.mark.timeout(150)
def test_the_example_compressor_keeps_the_laws_and_trains(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(), flags=re.DOTALL)
    code, line = blocks
    package = tmp_path / "example"
    package.mkdir()
    (package / "blockmax.py").write_text(code)
    # The page's line names the place in toolkit/; here the file lies in a temporary folder, outside the checkout.
    line = line.replace("toolkit.compression.blockmax", "blockmax")
    (package / "job.py").write_text(JOB.replace("REGISTRY_LINE", "{" + line.strip() + "}"))
    environment = os.environ | {"PYTHONPATH": f"{package}:{ROOT}"}
    command = [ROOT / "run_scripts/mpirun.sh", "-np", "2", sys.executable, package / "job.py", tmp_path / "run"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "the example keeps the laws" in done.stdout
