"""The field's exact shapes: parameter counts, and what each architecture promises about its outputs."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from toolkit.models.base import fit, parameters_of
from toolkit.models.describe import STANDARD
from toolkit.models.resnet_cifar import BasicBlock
from toolkit.registry import MODELS

# As published: resnet20 0.27 M, resnet110 1.7 M, vgg16 15.0 M, resnet50 25.6 M, lstm 66.0 M, vgg19 143.7 M.
COUNTS = {
    "fcn5": 14_205_962,
    "lenet": 61_706,
    "resnet8": 75_290,
    "resnet20": 269_722,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "vgg16": 14_990_922,
    "vgg19": 143_667_240,
    "resnet50": 25_557_032,
    "lstm": 66_034_000,
    "charlstm": 289_378,
    "gpt": 814_080,
}


def test_every_registered_network_is_counted_and_has_standard_data():
    assert set(COUNTS) == set(MODELS) == set(STANDARD)


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(make, name):
    with torch.device("meta"):
        assert parameters_of(make(name)) == COUNTS[name]


def test_fcn5_takes_the_small_shape_too(make):
    assert parameters_of(make("fcn5", hidden=200)) == 199_210


@pytest.mark.parametrize("layers", [1, 4, 32])
def test_gpt_follows_the_count_of_its_family(make, layers):
    task = dataclasses.replace(STANDARD["gpt"], classes=50_304, input_shape=(1024,))
    with torch.device("meta"):
        network = make("gpt", task, hidden=2048, heads=16, layers=layers)
    assert parameters_of(network) == 50_358_272 * layers + 105_123_840
    assert parameters_of(network.blocks[0]) == 12 * 2048**2 + 13 * 2048
    # the rest: tokens, positions, the last normalisation; the output layer is the token table itself
    assert 105_123_840 == 50_304 * 2048 + 1024 * 2048 + 2 * 2048
    assert network.head.weight is network.token.weight


@pytest.mark.parametrize("name", [name for name, count in COUNTS.items() if count < 30_000_000])
def test_the_seed_decides_the_weights(make, name):
    first, again, other = (make(name, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", ["gpt", "charlstm"])
def test_language_networks_never_look_ahead(make, name):
    network = make(name).eval()
    tokens = torch.randint(0, 98, (2, 64), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, 40] = (changed[:, 40] + 1) % 98
    with torch.no_grad():
        before, after = network(tokens), network(changed)
    assert torch.equal(before[:, :40], after[:, :40])
    assert not torch.equal(before[:, 40:], after[:, 40:])


def test_gpt_takes_shorter_texts_than_its_positions(make):
    network = make("gpt").eval()
    tokens = torch.arange(64)[None]
    with torch.no_grad():
        torch.testing.assert_close(network(tokens[:, :10]), network(tokens)[:, :10])


def test_option_a_shortcuts_drop_pixels_and_add_empty_channels():
    block = BasicBlock(4, 10, stride=2)
    torch.nn.init.zeros_(block.bn2.weight)
    pixels = torch.randn(3, 4, 7, 8, generator=torch.Generator().manual_seed(0))
    out = block(pixels)
    assert out.shape == (3, 10, 4, 4)
    assert torch.equal(out[:, 3:7], pixels[:, :, ::2, ::2].relu())
    assert not out[:, :3].any()
    assert not out[:, 7:].any()


@pytest.mark.parametrize(("height", "width"), [(8, 8), (28, 28), (5, 9), (16, 11), (32, 32), (40, 33)])
def test_small_pictures_are_repeated_then_padded(height, width):
    pixels = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    out = fit(pixels, 32)
    assert out.shape == (2, 3, max(32, height), max(32, width))
    times = max(1, 32 // max(height, width))
    top, left = ((size - times * old) // 2 for size, old in zip(out.shape[-2:], (height, width), strict=True))
    inside = out[..., top : top + times * height, left : left + times * width]
    assert torch.equal(F.interpolate(pixels, scale_factor=times, mode="nearest"), inside)
    torch.testing.assert_close(out.sum(), times**2 * pixels.sum())  # nothing around it


@pytest.mark.parametrize("name", ["fcn5", "lenet", "resnet8", "resnet20", "resnet56", "vgg16"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 48)])
def test_picture_networks_take_pictures_of_any_size(make, name, shape):
    task = dataclasses.replace(STANDARD["lenet"], input_shape=shape, classes=7)
    with torch.device("meta"):
        assert make(name, task)(torch.zeros(2, *shape)).shape == (2, 7)
