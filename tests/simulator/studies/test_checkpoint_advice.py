"""`plan` on failures: the best simulated interval is Young's, copies in memory win where the network carries them."""

import json
from functools import cache

import pytest

from simulator import checkpoints
from simulator.cli import main
from toolkit.experiment import Experiment

JOB = {"cluster": {"workers": 8, "bandwidth": 1.25e9}, "checkpoint": {"storage_bandwidth": 2.5e9}}


@cache
def advise(parameters=100_000_000, **faults):
    experiment = Experiment().replace(**JOB, faults={"failures_per_day": 4.0, **faults})
    return checkpoints.advise(experiment, parameters, 1.0, 1)


def test_the_best_interval_is_near_youngs_and_dalys():
    found = advise(parameters=10_000_000_000)
    young, daly, best = found.storage
    assert best.ratio >= young.ratio
    assert best.ratio == pytest.approx(young.ratio, abs=0.01)
    assert best.ratio == pytest.approx(daly.ratio, abs=0.01)
    assert young.interval / 2 <= best.interval <= young.interval * 2


def test_memory_wins_over_storage_where_one_machine_fails_at_a_time():
    found = advise(parameters=10_000_000_000)
    assert found.best.name == "2 copies, group"
    assert all(option.survival == 1.0 for option in found.memory)
    assert all(option.ratio > found.storage[-1].ratio for option in found.memory)


def test_more_failures_at_once_need_more_copies():
    found = advise(parameters=10_000_000_000, machines=2)
    by_name = {option.name: option for option in found.memory}
    assert by_name["2 copies, group"].survival == pytest.approx(6 / 7)
    assert by_name["2 copies, ring"].survival == pytest.approx(5 / 7)
    assert by_name["3 copies, mixed"].survival == 1.0
    assert by_name["3 copies, mixed"].ratio > by_name["2 copies, group"].ratio > by_name["2 copies, ring"].ratio
    assert found.best.name.startswith("3 copies")


def test_copies_cost_memory_and_time_in_proportion():
    found = {option.name: option for option in advise().memory}
    two, four = found["2 copies, group"], found["4 copies, group"]
    assert four.memory == pytest.approx(2 * two.memory)
    assert four.seconds == pytest.approx(3 * two.seconds, rel=1e-6)


def test_the_command(tmp_path, capsys):
    file, out = tmp_path / "job.toml", tmp_path / "plan.json"
    file.write_text('[model]\nname = "resnet50"\n[cluster]\nworkers = 4\ndevice = "v100-32g"\n')
    assert main(["plan", str(file), "--set", "faults.failures_per_day=6", "--json", str(out)]) == 0
    text = capsys.readouterr().out
    assert "recommended: " in text
    assert "storage: Daly" in text
    content = json.loads(out.read_text())["checkpoints"]
    assert content["state_bytes"] == 12 * 25_557_032
    assert content["mtbf_s"] == 14400.0
    assert main(["plan", str(file), "--set", "faults.failures_per_day=6", "--plot", str(tmp_path / "p.png")]) == 2
    assert "--plot and --machines are for offloading" in capsys.readouterr().err
