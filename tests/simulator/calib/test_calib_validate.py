"""Validation and the map: synthetic runs are predicted back, held-out runs told apart, and the verdicts are right."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
from pathlib import Path

import pytest

from simulator import calibrate, map, margin, validate
from simulator.map import Cell, Choice, parse_choices, parse_workers, sweep, verdict
from simulator.observe import load_run
from simulator.profile import Cost, Layer, Profile
from toolkit.errors import UserError
from toolkit.experiment import Experiment, dump

PNG = b"\x89PNG\r\n\x1a\n"


def run_main(module, *words: object) -> int:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return module.main(parser.parse_args([str(word) for word in words]))


def quickstart_runs(write_run, truth) -> tuple[list[Path], list[Path]]:
    fitted = [write_run(truth, name, compression={"name": name}) for name in ("none", "topk", "sidco-e")]
    held = [
        write_run(truth, "topk.1", compression={"name": "topk", "density": 0.1}),
        write_run(truth, "two", compression={"name": "none"}, cluster={"workers": 2}),
    ]
    return fitted, held


def test_synthetic_runs_are_predicted_back(write_run, truth):
    truth.noise = 0.03
    fitted, held = quickstart_runs(write_run, truth)
    profile = calibrate.calibrate([load_run(folder) for folder in fitted])
    rows = [validate.compare(load_run(folder), profile, True) for folder in fitted]
    rows += [validate.compare(load_run(folder), profile, False) for folder in held]
    for row in rows:
        assert abs(row.error) < 0.05, row
        assert row.bytes_predicted == pytest.approx(row.bytes_measured, rel=0.02), row
        assert row.predicted_share["compute"] == pytest.approx(row.measured_share["compute"], abs=0.05)


def test_exact_payloads_are_charged_to_the_byte(write_run, truth):
    profile = calibrate.calibrate([load_run(write_run(truth, "none"))])
    for name, density in (("none", 0.01), ("topk", 0.01), ("topk", 0.1), ("fp16", 0.01)):
        truth.compress.setdefault(name, (1e-5, 0.0, 0.0))
        folder = write_run(truth, f"{name}{density}", compression={"name": name, "density": density})
        row = validate.compare(load_run(folder), profile, False)
        assert row.bytes_predicted == row.bytes_measured


def test_command_tells_fitted_from_held_out_runs(write_run, truth, tmp_path, capsys):
    fitted, held = quickstart_runs(write_run, truth)
    profile = tmp_path / "profile.json"
    assert run_main(calibrate, *fitted, "--profile", profile) == 0
    out, picture = tmp_path / "v.json", tmp_path / "v.png"
    words = (*fitted, *held, "--profile", profile, "--json", out, "--plot", picture, "--max-error", 0.1)
    assert run_main(validate, *words) == 0
    content = json.loads(out.read_text())
    assert {row["name"] for row in content["fitted"]["runs"]} == {"none", "topk", "sidco-e"}
    assert {row["name"] for row in content["held_out"]["runs"]} == {"topk.1", "two"}
    assert content["held_out"]["summary"]["mape"] < 0.1
    assert picture.read_bytes().startswith(PNG)
    printed = capsys.readouterr().out
    assert "fitted: mean absolute error" in printed
    assert "held out: mean absolute error" in printed


def test_fit_and_profile_give_the_same_prediction(write_run, truth, tmp_path):
    fitted, held = quickstart_runs(write_run, truth)
    profile = tmp_path / "profile.json"
    run_main(calibrate, *fitted, "--profile", profile)
    one, two = tmp_path / "1.json", tmp_path / "2.json"
    assert run_main(validate, *fitted, *held, "--profile", profile, "--json", one) == 0
    assert run_main(validate, *held, "--fit", *fitted, "--json", two) == 0
    assert one.read_bytes() == two.read_bytes()


def test_an_error_above_the_limit_exits_with_one(write_run, truth, tmp_path, capsys):
    fitted, _ = quickstart_runs(write_run, truth)
    truth.backward = tuple(2 * seconds for seconds in truth.backward)
    slower = write_run(truth, "slower")
    assert run_main(validate, slower, "--fit", *fitted, "--max-error", 0.05) == 1
    assert "above --max-error" in capsys.readouterr().err


def test_order_of_runs_is_judged_where_they_differ():
    row = validate.Comparison("a", True, "", 1.0, 1.0, 1.0, {}, {}, 0.0, 0.0)
    like = dataclasses.replace(row, name="b", measured_s=1.05, predicted_s=0.9)
    wrong = dataclasses.replace(row, name="c", measured_s=2.0, predicted_s=0.8)
    right = dataclasses.replace(row, name="d", measured_s=4.0, predicted_s=4.4)
    total = validate.summary([row, like, wrong, right])
    assert (total.pairs, total.right) == (5, 3)
    assert total.worst == pytest.approx(0.6)
    assert total.worst_run == "c"


def test_ranks_that_share_cores_unevenly_are_named(write_run, truth, capsys):
    folder = write_run(truth, "uneven")
    path = folder / "trace" / "rank3.jsonl"
    lines = path.read_text().splitlines()
    header, rows = lines[0], [json.loads(line) for line in lines[1:]]
    for row in rows:  # rank 3 computes in a fifth of the time and waits for the others
        if row[0] in ("data", "forward", "backward"):
            row[4] = row[3] + (row[4] - row[3]) / 5
    path.write_text("\n".join([header, *map_json(rows)]) + "\n")
    assert run_main(validate, folder, write_run(truth, "even")) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "uneven: one rank took 5.0 times as long" in printed
    assert "even: one rank" not in printed.replace("uneven: one rank", "")


def map_json(rows: list) -> list[str]:
    return [json.dumps(row) for row in rows]


def test_another_network_is_refused(write_run, truth):
    profile = calibrate.calibrate([load_run(write_run(truth, "one"))])
    other = dataclasses.replace(profile, model="vgg16")
    with pytest.raises(UserError, match="the profile is of 'vgg16'"):
        validate.compare(load_run(write_run(truth, "two")), other, False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--max-error", "-1"), "a fraction > 0"),
        (("--profile", "nothing.json"), "no such profile"),
        (("--plot", "/nowhere/v.png"), "--plot /nowhere/v.png: cannot be written"),
        (("--json", "/nowhere/v.json"), "--json /nowhere/v.json: cannot be written"),
    ],
)
def test_bad_input_is_one_line(write_run, truth, words, message):
    with pytest.raises(UserError, match=message) as caught:
        run_main(validate, write_run(truth, "one"), *words)
    assert "\n" not in str(caught.value)


# The map


@pytest.fixture
def profile() -> Profile:
    layers = (Layer("a", 1_000_000, 5e-3, 1e-2), Layer("b", 1_000_000, 5e-3, 1e-2))
    costs = {"none": Cost(), "topk": Cost(1e-5, 2e-9, 5e-9), "sidco-e": Cost(1e-5, 1e-9, 5e-9)}
    merge = {"dense": Cost(), "sparse": Cost(0.0, 1e-10, 2e-9)}
    return Profile("resnet20", 32, "measured", 1438, layers, compress=costs, merge=merge, optimize={"sgd": Cost()})


def small() -> Experiment:
    return Experiment().replace(run={"steps": 5})


def test_compression_pays_on_a_slow_link_and_not_on_a_fast_one(profile):
    found = sweep(small(), profile, [4], [1.25e7, 1.25e10], [Choice("topk", 0.01)])
    slow, fast = found.at(4, 1.25e7, Choice("topk", 0.01)), found.at(4, 1.25e10, Choice("topk", 0.01))
    assert slow.speedup > 5
    assert verdict([slow]).startswith("pays: topk 0.01 ×")
    assert fast.speedup < 1.05
    assert not verdict([fast]).startswith("pays")


def test_speed_up_is_dense_over_compressed_time_at_equal_cluster(profile):
    found = sweep(small(), profile, [2, 8], [1.25e8], [Choice("topk"), Choice("sidco-e")])
    assert found.compressors == [Choice("topk"), Choice("sidco-e")]
    for cell in found.cells:
        dense = found.at(cell.workers, cell.bandwidth, Choice("none"))
        assert cell.speedup == pytest.approx(dense.iteration_s / cell.iteration_s)
        assert dense.speedup == 1.0


def test_batches_stay_whole_on_clusters_larger_than_the_data(profile):
    for given in (profile, None):
        found = sweep(small(), given, [4, 256], [1.25e9], [Choice("topk")])
        for cell in found.cells:
            assert cell.samples_per_s * cell.iteration_s == pytest.approx(32 * cell.workers)


def test_verdicts():
    cell = Cell(4, 1e8, Choice("topk"), 0.01, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0)
    words = [verdict([dataclasses.replace(cell, speedup=value)]) for value in (1.2, 1.04, 0.97, 0.5)]
    assert words == ["pays: topk ×1.20", "no clear difference", "no clear difference", "costs: ×0.50 at best"]


def test_a_verdict_is_given_only_beyond_the_measured_error(tmp_path):
    cell = Cell(4, 1e8, Choice("topk"), 0.01, 1.0, 1.0, 1.0, 0.0, 0.0, 1.15)
    file = tmp_path / "validation.json"
    fitted = {"runs": [{"error": -0.3}]}
    for held, expected in (([{"error": -0.2}, {"error": 0.1}], 1.2), ([{"error": 0.01}], 1.05), ([], 1.3)):
        file.write_text(json.dumps({"fitted": fitted, "held_out": {"runs": held}}))
        assert margin.pays_from(str(file)) == pytest.approx(expected)
        assert verdict([cell], expected).startswith("pays") == (expected < 1.15)
    file.write_text("{}")
    with pytest.raises(UserError, match=r"--validation .*validation\.json: not a file"):
        margin.pays_from(str(file))


def test_map_command_writes_table_and_figure(profile, tmp_path, capsys):
    file, saved = tmp_path / "e.toml", tmp_path / "p.json"
    file.write_text(dump(small()))
    profile.save(saved)
    table, picture = tmp_path / "m.csv", tmp_path / "m.png"
    words = ("--workers", "2,4", "--bandwidths", "100 Mbit/s,1 Gbit/s", "--compressors", "none,topk:0.001,sidco-e")
    assert run_main(map, file, "--profile", saved, *words, "--csv", table, "--plot", picture) == 0
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 2 * 2 * 3
    assert {row["compressor"] for row in rows} == {"none", "topk", "sidco-e"}
    assert {float(row["density"]) for row in rows if row["compressor"] == "topk"} == {0.001}
    assert picture.read_bytes().startswith(PNG)
    assert "topk 0.001" in capsys.readouterr().out


def test_lists_of_the_command_line():
    assert parse_choices("none, topk:0.1") == [Choice("none"), Choice("topk", 0.1)]
    assert parse_workers("8,4,8") == [4, 8]
    for bad in ("topk:0", "topk:2", "topk:x"):
        with pytest.raises(UserError, match=r"a density in \(0, 1\]"):
            parse_choices(bad)
    with pytest.raises(UserError, match="did you mean 'topk'"):
        parse_choices("topq")
    with pytest.raises(UserError, match="whole numbers >= 1"):
        parse_workers("4,0")
