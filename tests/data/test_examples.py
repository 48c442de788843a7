"""Laws of examples in memory: pictures, windows over text, and the crops of training."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.data import load_task
from toolkit.data.augment import pad_crop_flip
from toolkit.data.base import Images, Windows
from toolkit.errors import UserError
from toolkit.experiment import DataSection
from toolkit.registry import DATASETS, resolve


@settings(deadline=None, max_examples=50)
@given(length=st.integers(2, 200), sequence=st.integers(1, 40))
def test_windows_tile_the_text_and_targets_are_one_place_later(length, sequence):
    text = torch.arange(length)
    examples = Windows(text, sequence)
    inputs, targets = examples.batch(torch.arange(len(examples)), None)
    covered = len(examples) * sequence
    assert torch.equal(inputs.flatten(), text[:covered])
    assert torch.equal(targets.flatten(), text[1 : covered + 1])
    assert length - 1 - covered < sequence  # no whole window was left out


def test_windows_come_in_the_order_of_their_indices():
    examples = Windows(torch.arange(100, dtype=torch.uint8), 10)
    inputs, _ = examples.batch(torch.tensor([7, 0, 3]), None)
    assert inputs[:, 0].tolist() == [70, 0, 30]
    assert inputs.dtype == torch.int64


def test_pictures_are_scaled_and_standardised_by_channel():
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(1, 2, 1, 1).expand(3, 2, 2, 2)
    images = Images(pixels, torch.tensor([4, 5, 6]), mean=(0.5, 0.25), std=(0.5, 0.125))
    batch, labels = images.batch(torch.tensor([2, 0]), None)
    assert labels.tolist() == [6, 4]
    assert batch.dtype == torch.float32
    assert batch[:, 0].unique().tolist() == [-1.0]
    assert batch[:, 1].unique().tolist() == [6.0]


def crops(picture: torch.Tensor, pad: int) -> list[torch.Tensor]:
    """Every picture that pad_crop_flip may give, by brute force."""
    height, width = picture.shape[-2:]
    padded = F.pad(picture, (pad,) * 4)
    upright = [padded[:, y : y + height, x : x + width] for y in range(2 * pad + 1) for x in range(2 * pad + 1)]
    return upright + [crop.flip(2) for crop in upright]


def test_augmentation_gives_every_crop_and_mirror_image_and_nothing_else():
    picture = torch.arange(1.0, 41.0).view(2, 4, 5)
    allowed = {tuple(crop.flatten().tolist()) for crop in crops(picture, 1)}
    assert len(allowed) == 18
    drawn = pad_crop_flip(picture.expand(400, 2, 4, 5), torch.Generator().manual_seed(1), pad=1)
    assert drawn.shape == (400, 2, 4, 5)
    assert {tuple(crop.flatten().tolist()) for crop in drawn} == allowed


def test_augmentation_is_drawn_only_from_its_generator():
    images = Images(
        torch.arange(512, dtype=torch.uint8).view(2, 1, 16, 16),
        torch.zeros(2, dtype=torch.int64),
        (0.0,),
        (1.0,),
        pad_crop_flip,
    )
    indices = torch.tensor([0, 1, 1, 0])

    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(torch.seed())  # the global generator has no say
        return images.batch(indices, torch.Generator().manual_seed(seed))[0]

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))
    plain = images.batch(indices, None)[0]
    assert torch.equal(plain[1], images.pixels[1].float() / 255)


def test_every_registered_data_set_has_a_loader():
    for target in DATASETS.values():
        assert callable(resolve(target))


def test_a_misspelt_data_set_is_named_with_the_nearest_known_one():
    with pytest.raises(UserError, match=r"\[data\] name = 'cifar': .*did you mean 'cifar10'"):
        load_task(DataSection(name="cifar"), seed=0)


@pytest.mark.parametrize("name", ["mnist", "cifar10", "ptb", "imagefolder"])
@pytest.mark.parametrize("root", ["", "no/such/folder"])
def test_an_absent_folder_is_named_with_what_belongs_there(load, name, root):
    with pytest.raises(UserError, match=rf"\[data\] root = '{root}': .*{name}.*(idx3|\.bin|\.txt|<class>)"):
        load(name, root)


@pytest.mark.parametrize("name", ["mnist", "cifar10", "ptb", "imagefolder"])
def test_an_empty_folder_is_named_with_what_belongs_there(load, tmp_path, name):
    with pytest.raises(UserError, match=rf"(?s){tmp_path}.*{name} expects.*(idx3|\.bin|\.txt|<class>)"):
        load(name, tmp_path)
