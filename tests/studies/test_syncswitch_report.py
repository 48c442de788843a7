"""What the synchronisation study counts, says and reuses."""

from __future__ import annotations

import math

import numpy as np
import pytest

from toolkit.errors import UserError
from toolkit.experiment import digest
from toolkit.policies.protocol import plan_phases, total_units
from toolkit.studies.intervals import mean
from toolkit.studies.runs import append, read
from toolkit.studies.syncswitch import arguments, cases
from toolkit.studies.syncswitch_figure import curve
from toolkit.studies.syncswitch_report import CLAIMS, paired, report, tables, verdict
from toolkit.studies.syncswitch_rows import Row, Setting


def row(setting: str, seed: int, accuracy: float, seconds: float, loss: float = 0.2, factor: int = 1) -> Row:
    curve = f"4:{seconds / 2:.4f}:0.50000 8:{seconds:.4f}:{accuracy:.5f}"
    return Row("digits", factor, setting, seed, accuracy, loss, seconds, 0.1, 3.0, curve, "abc")


ROWS = [
    *(row("bsp", seed, 0.90 + seed / 100, 10.0 * seed) for seed in (1, 2, 3)),
    *(row("asp", seed, 0.85 + seed / 100, 5.0 * seed) for seed in (1, 2, 3)),
    *(row("10@0.0625", seed, 0.90 + seed / 100 + (seed - 2) / 50, 6.0 * seed) for seed in (1, 2, 3)),
    *(row("ssp@3", seed, 0.1, 5.0, math.nan if seed == 2 else 1.0) for seed in (1, 2, 3)),
]


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    path = tmp_path / "digits.toml"
    path.write_text('[model]\nname = "fcn5"\nhidden = 8\n[run]\nsteps = 32\n')
    return path


def test_the_interval_of_normal_draws_holds_their_mean_19_times_in_20():
    draws = np.random.default_rng(5).normal(3.0, 2.0, (4000, 5))
    held = sum(not (found.above(3.0) or found.below(3.0)) for found in map(mean, draws.tolist()))
    assert held / 4000 == pytest.approx(0.95, abs=0.012)
    assert math.isnan(mean([1.0]).half)
    assert math.isnan(mean([1.0, math.nan]).value)


def test_settings_are_compared_seed_by_seed():
    assert paired(ROWS, "accuracy", "asp", "bsp") == pytest.approx([-0.05] * 3)
    assert paired(ROWS, "seconds", "asp", "bsp") == pytest.approx([0.5] * 3)
    assert len(paired([*ROWS, row("asp", 9, 0.1, 1.0)], "seconds", "asp", "bsp")) == 3


def test_a_claim_appears_only_where_the_whole_interval_says_so(tmp_path):
    less, cost = CLAIMS[0], CLAIMS[1]
    assert verdict(less, mean([-0.05, -0.04, -0.06])) == "yes"
    assert verdict(less, mean([0.05, 0.04, 0.06])) == "no, the opposite"
    assert verdict(less, mean([-0.05, 0.05, -0.06])) == "not to be told"
    assert verdict(less, mean([-0.05])) == "not to be told"
    assert verdict(cost, mean([-0.009, -0.009, -0.0091])) == "yes"
    report(ROWS, tmp_path)
    text = (tmp_path / "syncswitch.md").read_text()
    assert "| SSP, bound 3 | 0.1000 ± 0.0000 | -0.8200 ± 0.0248 | 1 of 3 diverged |" in text
    assert "| ASP takes less time than BSP | 0.146 | 0.500 ± 0.000 | yes |" in text
    assert (tmp_path / "syncswitch_digits.png").stat().st_size > 10_000


def test_a_cluster_and_a_single_seed_stand_for_themselves():
    text = tables([row("bsp", 1, 0.9, 2.0), row("bsp", 1, 0.8, 6.0, factor=3)])
    assert "### digits, all workers are alike" in text
    assert "### digits, one worker computes 3 times as long" in text
    assert "±" not in text
    assert "claim" not in text


def test_curves_are_averaged_at_equal_work():
    seconds, accuracy, _ = curve([row("bsp", 1, 0.9, 2.0), row("bsp", 2, 0.7, 4.0)])
    assert (seconds[0], seconds[-1]) == (1.5, 3.0)
    assert accuracy[-1] == pytest.approx(0.8)


def test_settings_are_told_as_they_are_read(file):
    for text in ("bsp", "asp", "ssp@0", "10@0.0625", "01@0.5"):
        assert Setting.parse(text).name == text
    for text in ("", "ssp", "10", "11@0.5", "10@0", "10@1", "10@1.5", "bsp@3"):
        with pytest.raises(UserError, match="allowed are bsp, asp"):
            Setting.parse(text)
    with pytest.raises(UserError, match="whole numbers from 1 on"):
        list(cases(arguments([str(file), "--factors", "0"])))


def test_every_setting_does_the_same_work_from_the_same_seeds(file):
    found = list(cases(arguments([str(file), "--seeds", "1,2"])))
    assert len({digest(experiment) for _, experiment in found}) == len(found) == 2 * 2 * 7
    assert {total_units(plan_phases(experiment, 32)) for _, experiment in found} == {128}
    assert [case.seed for case, _ in found] == [1] * 14 + [2] * 14
    for case, experiment in found:
        factors = [experiment.faults.slowdown(worker, 7) for worker in range(4)]
        assert factors == [3, 9 if case.factor == 3 else 3, 3, 3]
    plain = list(cases(arguments([str(file), "--pace", "1"])))
    assert not any(experiment.faults.slow_worker for case, experiment in plain if case.factor == 1)


def test_a_file_may_have_settings_of_its_own(file, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(file.read_text())
    found = list(cases(arguments([str(file), f"{other}=bsp; 10@0.5", "--settings", "asp", "--seeds", "1"])))
    assert [(case.task, case.setting) for case, _ in found if case.factor == 1] == [
        ("digits", "asp"),
        ("other", "bsp"),
        ("other", "10@0.5"),
    ]
    with pytest.raises(UserError, match=r"--settings psb: allowed are bsp, asp"):
        list(cases(arguments([f"{file}=psb"])))


def test_rows_of_a_killed_run_are_read_and_others_refused(tmp_path):
    path = tmp_path / "s.csv"
    for each in ROWS[:9]:
        append(path, each)
    path.with_name("s.csv.part").write_text("half a li")  # what a kill in the midst of writing leaves
    append(path, ROWS[0])
    assert read(path, Row) == [*ROWS[:9], ROWS[0]]
    assert ROWS[0].points == [(4.0, 5.0, 0.5), (8.0, 10.0, 0.91)]
    path.write_text("task,factor\ndigits,1\n")
    with pytest.raises(UserError, match=r"s\.csv: not a CSV of this study \(has no column 'setting'\)"):
        read(path, Row)
