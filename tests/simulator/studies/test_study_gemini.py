"""`study gemini`: the published cells, one cell by --set, the checkpoint's traffic in an iteration, bad input."""

import csv
import itertools
import json
from pathlib import Path

import pytest

from simulator.cli import main
from simulator.zero3 import Machines, Model, simulate
from toolkit.policies.traffic import Chunk

GOLDEN = Path(__file__).with_name("gemini.csv")


def study(tmp_path, *overrides):
    out = tmp_path / "out.json"
    sets = [part for override in overrides for part in ("--set", override)]
    assert main(["study", "gemini", *sets, "--json", str(out)]) == 0
    return json.loads(out.read_text())


def test_the_study_is_as_recorded(tmp_path, capsys):
    out, plot = tmp_path / "out.csv", tmp_path / "out.png"
    assert main(["study", "gemini", "--csv", str(out), "--plot", str(plot)]) == 0
    text = capsys.readouterr().out
    assert "calibration: " in text
    assert "held-out: " in text
    assert plot.stat().st_size > 10_000
    got, wanted = (list(csv.DictReader(path.open())) for path in (out, GOLDEN))
    assert [(r["settings"], r["quantity"], r["observed"], r["role"]) for r in got] == [
        (r["settings"], r["quantity"], r["observed"], r["role"]) for r in wanted
    ]
    for mine, recorded in zip(got, wanted, strict=True):
        assert float(mine["predicted"]) == pytest.approx(float(recorded["predicted"]), rel=1e-9), mine["settings"]


def test_one_cell(tmp_path):
    place = ("checkpoint.placement=group", "cluster.workers=16", "checkpoint.replicas=2")
    found = study(tmp_path, *place, "faults.machines=3")["cells"]
    assert [(c["quantity"], c["observed"], c["role"]) for c in found] == [("recovery_probability", 0.8, "held-out")]
    assert found[0]["predicted"] == pytest.approx(0.8)
    found = study(tmp_path, "checkpoint.placement=mixed", "cluster.workers=17", "faults.machines=2")["cells"]
    assert found[0]["observed"] is None
    assert found[0]["predicted"] == pytest.approx(0.9265, abs=5e-5)


def holders(placement, machines, copies):
    """Who has each machine's shard, from the definitions."""
    grouped = {"group": machines, "ring": 0, "mixed": machines - copies - machines % copies}[placement]
    ring = range(grouped, machines)
    rows = [{i // copies * copies + j for j in range(copies)} for i in range(grouped)]
    return rows + [{ring[(i + j) % len(ring)] for j in range(copies)} for i in range(len(ring))]


@pytest.mark.parametrize(
    ("placement", "machines", "copies", "failed"),
    [
        ("ring", 13, 3, 5),
        ("mixed", 13, 3, 5),
        ("mixed", 14, 4, 6),
        ("group", 12, 3, 5),
        ("ring", 16, 4, 6),
        ("mixed", 5, 3, 3),
    ],
)
def test_any_machines_and_copies_are_one_cell(tmp_path, placement, machines, copies, failed):
    asked = (f"cluster.workers={machines}", f"checkpoint.replicas={copies}", f"faults.machines={failed}")
    (cell,) = study(tmp_path, f"checkpoint.placement={placement}", *asked)["cells"]
    rows, sets = holders(placement, machines, copies), list(itertools.combinations(range(machines), failed))
    alive = sum(all(not row <= set(gone) for row in rows) for gone in sets)
    assert cell["predicted"] == pytest.approx(alive / len(sets), rel=1e-12)
    assert (cell["observed"], cell["role"]) == (None, "prediction")


@pytest.mark.parametrize(
    "changed", ["checkpoint.replicas=4", "study.rack=2", "study.rack=4 study.spread=true", "checkpoint.placement=ring"]
)
def test_only_the_published_setting_has_the_published_value(tmp_path, changed):
    found = study(tmp_path, "cluster.workers=16", "checkpoint.placement=group", "faults.machines=2", *changed.split())
    assert [(c["observed"], c["role"]) for c in found["cells"]] == [(None, "prediction")]


def test_settings_say_all_that_was_asked(tmp_path):
    asked = ("study.model=20B", "study.flops=1e14", "checkpoint.buffer=64 MiB", "study.quantity=iteration_time_s")
    (cell,) = study(tmp_path, *asked)["cells"]
    assert cell["settings"]["study.flops"] == 1e14
    again = [
        f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in cell["settings"].items()
    ]
    assert study(tmp_path, *again)["cells"] == [cell]


def test_the_bound_is_an_option(tmp_path):
    found = study(tmp_path, "checkpoint.placement=group", "faults.machines=5", "study.bound=true")["cells"]
    assert found[0]["predicted"] == pytest.approx(1 / 3)
    assert abs(found[0]["error"]) < 1e-3
    assert "note" not in found[0]


def test_interleaved_traffic_costs_nothing_and_blocking_costs_its_time(tmp_path):
    times = {}
    for traffic in ("none", "interleaved", "blocking"):
        cells = study(tmp_path, "study.model=20B", f"checkpoint.traffic={traffic}")["cells"]
        times[traffic] = cells[0]["predicted"]
    assert times["interleaved"] == pytest.approx(times["none"], rel=1e-9)
    assert times["blocking"] == pytest.approx(times["none"] + 12 * 20e9 / 16 / (50e9 * 0.85), rel=1e-3)


def test_an_iteration_of_one_layer_and_traffic_outside_its_spans():
    model, machines = Model(1, 64), Machines(4, 1, 1e9, 1e6)
    found = simulate(model, machines, 100, ahead=0)
    transfer = 2 * model.parameters * 3 / 4 / 1e6
    compute = 2 * model.parameters * 100 / 1e9
    assert found.time == pytest.approx(3 * transfer + 4 * compute)
    assert found.busy == pytest.approx(3 * transfer)
    assert sum(span.length for span in found.spans) == pytest.approx(4 * compute)
    late = simulate(model, machines, 100, ahead=0, chunks=[Chunk(0, 0, 0.0, 1.0, 1)])  # at the start: training waits
    assert late.time > found.time


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["cluster.workers=17", "checkpoint.placement=group"], "17 machines do not divide into groups of 2"),
        (["checkpoint.replicas=17"], "17 copies on 16 machines"),
        (["faults.machines=17"], "[faults] machines = 17: the cluster has 16"),
        (["compression.density=0.1"], "--set compression.density: this study follows"),
        (["study.modle=5B"], "did you mean 'model'?"),
        (["study.model=6B"], "[study] model = '6B': allowed are"),
        (["study.rack=1000", "faults.machines=2"], "of 1 racks"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, overrides, words):
    sets = [part for override in overrides for part in ("--set", override)]
    assert main(["study", "gemini", *sets, "--json", str(tmp_path / "o.json")]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "o.json").exists()


def test_an_unknown_study_names_the_nearest(capsys):
    assert main(["study", "gemni"]) == 2
    assert "did you mean 'gemini'?" in capsys.readouterr().err
