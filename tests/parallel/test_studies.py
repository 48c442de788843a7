"""The commands that train again and again, on real ranks and a few steps: what they leave behind."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

pytestmark = [pytest.mark.parallel, pytest.mark.timeout(150)]
SMALL = Path(__file__).with_name("small.toml")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_convergence_goes_on_where_it_stopped(mpirun, tmp_path):
    options = ["--set", "cluster.workers=2", "--methods", "none;topk, oktopk", "--seeds", "1", "--out", tmp_path]
    stopped = mpirun(2, "-m", "toolkit", "convergence", SMALL, *options, "--seconds", "0.000001")
    assert stopped.returncode == 0, stopped.stderr
    assert "call again" in stopped.stdout
    done = mpirun(2, "-m", "toolkit", "convergence", SMALL, *options)
    assert done.returncode == 0, done.stderr
    found = rows(tmp_path / "convergence.csv")
    assert [row["method"] for row in found] == ["none", "topk, oktopk"]
    assert float(found[1]["megabytes"]) < 0.3 * float(found[0]["megabytes"])
    assert "| topk, oktopk |" in (tmp_path / "convergence.md").read_text()


def test_exchanges_tells_bytes_and_times_of_a_step(mpirun, tmp_path):
    options = ["--set", "cluster.workers=2", "--ways", "allgather, top-k;linear, random-k", "--steps", "7"]
    done = mpirun(2, "-m", "toolkit", "exchanges", SMALL, *options, "--rounds", "1", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    found = {row["way"]: row for row in rows(tmp_path / "exchanges.csv")}
    n = int(found["dense"]["elements"])
    tensors = (64 * 32, 32, 32 * 32, 32, 32 * 10, 10)
    kept = sum(max(1, int(size * 0.05)) for size in tensors)
    assert sum(tensors) == n
    assert float(found["dense"]["bytes"]) == 4 * n
    assert float(found["linear, random-k"]["bytes"]) == 4 * kept
    assert float(found["allgather, top-k"]["bytes"]) == 8 * kept + 4 * len(tensors)
    assert all(float(row["step"]) > float(row["wait"]) > 0 for row in found.values())
    assert "allgather, top-k" in (tmp_path / "exchanges.md").read_text()
