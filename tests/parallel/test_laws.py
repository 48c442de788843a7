"""The laws of exchange and training, on 1, 2 and 4 real ranks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from toolkit.registry import COMPRESSORS

JOB = Path(__file__).with_name("job_laws.py")
EXCHANGES = Path(__file__).with_name("job_exchanges.py")


@pytest.mark.parallel
@pytest.mark.timeout(200)
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_exchanges_conserve_agree_and_send_no_more_than_they_say(mpirun, ranks):
    done = mpirun(ranks, EXCHANGES, timeout=180)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert done.stdout.rstrip().endswith("all laws hold")


@pytest.mark.parallel
@pytest.mark.timeout(400)
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_laws_hold_for_every_compressor(mpirun, tmp_path, ranks):
    done = mpirun(ranks, JOB, tmp_path / "run", timeout=380)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert done.stdout.rstrip().endswith("all laws hold")
    cases = [json.loads(line)["case"] for line in done.stdout.splitlines() if line.startswith("{")]
    assert {case[0] for case in cases} == set(COMPRESSORS)
