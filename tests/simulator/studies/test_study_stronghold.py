"""`study stronghold`: as recorded, within the promised errors, one cell by --set, what does not fit, bad input."""

import csv
import json
from pathlib import Path

import pytest

from simulator.cli import main

GOLDEN = Path(__file__).with_name("stronghold.csv")


def study(tmp_path, *overrides):
    out = tmp_path / "out.json"
    sets = [part for override in overrides for part in ("--set", override)]
    assert main(["study", "stronghold", *sets, "--json", str(out)]) == 0
    return json.loads(out.read_text())


def test_the_study_is_as_recorded(tmp_path, capsys):
    out, plot = tmp_path / "out.csv", tmp_path / "out.png"
    assert main(["study", "stronghold", "--csv", str(out), "--plot", str(plot)]) == 0
    text = capsys.readouterr().out
    assert "calibration: " in text
    assert "held-out: " in text
    assert plot.stat().st_size > 10_000
    got, wanted = (list(csv.DictReader(path.open())) for path in (out, GOLDEN))
    same = ("group", "settings", "quantity", "observed", "role", "note")
    assert [[row[name] for name in same] for row in got] == [[row[name] for name in same] for row in wanted]
    for mine, recorded in zip(got, wanted, strict=True):
        assert float(mine["predicted"]) == pytest.approx(float(recorded["predicted"]), rel=1e-9), mine["settings"]


def test_errors_are_within_what_is_promised(tmp_path):
    found = study(tmp_path)
    times = found["errors"]["held-out"]["quantities"]["iteration_time_s"]
    assert times["cells"] == 19
    assert times["mean"] < 0.05
    assert times["worst"] < 0.10
    cells = found["cells"]
    fitted = [c for c in cells if c["role"] == "calibration" and c["quantity"] == "iteration_time_s"]
    assert {c["settings"]["model.layers"] for c in fitted} == {32}
    assert all(abs(c["error"]) < 0.02 for c in fitted)
    sizes = [c for c in cells if c["quantity"] == "largest_layers"]
    assert len(sizes) == 7
    counted = [c for c in sizes if c["settings"].get("study.memory") == "counted"]
    assert all(abs(c["predicted"] - c["observed"]) <= 4 for c in sizes if c not in counted)
    settled = {c["settings"]["offload.method"] for c in sizes if c["role"] == "calibration"}
    assert settled == {c["settings"]["offload.method"] for c in counted} == {"zero-infinity", "stronghold"}
    assert all((c["role"], c["note"] != "") == ("upper bound", True) for c in counted)
    assert all(c["predicted"] >= c["observed"] for c in counted)
    assert found["errors"]["held-out"]["worst"] < 0.10
    assert found["constants"]["stronghold"]["update_s"] == pytest.approx(4.44e-9, rel=1e-2)


def test_one_cell_published_or_not(tmp_path):
    wanted = ("offload.method=stronghold", "model.layers=48", "offload.window=15", "cluster.device=v100-32g")
    (cell,) = study(tmp_path, *wanted, "model.hidden=2048")["cells"]
    assert (cell["quantity"], cell["role"]) == ("iteration_time_s", "held-out")
    assert cell["observed"] == pytest.approx(4 / 0.3999)
    assert cell["settings"]["offload.window"] == 15
    (cell,) = study(tmp_path, "offload.method=stronghold", "model.layers=48", "offload.window=9")["cells"]
    assert (cell["observed"], cell["role"], cell["error"]) == (None, "prediction", None)
    assert 10.0 < cell["predicted"] < 12.3
    (cell,) = study(tmp_path, "offload.method=l2l", "model.layers=78")["cells"]
    assert cell["predicted"] == pytest.approx(75.6, rel=0.10)
    assert "first iterations" in cell["note"]
    assert "predicted to end at 76 layers" in cell["note"]
    (cell,) = study(tmp_path, "offload.method=megatron-lm", "model.layers=32", "data.batch_size=2")["cells"]
    assert cell["observed"] is None
    assert cell["settings"]["data.batch_size"] == 2


@pytest.mark.parametrize("overrides", [("model.layers=40",), ("model.layers=400",), ("study.quantity=largest_layers",)])
def test_one_cell_is_drawn(tmp_path, overrides):
    picture = tmp_path / "one.png"
    sets = [part for override in overrides for part in ("--set", override)]
    assert main(["study", "stronghold", *sets, "--plot", str(picture)]) == 0
    assert picture.stat().st_size > 2_000


def test_a_key_without_effect_is_said(tmp_path):
    changed = ("offload.window=4", "offload.optimizer=fused", "optimizer.clip_norm=1.0")
    (cell,) = study(tmp_path, "offload.method=l2l", *changed)["cells"]
    assert cell["note"] == "offload.window has no effect on l2l; optimizer.clip_norm has no effect on l2l"
    (cell,) = study(tmp_path, "offload.window=15", "offload.threads=12")["cells"]
    assert "note" not in cell


def test_window_0_takes_the_fastest(tmp_path):
    (cell,) = study(tmp_path, "offload.window=0", "model.layers=40")["cells"]
    chosen = cell["settings"]["offload.window"]
    for window in (chosen - 1, 2):
        (other,) = study(tmp_path, f"offload.window={window}", "model.layers=40")["cells"]
        assert cell["predicted"] <= other["predicted"]


def test_what_does_not_fit_is_no_number(tmp_path, capsys):
    (cell,) = study(tmp_path, "offload.method=megatron-lm", "model.layers=48")["cells"]
    assert cell["predicted"] is None
    assert "out of memory on the device" in cell["note"]
    assert "out of memory on the device" in capsys.readouterr().out
    (cell,) = study(tmp_path, "offload.window=0", "model.layers=300")["cells"]
    assert cell["predicted"] is None


def test_the_largest_is_a_quantity(tmp_path):
    (cell,) = study(tmp_path, "study.quantity=largest_layers", "offload.window=4")["cells"]
    assert (cell["observed"], cell["predicted"], cell["role"]) == (100, 102, "calibration")
    (cell,) = study(tmp_path, "study.quantity=largest_layers", "offload.window=4", "study.memory=counted")["cells"]
    assert (cell["observed"], cell["predicted"], cell["role"]) == (100, 116, "upper bound")
    (cell,) = study(tmp_path, "study.quantity=largest_layers", "cluster.device=t4", "offload.method=megatron-lm")[
        "cells"
    ]
    assert cell["observed"] is None
    assert 0 < cell["predicted"] < 32


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("offload.method=megatron", "did you mean 'megatron-lm'"),
        ("cluster.device=cpu-core", "allowed are v100-32g"),
        ("model.heads=7", "must divide hidden = 2048"),
        ("offload.disk=1", "true or false is wanted"),
        ("faults.slow_worker=[]", "this study follows"),
        ("study.quantity=samples", "allowed are iteration_time_s, largest_layers"),
        ("study.memory=all", "allowed are settled, counted"),
    ],
)
def test_bad_input_is_one_line(override, words, capsys):
    assert main(["study", "stronghold", "--set", override]) == 2
    text = capsys.readouterr().err
    assert words in text
    assert text.count("\n") == 1


def test_a_disk_needs_a_method_that_has_one(capsys):
    assert main(["study", "stronghold", "--set", "offload.method=l2l", "--set", "offload.disk=true"]) == 2
    assert "needs method zero-infinity or stronghold" in capsys.readouterr().err
