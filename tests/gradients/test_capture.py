"""Capture: a real run leaves its gradients, and they are those that backward makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from toolkit.errors import UserError
from toolkit.gradients import store
from toolkit.gradients.capture import Capture, main, parse_numbers

EXPERIMENT = """
[model]
name = "lenet"
[data]
batch_size = 8
[compression]
name = "topk"
[optimizer]
learning_rate = 0.01
"""


@pytest.mark.parametrize(
    ("text", "numbers"), [("0", [0]), ("3,1,2,1", [1, 2, 3]), ("0:5:2", [0, 2, 4]), ("0:3,10", [0, 1, 2, 10])]
)
def test_numbers(text: str, numbers: list[int]) -> None:
    assert parse_numbers("--steps", text) == numbers


@pytest.mark.parametrize("text", ["", "a", "1.5", "-1", "3:3", "1:2:0", "1:2:3:4", "0,,1"])
def test_bad_numbers_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--steps"):
        parse_numbers("--steps", text)


def test_only_chosen_steps_and_ranks_are_saved(tmp_path: Path) -> None:
    capture = Capture("digits", "lenet", [1, 3], [0, 2], tmp_path)
    for step in range(5):
        for rank in range(3):
            capture(step, rank, torch.full((4,), 10.0 * step + rank, requires_grad=True))
    found = {(file.iteration, file.rank): store.load(file.path)[0] for file in store.find([tmp_path])}
    assert found == {(1, 0): 10.0, (1, 2): 12.0, (3, 0): 30.0, (3, 2): 32.0}
    assert sorted(capture.saved) == [file.path for file in sorted(store.find([tmp_path]), key=lambda file: file.path)]


def test_a_rank_that_the_run_does_not_have_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "lenet.toml").write_text(EXPERIMENT)
    with pytest.raises(UserError, match="--ranks 0,4: this run has 1 workers"):
        main([str(tmp_path / "lenet.toml"), "--ranks", "0,4", "--out", str(tmp_path)])


def test_a_real_run_twice_gives_the_same_gradients_which_compression_does_not_touch(tmp_path: Path) -> None:
    (tmp_path / "lenet.toml").write_text(EXPERIMENT)
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        arguments = [str(tmp_path / "lenet.toml"), "--steps", "0,2", "--out", str(folder), "--run", str(folder / "run")]
        done = subprocess.run(
            [sys.executable, "-m", "toolkit", "capture", *arguments], capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stderr
    first, second = ([store.load(file.path) for file in store.find([folder])] for folder in folders)
    assert len(first) == 2
    for a, b in zip(first, second, strict=True):
        assert a.tobytes() == b.tobytes()
        assert a.size == 61706
        assert np.count_nonzero(a) > 0.5 * a.size, "the gradient before compression is not sparse"
    assert first[0].tobytes() != first[1].tobytes()
