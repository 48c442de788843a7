"""What the convergence study counts, says and reuses."""

from __future__ import annotations

import math

import pytest

from toolkit.errors import UserError
from toolkit.experiment import load
from toolkit.registry import COMPRESSORS
from toolkit.studies.convergence import Row, arguments, cases, digest, methods
from toolkit.studies.convergence_report import ratios, report
from toolkit.studies.runs import append, read


def row(method: str, seed: int, loss: float) -> Row:
    return Row("digits", method, seed, 10, 0.01, loss, 0.9, 0.5, 1.5, "abc")


ROWS = [
    *(row("none", seed, 1.0 + seed) for seed in (1, 2)),
    row("topk", 1, 2.02),
    row("topk", 2, 3.03),
    row("randomk", 1, 3.0),
    row("randomk", 2, math.nan),
]


def test_each_loss_is_held_against_the_dense_one_of_its_own_seed(tmp_path) -> None:
    assert ratios(ROWS, "digits", "topk") == pytest.approx([1.01, 1.01])
    assert ratios([*ROWS, row("topk", 3, 9.0)], "digits", "topk") == pytest.approx([1.01, 1.01])
    report(ROWS, tmp_path)
    lines = {line.split(" | ")[0]: line for line in (tmp_path / "convergence.md").read_text().splitlines()}
    assert lines["| none"].endswith("| yes |")
    assert lines["| topk"].endswith("| yes |")
    assert lines["| randomk"].endswith("| no: 1 of 2 diverged |")
    assert (tmp_path / "convergence.png").stat().st_size > 5000


def test_rows_come_back_as_they_were_written(tmp_path) -> None:
    path = tmp_path / "c.csv"
    assert read(path, Row) == []
    for each in ROWS[:4]:
        append(path, each)
    assert read(path, Row) == ROWS[:4]


def test_every_compressor_is_studied_and_its_settings_decide_what_is_run_again(tmp_path) -> None:
    assert set(COMPRESSORS) <= set(methods())
    file = tmp_path / "digits.toml"
    file.write_text('[model]\nname = "fcn5"\nhidden = 8\n')
    wanted = list(cases(arguments([str(file), "--seeds", "1,2"])))
    assert len({digest(experiment) for *_, experiment in wanted}) == len(wanted) == 2 * len(methods())
    assert digest(load(file, ["run.seed=1"])) == digest(load(file))
    assert digest(load(file, ["run.seed=2"])) != digest(load(file))
    with pytest.raises(UserError, match="did you mean 'topk'"):
        list(cases(arguments([str(file), "--methods", "none;topkk"])))
