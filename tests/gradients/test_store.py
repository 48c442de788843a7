"""Saved gradients: their names, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import UserError
from toolkit.gradients import store
from toolkit.gradients.store import GradientFile

GRADS = Path(__file__).parents[2] / "grads"


@given(
    dataset=st.from_regex(r"[a-z0-9]{1,10}", fullmatch=True),
    dnn=st.from_regex(r"[a-z][a-z0-9]{0,9}(_v[0-9])?", fullmatch=True),
    rank=st.integers(0, 9999),
    iteration=st.integers(0, 10**9),
)
def test_names_are_read_back(dataset: str, dnn: str, rank: int, iteration: int) -> None:
    file = GradientFile(dataset, dnn, rank, iteration, Path("folder"))
    assert GradientFile.parse(file.path) == file


def test_round_trip_is_exact_and_leaves_no_other_file(tmp_path: Path) -> None:
    gradient = np.array([1.5, -0.0, np.nan, np.inf, 1e-45], np.float32)
    file = GradientFile("digits", "lenet", 1, 20, tmp_path / "new")
    store.save(file, gradient)
    assert store.load(file.path).tobytes() == gradient.tobytes()
    assert [path.name for path in file.folder.iterdir()] == ["digits_lenet_r1_gradients_iter_20.npy"]


def test_found_by_series_in_the_order_of_iterations(tmp_path: Path) -> None:
    for rank in (1, 0):
        for iteration in (100, 20, 3):
            store.save(GradientFile("digits", "lenet", rank, iteration, tmp_path), np.ones(3, np.float32))
    groups = store.by_series(store.find([tmp_path]))
    assert {series: [file.iteration for file in files] for series, files in groups.items()} == {
        "digits_lenet_r0": [3, 20, 100],
        "digits_lenet_r1": [3, 20, 100],
    }
    one = tmp_path / "digits_lenet_r0_gradients_iter_3.npy"
    assert len(store.find([one, tmp_path])) == 6


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones(3), "float64"),
        (np.ones((2, 2), np.float32), "(2, 2)"),
        (np.ones(0, np.float32), "(0,)"),
        (np.array(["a"], dtype=object), "not a NumPy file of plain numbers"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray, words: str) -> None:
    path = tmp_path / "digits_lenet_r0_gradients_iter_0.npy"
    np.save(path, array, allow_pickle=True)
    with pytest.raises(UserError, match="digits_lenet_r0_gradients_iter_0") as error:
        store.load(path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "digits_lenet_r0_gradients_iter_0.npy"
    np.save(path, np.ones(100, np.float32))
    whole = path.read_bytes()
    for content in (b"", whole[:5], whole[:60], whole[:-4], whole[:-1], whole + b"x", b"\x80\x04N." + whole):
        path.write_bytes(content)
        with pytest.raises(UserError, match=path.name):
            store.load(path)


def test_places_without_gradients_are_refused(tmp_path: Path) -> None:
    for place, words in (
        (tmp_path / "none", "no such file or folder"),
        (tmp_path, "no saved gradients here"),
    ):
        with pytest.raises(UserError, match=words):
            store.find([place])
    (tmp_path / "x.npy").write_bytes(b"")
    with pytest.raises(UserError, match="not the name of a saved gradient"):
        store.find([tmp_path / "x.npy"])


def test_committed_gradients_are_real_and_small() -> None:
    files = store.find([GRADS])
    assert {file.series for file in files} == {"digits_lenet_r0", "pysource_charlstm_r0"}
    for file in files:
        gradient = store.load(file.path)
        assert np.isfinite(gradient).all()
        assert gradient.any()
    sizes = [file.path.stat().st_size for file in files]
    assert max(sizes) < 1_000_000
    assert sum(sizes) < 4_000_000
