"""`study syncswitch`: the published cells, cells that nobody listed, bad input."""

import csv
import json
from pathlib import Path

import pytest

from simulator.cli import main

GOLDEN = Path(__file__).with_name("syncswitch.csv")
GOALS = {"exp1": 0.01, "exp2": 0.02, "exp3": 0.03}


def study(tmp_path, *overrides):
    out = tmp_path / "out.json"
    assert main(["study", "syncswitch", "--set", *overrides, "--json", str(out)]) == 0
    return {cell["quantity"]: cell for cell in json.loads(out.read_text())["cells"]}


def test_the_study_is_as_recorded_and_meets_its_goals(tmp_path, capsys):
    out, plot = tmp_path / "out.csv", tmp_path / "out.png"
    assert main(["study", "syncswitch", "--csv", str(out), "--plot", str(plot)]) == 0
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
    held_out = [row for row in got if row["role"] == "held-out"]
    assert len(held_out) >= 7
    for row in held_out:
        assert abs(float(row["error"])) <= GOALS[json.loads(row["settings"])["study.experiment"]], row


@pytest.mark.parametrize(
    "asked",
    [
        ("study.experiment=exp1", "sync.order=10", "sync.switch_at=0.05"),
        ("study.experiment=exp1", "sync.policy=switch", "sync.switch_at=0.05", "cluster.workers=8"),
        ("sync.switch_at=0.05", "data.batch_size=128", "study.quantity=train_time_s"),
    ],
)
def test_a_published_cell_is_recognized_however_it_is_asked_for(tmp_path, asked):
    cell = study(tmp_path, *asked)["train_time_s"]
    assert (cell["observed"], cell["role"]) == (2052.9, "held-out")
    assert abs(cell["error"]) < 0.01


@pytest.mark.parametrize(("share", "role"), [("0.25", "held-out"), ("1.0", "calibration")])
def test_another_accuracy_is_held_against_the_published_curves(tmp_path, share, role):
    found = study(tmp_path, f"sync.switch_at={share}", "study.accuracy=0.9", "study.quantity=time_to_accuracy_s")
    cell = found["time_to_accuracy_s"]
    assert cell["observed"] > 1000
    assert cell["role"] == role
    assert abs(cell["error"]) < 0.01


def test_a_setting_that_was_not_run_has_no_published_time_to_accuracy(tmp_path):
    delayed = 'faults.added_latency=[{host=1, latency="30 ms"}]'
    asked = ("sync.switch_at=0.25", "study.accuracy=0.88", "study.quantity=time_to_accuracy_s", delayed)
    cell = study(tmp_path, *asked)["time_to_accuracy_s"]
    assert (cell["observed"], cell["role"]) == (None, "prediction")
    assert cell["predicted"] > study(tmp_path, *asked[:3])["time_to_accuracy_s"]["predicted"]


@pytest.mark.parametrize(
    "course",
    [
        ("sync.policy=ssp",),
        ("sync.order=101", "sync.phase_steps=[10,80,10]"),
        ("sync.order=01", "sync.switch_at=0.5"),
        ("sync.switch_at=0.25", "cluster.workers=16"),
        ("sync.switch_at=0.25", "data.batch_size=64"),
    ],
)
def test_a_course_without_a_published_curve_has_no_time_to_accuracy(capsys, course):
    assert main(["study", "syncswitch", "--set", *course, "study.quantity=time_to_accuracy_s"]) == 2
    text = capsys.readouterr().err
    assert (
        "published curves are of BSP, ASP and order = '10' with the experiment's own workers, batch and steps" in text
    )
    assert text.count("\n") == 1


def test_a_cell_that_nobody_listed_lies_between_its_neighbours(tmp_path):
    at = {share: study(tmp_path, f"sync.switch_at={share}")["train_time_s"]["predicted"] for share in (0.05, 0.1, 0.25)}
    assert at[0.05] < at[0.1] < at[0.25]
    more = study(tmp_path, "sync.switch_at=0.1", "study.gaps=true")["train_time_s"]["predicted"]
    assert more == pytest.approx(at[0.1] + 187.532)


