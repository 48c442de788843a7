"""Pictures in class folders, written here as PNG and JPEG files."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from toolkit.data.imagefolder import MEAN, STD
from toolkit.errors import UserError


def ramp(height: int, width: int) -> Image.Image:
    """Red tells the row and green the column; blue tells nothing."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.arange(height)[:, None] % 256
    pixels[..., 1] = np.arange(width)[None, :] % 256
    return Image.fromarray(pixels)


def write(root: Path) -> None:
    for part in ("train", "val"):
        for label, name in enumerate(("ant", "bee")):
            folder = root / part / name
            folder.mkdir(parents=True)
            Image.new("RGB", (40, 30), (200, 100, 50 * label)).save(folder / "plain.png")
            ramp(256, 320).save(folder / "ramp.png")
    Image.new("L", (300, 400), 7).save(root / "train" / "bee" / "grey.JPG", format="JPEG")
    (root / "train" / "bee" / "notes.txt").write_text("not a picture")


def colours(pixels: torch.Tensor) -> torch.Tensor:
    return ((pixels * STD + MEAN) * 255).round().long()


def test_evaluation_takes_the_middle(load, tmp_path):
    write(tmp_path)
    task = load("imagefolder", tmp_path)
    assert (task.kind, task.classes, task.input_shape) == ("classification", 2, (3, 224, 224))
    pixels, labels = task.test.batch(torch.arange(4), None)
    assert labels.tolist() == [0, 0, 1, 1]
    assert pixels.shape == (4, 3, 224, 224)
    plain, bent = colours(pixels[2]), colours(pixels[1])
    assert plain.flatten(1).unique(dim=1).flatten().tolist() == [200, 100, 50]
    assert bent[0, :, 0].tolist() == list(range(16, 240))
    assert bent[1, 0].tolist() == [column % 256 for column in range(48, 272)]


def test_training_takes_a_random_place_and_mirrors_half(load, tmp_path):
    write(tmp_path)
    task = load("imagefolder", tmp_path)
    assert len(task.train) == 5
    pixels, _ = task.train.batch(torch.full((40,), 1), torch.Generator().manual_seed(5))
    places, mirrored = set(), 0
    for picture in pixels:
        cut = colours(picture)
        columns = cut[1, 0].tolist()
        if (columns[1] - columns[0]) % 256 == 255:
            mirrored += 1
            columns.reverse()
        assert all((after - before) % 256 == 1 for before, after in pairwise(columns))
        top = int(cut[0, 0, 0])
        assert cut[0, :, 0].tolist() == list(range(top, top + 224))
        assert 0 <= columns[0] <= 96
        places.add((top, columns[0]))
    assert 8 < mirrored < 32
    assert len(places) > 30


def test_training_is_drawn_only_from_its_generator(load, tmp_path):
    write(tmp_path)
    train = load("imagefolder", tmp_path).train
    indices = torch.tensor([1, 3])
    first = train.batch(indices, torch.Generator().manual_seed(2))[0]
    assert torch.equal(first, train.batch(indices, torch.Generator().manual_seed(2))[0])
    assert not torch.equal(first, train.batch(indices, torch.Generator().manual_seed(3))[0])


def test_grey_pictures_become_colour(load, tmp_path):
    write(tmp_path)
    train = load("imagefolder", tmp_path).train
    place = [path.name for path in train.paths].index("grey.JPG")
    pixels, labels = train.batch(torch.tensor([place]), None)
    assert labels.tolist() == [1]
    assert colours(pixels[0]).unique().tolist() == [7]


def test_spoilt_folders_are_named(load, tmp_path):
    write(tmp_path)
    (tmp_path / "val" / "cow").mkdir()
    with pytest.raises(UserError, match="val/cow: a class that the training folder does not have"):
        load("imagefolder", tmp_path)
    (tmp_path / "val" / "cow").rename(tmp_path / "train" / "cow")
    assert load("imagefolder", tmp_path).classes == 3
    for path in (tmp_path / "val").rglob("*.png"):
        path.unlink()
    with pytest.raises(UserError, match="val: no pictures"):
        load("imagefolder", tmp_path)


@pytest.mark.parametrize("keep", [0, 20, 400])
def test_a_cut_picture_is_named_when_it_is_read(load, tmp_path, keep):
    write(tmp_path)
    path = tmp_path / "val" / "ant" / "ramp.png"
    path.write_bytes(path.read_bytes()[:keep])
    test = load("imagefolder", tmp_path).test
    with pytest.raises(UserError, match=r"val/ant/ramp\.png: not a whole picture"):
        test.batch(torch.tensor([1]), None)
