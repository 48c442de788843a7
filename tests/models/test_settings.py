"""Settings a network does not have are refused, and named."""

import pytest
import torch

from toolkit.errors import UserError
from toolkit.models.describe import STANDARD


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("resnet2", {}, r"\[model\] name = 'resnet2': .*did you mean 'resnet20'"),
        ("resnet20", {"hidden": 64}, r"\[model\] hidden = 64: resnet20 has no such setting"),
        ("lenet", {"dropout": 0.5}, r"\[model\] dropout = 0.5: lenet has no such setting"),
        ("charlstm", {"heads": 2}, r"\[model\] heads = 2: charlstm has no such setting"),
        ("gpt", {"heads": 3}, r"\[model\] heads = 3: must divide hidden = 128"),
        ("gpt", {"hidden": -128}, r"\[model\] hidden = -128: allowed are positive"),
        ("gpt", {"vocabulary": 97}, r"\[model\] vocabulary = 97: pysource has 98 words"),
        ("resnet20", {"vocabulary": 97}, r"\[model\] vocabulary = 97: resnet20 has no such setting"),
        ("gpt", {"dropout": 1.0}, r"\[model\] dropout = 1.0: allowed are shares"),
        ("gpt", {"dropout": float("nan")}, r"\[model\] dropout = nan: allowed are shares"),
    ],
)
def test_wrong_settings_are_named(make, name, settings, message):
    with pytest.raises(UserError, match=message):
        make(name, STANDARD["gpt"] if name in ("gpt", "charlstm") else STANDARD["lenet"], **settings)


@pytest.mark.parametrize("name", STANDARD)
def test_a_network_refuses_the_other_kind_of_task(make, name):
    other = STANDARD["lenet" if STANDARD[name].kind == "language" else "gpt"]
    with pytest.raises(UserError, match=rf"\[model\] name = '{name}': a {STANDARD[name].kind} network cannot train on"):
        make(name, other)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("gpt", {"dropout": 0.5}),
        ("charlstm", {"dropout": 0.5}),
        ("vgg16", {"dropout": 0.5}),
    ],
)
def test_dropout_acts_in_training_only(make, name, settings):
    task = STANDARD[name]
    network, plain = make(name, **settings), make(name)
    inputs = torch.ones(4, *task.input_shape, dtype=torch.int64 if task.kind == "language" else torch.float32)
    torch.manual_seed(0)
    with torch.no_grad():
        assert not torch.equal(network(inputs)[0], network(inputs)[1])
        assert torch.equal(network.eval()(inputs), network(inputs))
        fresh = make(name, **settings).eval()
        assert torch.equal(fresh(inputs), plain.eval()(inputs))


def test_sizes_are_taken(make):
    network = make("charlstm", hidden=24, layers=3)
    assert network.lstm.hidden_size == 24
    assert network.lstm.num_layers == 3
    network = make("gpt", hidden=24, layers=3, heads=2)
    assert len(network.blocks) == 3
    assert network(torch.zeros(1, 64, dtype=torch.int64)).shape == (1, 64, 98)
    network = make("gpt", hidden=24, layers=1, heads=2, vocabulary=128)
    assert network(torch.zeros(1, 64, dtype=torch.int64)).shape == (1, 64, 128)