def test_the_ends_of_the_switch_are_bsp_and_asp_alone(tmp_path):
    for policy, order, share in (("bsp", "1", "1.0"), ("asp", "0", "0.0")):
        ways = [(f"sync.policy={policy}",), (f"sync.order={order}",), (f"sync.switch_at={share}",)]
        cells = [study(tmp_path, "study.experiment=exp2", *way)["train_time_s"] for way in ways]
        assert len({cell["predicted"] for cell in cells}) == 1
        assert all(cell["role"] == "calibration" for cell in cells)


def test_a_delay_slows_in_proportion_and_every_worker_feels_it(tmp_path):
    def slow(*rows):
        table = ", ".join(f'{{host={host}, latency="{ms} ms"}}' for host, ms in rows)
        cells = study(tmp_path, "study.experiment=legacy", "sync.policy=asp", f"faults.added_latency=[{table}]")
        return cells["slowdown"]

    assert slow((1, 10))["observed"] == 1.0403
    assert slow((1, 30))["predicted"] - 1 == pytest.approx(3 * (slow((1, 10))["predicted"] - 1), rel=0.05)
    assert slow((1, 10), (2, 10))["predicted"] > slow((1, 10))["predicted"]


def test_a_passing_straggler_costs_less_than_a_lasting_one(tmp_path):
    row = '{host=1, latency="10 ms"'
    passing = study(tmp_path, "sync.policy=bsp", f'faults.added_latency=[{row}, start="600 s", end="900 s"}}]')
    lasting = study(tmp_path, "sync.policy=bsp", f"faults.added_latency=[{row}}}]")
    plain = study(tmp_path, "sync.policy=bsp")
    times = [cells["train_time_s"]["predicted"] for cells in (plain, passing, lasting)]
    assert times[0] < times[1] < times[2]
    assert times[1] - times[0] == pytest.approx(300 * 0.024, rel=0.2)


def test_ssp_lies_between_bsp_and_asp(tmp_path):
    times = [
        study(tmp_path, "study.experiment=exp1", "run.steps=200", *policy)["train_time_s"]["predicted"]
        for policy in (("sync.policy=asp",), ("sync.policy=ssp", "sync.staleness=2"), ("sync.policy=bsp",))
    ]
    assert times[0] < times[1] < times[2]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sync.order=12", "letters 1 (BSP) and 0 (ASP) are wanted"),
        ("sync.switch_at=1.5", "[sync] switch_at = 1.5: a finite value >= 0 and <= 1 is wanted"),
        ("sync.staleness=-1", "[sync] staleness = -1"),
        ("sync.phase_steps=[1]", "a number for each of the 2 phases"),
        ("study.experiment=exp9", "allowed are exp1, exp2, exp3, legacy"),
        ("compression.name=topk", "--set compression.name: this study follows"),
        ('faults.added_latency=[{host=9, latency="1 ms"}]', "host = 9: the cluster has 8"),
        ('faults.added_latency=[{host=16, latency="1 ms"}]', "host = 16: the cluster has 16"),
        ("study.quantity=slowdown", "this setting has train_time_s, bsp_step_s, asp_steps_per_s"),
        ("study.accuracy=0.999", "no published run of exp1 with switch_at = 0.0625 reached 0.999"),
        (("study.saving=true", "sync.policy=bsp"), "saving = true: the chief saves alone in an ASP or SSP phase"),
        (("study.experiment=legacy", "study.quantity=time_to_accuracy_s"), "no curve of legacy is published"),
    ],
)
def test_bad_input_is_one_line(capsys, override, message):
    overrides = [override] if isinstance(override, str) else override
    assert main(["study", "syncswitch", "--set", *overrides]) == 2
    text = capsys.readouterr().err
    assert message in text
    assert text.count("\n") == 1
