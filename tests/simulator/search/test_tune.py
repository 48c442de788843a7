"""`simulator tune`: the best of a small space is the best of its sweep; a killed search ends where it would have."""

import json

import pytest

from simulator import search as search_module
from simulator.cli import main
from simulator.objective import condition, objective
from simulator.space import axis, grid
from toolkit.errors import UserError
from toolkit.experiment import load

FILE = """
[model]
name = "lenet"
[cluster]
bandwidth = "50 Mbit/s"
[run]
steps = 6
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "exp.toml"
    path.write_text(FILE)
    return path


def tune(file, *more):
    out = file.with_name("tuned.json")
    assert main(["tune", str(file), "--json", str(out), *map(str, more)]) == 0
    return json.loads(out.read_text())


SPACE = ("--over", "compression.name=none,topk,sidco-e", "--over", "cluster.workers=2,4,8")
LARGE = ("--over", "compression.name=none,topk", "--over", "compression.density=0.001..0.5", "--trials", "12")


def test_a_small_space_is_tried_whole_and_its_best_is_recommended(file):
    found = tune(file, *SPACE, "--out", file.with_name("best.toml"))
    values = {tuple(t["point"].values()): t["values"][0] for t in found["trials"]}
    assert len(values) == 9
    assert values[tuple(found["point"].values())] == max(values.values())
    recommended = load(file.with_name("best.toml"))
    assert recommended.compression.name == found["point"]["compression.name"]
    assert str(recommended.cluster.workers) == found["point"]["cluster.workers"]
    assert (file.with_name("best.toml")).read_text().startswith("# throughput ")


@pytest.mark.parametrize("name", ["throughput", "time", "cost", "wasted"])
def test_every_objective_recommends_its_own_best(file, name):
    found = tune(file, *SPACE, "--objective", name, "--price", "2.5")
    values = [t["values"][0] for t in found["trials"]]
    best = max(values) if name == "throughput" else min(values)
    assert found["value"] == pytest.approx(best, rel=1e-3)


def test_objectives_are_their_definitions():
    result = {"samples_per_s": 50.0, "workers": 4, "time_share": {"compute": 0.25}}
    values = {n: objective(n, 3600 * 50, 2.0).of(result) for n in ("throughput", "time", "cost", "wasted")}
    assert values == {"throughput": 50.0, "time": 3600.0, "cost": 8.0, "wasted": 0.75}


def test_conditions_are_met_or_the_closest_is_named(file, capsys):
    found = tune(file, *SPACE, "--where", "bytes_sent_per_worker<=1e5")
    chosen = next(t for t in found["trials"] if t["point"] == found["point"])
    assert chosen["measures"]["bytes_sent_per_worker"] <= 1e5
    capsys.readouterr()
    assert main(["tune", str(file), *SPACE, "--where", "iteration_time_s<=1e-9"]) == 2
    error = capsys.readouterr().err
    assert "no tried point meets it; the closest is compression.name=" in error


def test_a_killed_search_ends_where_it_would_have(file, monkeypatch):
    whole = tune(file, *LARGE)
    log, real, calls = file.with_name("log"), search_module.Base.results, []

    def killed(self, experiment, count=None):
        calls.append(experiment)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(self, experiment, count)

    monkeypatch.setattr(search_module.Base, "results", killed)
    with pytest.raises(KeyboardInterrupt):
        main(["tune", str(file), *LARGE, "--log", str(log)])
    log.write_text(log.read_text() + '{"mark": "cut o')  # as a kill leaves it
    assert tune(file, *LARGE, "--log", log) == whole
    seen = len(calls)
    assert tune(file, *LARGE, "--log", log) == whole
    assert len(calls) == seen  # all of it came from the log


def test_the_search_is_the_same_for_a_seed(file):
    first, again = tune(file, *LARGE, "--set", "run.seed=5"), tune(file, *LARGE, "--set", "run.seed=5")
    other = tune(file, *LARGE, "--set", "run.seed=6")
    assert first == again
    assert [t["point"] for t in first["trials"]] != [t["point"] for t in other["trials"]]


def test_a_key_without_effect_and_points_that_are_no_experiments_are_said(file, capsys):
    over = ("--over", "compression.tolerance=0.1,0.3", "--over", "compression.exchange=auto,gtopk")
    assert main(["tune", str(file), *over]) == 0
    text = capsys.readouterr().out
    assert "no effect: compression.tolerance" in text
    assert "2 points are no experiments, such as: " in text


def test_figures_are_written(file):
    for number, space in enumerate((SPACE, LARGE)):
        plot = file.with_name(f"{number}.png")
        tune(file, *space, "--plot", plot)
        assert plot.stat().st_size > 10_000


def test_axes():
    assert axis("a.b=1..8").whole
    assert not axis("a.b=0.5..8").whole
    assert axis("a.b=100 Mbit/s, 1 Gbit/s").values == ("100 Mbit/s", "1 Gbit/s")
    assert len(grid([axis("a.b=1..4"), axis("a.c=x,y")], 8)) == 8
    assert grid([axis("a.b=1..4"), axis("a.c=x,y")], 7) is None
    assert grid([axis("a.b=0.1..4.0")], 100) is None
    assert str(condition("idle >= 0.5")) == "idle >= 0.5"


@pytest.mark.parametrize("text", ["a.b", "ab=1,2", "a.b=", "a.b=1,,2", "a.b=1,1", "a.b=4..2", "a.b=4..4"])
def test_a_bad_axis_is_refused(text):
    with pytest.raises(UserError, match="--over"):
        axis(text)


@pytest.mark.parametrize("text", ["idle", "idle=3", "idle<=x", "idel<=1", "idle<=1e", "<=1"])
def test_a_bad_condition_is_refused(text):
    with pytest.raises(UserError, match="--where"):
        condition(text)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--over", "cluster.wrokers=1,2"], "did you mean 'workers'?"),
        (["--over", "cluster.workers=2,4", "--over", "cluster.workers=2,4"], "a key is given twice"),
        (["--over", "cluster.workers=2,4", "--trials", "0"], "--trials 0"),
        (["--over", "cluster.workers=2,4", "--log", "/nonexistent/log"], "--log /nonexistent/log: cannot be written"),
    ],
)
def test_bad_input_is_one_line(file, capsys, more, words):
    assert main(["tune", str(file), *more]) == 2
    assert words in capsys.readouterr().err


def test_validation_decides_what_is_sure(file):
    path = file.with_name("v.json")
    path.write_text(json.dumps({"held_out": {"runs": [{"error": 9.0}]}, "fitted": {"runs": []}}))
    assert ": sure" not in tune(file, *SPACE, "--validation", path)["verdict"]
    found = search_module._sure({"factor": 1.4, "ci95": 0.01}, 1.5)
    assert "within the simulator's error of 50%" in found
    assert "sure" in search_module._sure({"factor": 1.4, "ci95": 0.01}, 1.05)
    assert search_module._sure({"factor": 1.01, "ci95": 0.02}, 1.05).endswith("a tie")
