"""`toolkit search`: the switching point of a tiny real job, interrupted, gone on, refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = [pytest.mark.parallel, pytest.mark.timeout(150)]
SMALL = Path(__file__).with_name("small.toml")
TINY = ("--runs", "2", "--settings", "2", "--set", "cluster.workers=2", "--set", "run.steps=4", "--metric", "loss")


def test_a_search_goes_on_where_it_stopped_and_says_what_it_cost(mpirun, tmp_path):
    asked = ["-m", "toolkit", "search", SMALL, *TINY, "--tolerance", "100", "--out", tmp_path]
    stopped = mpirun(2, *asked, "--seconds", "0.000001")
    assert stopped.returncode == 0, stopped.stderr
    assert "0 of 2 runs of BSP are there; call again to go on" in stopped.stdout
    done = mpirun(2, *asked)
    assert done.returncode == 0, done.stderr
    assert "found: [sync] switch_at = 0.25" in done.stdout
    book = json.loads((tmp_path / "search.json").read_text())
    assert [trial["share"] for trial in book["state"]["trials"]] == [1.0, 0.5, 0.25]
    outcomes = [trial["outcomes"] for trial in book["state"]["trials"]]
    assert [len(runs) for runs in outcomes] == [2, 2, 2]
    seconds = [sum(time for _, time in runs) / 2 for runs in outcomes]
    assert book["found"]["complete"]
    assert book["found"]["cost_bsp_runs"] == pytest.approx(2 * sum(seconds) / seconds[0])
    again = mpirun(2, *asked)  # nothing is left to run
    assert again.stdout.count("run 1 of 2") == 0
    assert json.loads((tmp_path / "search.json").read_text()) == book
    other = mpirun(2, *asked, "--set", "optimizer.learning_rate=0.07")
    assert other.returncode == 2
    assert other.stderr.count("belongs to a search with other settings") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--set", "sync.order=01"), "[sync] order = '01': a search sets switch_at of order = '10'"),
        (("--metric", "speed"), "--metric = 'speed': allowed are accuracy, loss"),
        (("--runs", "0"), "--runs 0 --settings 5"),
    ],
)
def test_bad_input_is_one_line(options, message, capsys):
    from toolkit.__main__ import main

    assert main(["search", str(SMALL), *options]) == 2
    text = capsys.readouterr().err
    assert message in text
    assert text.count("\n") == 1
