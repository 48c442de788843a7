"""[sync] written wrongly: one line each that names file, key, value and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import UserError
from toolkit.experiment import dump, load, parse
from toolkit.syncswitch_args import overrides

SWITCH = {"policy": "switch"}
CASES: list[tuple[dict[str, Any], str]] = [
    ({"sync": {"order": "12"}}, "[sync] order = '12': letters 1 (BSP) and 0 (ASP) are wanted"),
    ({"sync": {"order": ""}}, "[sync] order = '': letters 1"),
    ({"sync": SWITCH | {"order": "101"}}, "[sync] order = '101': 3 phases need phase_steps"),
    (
        {"sync": SWITCH | {"phase_steps": [5]}},
        "[sync] phase_steps = [5.0]: a number for each of the 2 phases of order = '10' is wanted, not 1",
    ),
    (
        {"sync": SWITCH | {"phase_steps": [5, 9], "phase_checkpoint_every": [1, 2, 3]}},
        "[sync] phase_checkpoint_every = [1.0, 2.0, 3.0]: a number for each of the 2 phases",
    ),
    ({"sync": SWITCH | {"phase_steps": [0.5, 9]}}, "[sync] phase_steps = [0.5, 9.0]: whole numbers are wanted"),
    ({"sync": SWITCH | {"phase_steps": [0, 0]}}, "[sync] phase_steps = [0.0, 0.0]: at least one phase needs steps"),
    ({"sync": SWITCH | {"phase_steps": [-1, 5]}}, "[sync] phase_steps = (-1.0, 5.0): a finite value >= 0"),
    (
        {"sync": SWITCH | {"phase_steps": [50, 4]}, "run": {"steps": 40}},
        "[sync] phase_steps = [50.0, 4.0]: a switch after 200 batches lies beyond the end, [run] steps = 40 of 4 each",
    ),
    (
        {"sync": SWITCH | {"phase_steps": [10, 4]}, "run": {"steps": 40}},
        "[sync] phase_steps = [10.0, 4.0]: make 44 batches, but [run] steps = 40 make 160",
    ),
    ({"sync": SWITCH | {"switch_at": 1.5}}, "[sync] switch_at = 1.5: a finite value >= 0 and <= 1"),
    ({"sync": {"policy": "ssp", "staleness": -1}}, "[sync] staleness = -1: a finite value >= 0"),
    ({"sync": {"policy": "ssp", "staleness": 1.5}}, "[sync] staleness = 1.5: a whole number"),
    (
        {"sync": {"servers": "dedicated", "server_ranks": 4}},
        "[sync] server_ranks = 4: of 4 workers at least one has to compute",
    ),
    ({"sync": {"online": "greedy"}}, "[sync] online = 'greedy': needs policy = 'switch' and order = '10'"),
    ({"sync": {"policy": "asp", "online": "elastic"}}, "[sync] online = 'elastic': needs policy = 'bsp' or 'switch'"),
    (
        {"sync": SWITCH | {"scale_batch": False}, "data": {"batch_size": 30}},
        "[sync] scale_batch = false: 4 workers cannot share a batch of 30 evenly",
    ),
    (
        {"sync": {"policy": "asp"}, "compression": {"name": "powersgd"}},
        "[compression] name = 'powersgd': its factors need the mean over all workers in each step",
    ),
    (
        {"faults": {"slow_worker": [{"worker": 4, "factor": 2.0}]}},
        "[faults] slow_worker 1: worker = 4: the cluster has 4, counted from 0",
    ),
]


@pytest.mark.parametrize(("content", "words"), CASES, ids=[words.split(":")[0] for _, words in CASES])
def test_one_line_with_file_key_and_reason(content: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(content, "exp.toml")
    assert str(caught.value).startswith(f"exp.toml: {words}")
    assert "\n" not in str(caught.value)


def test_an_order_needs_no_quotes_on_a_command_line(tmp_path: Path) -> None:
    file = tmp_path / "exp.toml"
    file.write_text("")
    settings = ["sync.policy=switch", "sync.order=101", "sync.phase_steps=[1, 8, 2]"]
    experiment = load(file, settings)
    assert experiment.sync.order == "101"
    assert load(file, ["sync.order=01"]).sync.order == "01"
    with pytest.raises(UserError, match=r"order = '12'"):
        load(file, ["sync.order=12"])
    written = tmp_path / "resolved.toml"
    written.write_text(dump(experiment))
    assert load(written) == experiment


def test_sync_switchs_options() -> None:
    line = "--switch-order 10 --train-steps 500,3500 --ckpt-frequency 250,2000 --learning-rate 0.8 --momentum 0.9,0.5"
    file, settings, rest = overrides([*line.split(), "--num-workers", "8", "--online-policy", "greedy", "--quiet"])
    sync = load(file, settings).sync
    assert (sync.policy, sync.order, sync.phase_steps) == ("switch", "10", (500.0, 3500.0))
    assert (sync.phase_checkpoint_every, sync.phase_momentum, sync.online) == ((250.0, 2000.0), (0.9, 0.5), "greedy")
    assert load(file, settings).optimizer.learning_rate == 0.8
    assert load(file, settings).cluster.workers == 8
    assert rest == ["--quiet"]
    with pytest.raises(UserError, match="--train-steps 5,x: numbers with commas"):
        overrides(["--train-steps", "5,x"])
