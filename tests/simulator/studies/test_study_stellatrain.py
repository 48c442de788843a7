"""`study stellatrain`: the published cells, one cell by --set, bad input."""

import csv
import json
from pathlib import Path

import pytest

from simulator.cli import main

GOLDEN = Path(__file__).with_name("stellatrain.csv")


def study(tmp_path, *overrides):
    out = tmp_path / "out.json"
    assert main(["study", "stellatrain", "--set", *overrides, "--json", str(out)]) == 0
    return json.loads(out.read_text())["cells"]


def test_the_study_is_as_recorded(tmp_path, capsys):
    out, plot = tmp_path / "out.csv", tmp_path / "out.png"
    assert main(["study", "stellatrain", "--csv", str(out), "--plot", str(plot)]) == 0
    text = capsys.readouterr().out
    assert "calibration: " in text
    assert "held-out: " in text
    assert plot.stat().st_size > 10_000
    got, wanted = (list(csv.DictReader(path.open())) for path in (out, GOLDEN))
    same = ("settings", "quantity", "observed", "role")
    assert [[row[name] for name in same] for row in got] == [[row[name] for name in same] for row in wanted]
    for mine, recorded in zip(got, wanted, strict=True):
        assert float(mine["predicted"]) == pytest.approx(float(recorded["predicted"]), rel=1e-6), mine["settings"]


def test_the_fitted_column_is_met_and_dense_training_is_bound_by_the_network(tmp_path):
    for system, observed in (("ddp-hetero", 152.0), ("stellatrain", 1810.0)):
        cell = study(tmp_path, "study.model=vit", f"study.system={system}", "cluster.bandwidth=1 Gbit/s")[0]
        assert (cell["role"], cell["observed"]) == ("calibration", observed)
        assert cell["predicted"] == pytest.approx(observed)
    slow = study(tmp_path, "study.model=vit", "study.system=ddp-hetero", "cluster.bandwidth=10 Mbit/s")[0]
    assert (slow["role"], slow["observed"]) == ("prediction", None)
    assert slow["predicted"] == pytest.approx(1.52)


def test_published_compression_rates(tmp_path):
    cell = study(tmp_path, "study.model=vit", "cluster.bandwidth=50 Mbit/s", "study.samples=189")[0]
    assert cell["quantity"] == "compression_rate"
    assert cell["observed"] == 0.9979
    assert cell["predicted"] == pytest.approx(0.9979, abs=5e-5)


def test_a_key_without_effect_is_said_and_settings_hold_all_others(tmp_path):
    (cell,) = study(tmp_path, "study.model=swin", "study.off=no-staleness", "cluster.bandwidth=250 Mbit/s")
    assert "cluster.bandwidth has no effect on relative_speed" in cell["note"]
    (cell,) = study(tmp_path, "study.model=vit", "cluster.bandwidth=250 Mbit/s", "control.cv_weight=0.5")
    assert cell["settings"]["control.cv_weight"] == 0.5
    assert "note" not in cell


def test_ablations_slow_it_down(tmp_path):
    speeds = {}
    for off in ("topk", "dense-optimizer", "both", "no-staleness"):
        cell = study(tmp_path, "study.model=swin", f"study.off={off}")[0]
        assert cell["quantity"] == "relative_speed"
        speeds[off] = cell["predicted"]
    assert all(speed < 1 for speed in speeds.values())
    assert speeds["both"] < min(speeds["topk"], speeds["dense-optimizer"])


def test_on_the_trace_the_controller_is_worth_something(tmp_path):
    plain = study(tmp_path, "study.model=swin", "study.trace=true")[0]
    assert "cluster.bandwidth" not in plain["settings"]
    assert plain["predicted"] > 0


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("study.model=alexnet", "[study] model = 'alexnet': allowed are"),
        ("compression.density=0.1", "--set compression.density: this study follows"),
        ("control.penalty=nowhere.json", "nowhere.json: cannot be read"),
        ("control.every=0", "[control] every = 0"),
    ],
)
def test_bad_input_is_one_line(capsys, override, words):
    assert main(["study", "stellatrain", "--set", override]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
