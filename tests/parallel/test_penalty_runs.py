"""`toolkit penalty`: real runs under mpirun, each kept as it ends; an interrupted profile goes on as it would have."""

import json

import pytest

from toolkit import penalty
from toolkit.__main__ import main
from toolkit.policies.penalty import load

SETS = ("--set", "cluster.workers=1", "--set", "data.batch_size=16", "--set", "run.steps=0")


@pytest.mark.timeout(180)
def test_a_profile_of_real_runs_is_taken_up_again(tmp_path, capsys, monkeypatch):
    file, out = tmp_path / "exp.toml", tmp_path / "profile.json"
    file.write_text('[model]\nname = "lenet"\n')
    command = ["penalty", str(file), *SETS, "--trials", "4", "--samples", "256", "--out", str(out)]
    assert main(command) == 0
    profile = load(out)
    assert len(profile.points) == 4
    assert all(0 <= point.rate < 1 and 0.2 < point.batch < 5 for point in profile.points)
    assert len({point.penalty for point in profile.points}) > 1
    content = json.loads(out.read_text())
    del content["points"][3]
    out.write_text(json.dumps(content))
    runs = []
    monkeypatch.setattr(penalty, "loss_of", lambda experiment, density, *_: runs.append(density) or 1.0)
    assert main(command) == 0  # the base run and the fourth; the others are known
    assert runs == [1.0, pytest.approx(1 - profile.points[3].rate)]
    capsys.readouterr()
    assert main([*command, "--set", "run.seed=9"]) == 2
    assert "holds a profile of another experiment" in capsys.readouterr().err


def test_a_run_that_fails_is_said(tmp_path, capsys):
    file = tmp_path / "exp.toml"
    file.write_text('[model]\nname = "lenet"\n[data]\nname = "mnist"\nroot = "nowhere"\n')
    out = tmp_path / "profile.json"
    assert main(["penalty", str(file), "--set", "cluster.workers=1", "--trials", "4", "--out", str(out)]) == 2
    assert "penalty: a run failed with 2" in capsys.readouterr().err
    assert not out.exists()
