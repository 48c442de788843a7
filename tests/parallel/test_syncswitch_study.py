"""`toolkit syncswitch` on two ranks and a few steps: stopped, gone on with, nothing done twice; bad input."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

pytestmark = [pytest.mark.parallel, pytest.mark.timeout(150)]
SMALL = Path(__file__).with_name("small.toml")


def test_the_study_goes_on_where_it_stopped(mpirun, tmp_path):
    asked = ["-m", "toolkit", "syncswitch", SMALL, "--out", tmp_path, "--seeds", "1", "--factors", "1,4"]
    asked += ["--settings", "bsp;10@0.5", "--pace", "1", "--set", "cluster.workers=2", "--set", "run.evaluate_every=2"]
    first = mpirun(2, *asked, "--seconds", "0.000001")
    assert first.returncode == 0, first.stderr
    assert "call again to go on" in first.stdout
    path = tmp_path / "syncswitch.csv"
    before = path.read_text().splitlines()
    assert len(before) == 2, "a call makes one run, however short its time is"
    done = mpirun(2, *asked)
    assert done.returncode == 0, done.stderr
    assert path.read_text().splitlines()[: len(before)] == before
    assert done.stdout.count("accuracy ") >= 4 - (len(before) - 1)
    with path.open(encoding="utf-8") as stream:
        found = {(row["setting"], row["factor"]): row for row in csv.DictReader(stream)}
    assert len(found) == 4
    assert found["bsp", "1"]["accuracy"] == found["bsp", "4"]["accuracy"]  # a straggler costs BSP time alone
    assert found["bsp", "1"]["loss"] == found["bsp", "4"]["loss"]
    assert all(row["curve"].split()[-1].startswith("16:") for row in found.values())  # equal work: 8 steps of 2 workers
    assert float(found["10@0.5", "1"]["switch_s"]) > 0
    assert "| BSP to ASP at 50 % |" in (tmp_path / "syncswitch.md").read_text()
    assert (tmp_path / "syncswitch_small.png").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--settings", "bsp;11@0.5"), "--settings 11@0.5: allowed are bsp, asp, ssp@BOUND, 10@SHARE and 01@SHARE"),
        (("--factors", "0"), "--factors 0 --pace 3: whole numbers from 1 on are wanted"),
        (("--factors", "2"), "worker = 1: the cluster has 1"),
        (("--factors", "1", "--set", "run.compute=paced"), "[run] compute = 'paced': learns nothing"),
    ],
)
def test_bad_input_is_one_line(options, message, capsys):
    from toolkit.__main__ import main

    assert main(["syncswitch", str(SMALL), *options]) == 2
    text = capsys.readouterr().err
    assert message in text
    assert text.count("\n") == 1
