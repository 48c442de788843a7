"""Descriptions: complete, in the order of the work, and the same as the files the simulator reads."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from toolkit.errors import UserError
from toolkit.models.describe import STANDARD, activation_bytes, describe, main, standard, to_csv, to_table

FILES = Path(__file__).parents[2] / "exp_configs" / "networks"


def test_every_network_has_its_file_and_no_other():
    assert {path.stem for path in FILES.glob("*.csv")} == set(STANDARD)


@pytest.mark.parametrize("name", STANDARD)
def test_the_files_are_what_the_networks_are(name):
    assert (FILES / f"{name}.csv").read_text(encoding="utf-8") == to_csv(standard(name)), (
        "regenerate with python -m toolkit describe --csv exp_configs/networks"
    )


@pytest.mark.parametrize("name", STANDARD)
def test_rows_hold_every_parameter_and_all_arithmetic_once(make, name):
    task = STANDARD[name]
    with torch.device("meta"):
        network = make(name).eval()
        example = torch.zeros(3, *task.input_shape, dtype=torch.int64 if task.kind == "language" else torch.float32)
        rows = describe(network, example)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(example)
    assert {row.tensor: row.shape for row in rows} == {key: tuple(p.shape) for key, p in network.named_parameters()}
    assert len({row.tensor for row in rows}) == len(rows)
    assert sum(row.forward_flops for row in rows) == counter.get_total_flops() > 0


def flops(name: str) -> dict[str, int]:
    return {row.tensor: row.forward_flops for row in standard(name).rows}


def test_arithmetic_is_two_for_each_multiply_add():
    resnet = flops("resnet20")
    assert resnet["conv1.weight"] == 2 * 32 * 32 * 16 * 3 * 9
    assert resnet["layer2.0.conv1.weight"] == 2 * 16 * 16 * 32 * 16 * 9
    assert resnet["bn1.weight"] == 0
    assert resnet["fc.weight"] == 2 * 64 * 10
    lstm = flops("charlstm")
    assert lstm["lstm.weight_ih_l0"] == 2 * 2 * 64 * 4 * 128 * (128 + 128)  # two layers, inputs and state


def test_arithmetic_without_tensors_stands_at_the_tensor_before_it():
    gpt = flops("gpt")
    assert gpt["blocks.0.qkv.weight"] == 2 * 64 * 128 * 3 * 128
    assert gpt["blocks.0.qkv.bias"] == 2 * 2 * 64 * 64 * 128  # QK' and the weighted sum of V, over all heads
    assert gpt["ln_f.bias"] == 2 * 64 * 128 * 98  # the output layer, whose tensor is the embedding's
    assert list(gpt)[:2] == ["token.weight", "position.weight"]
    assert list(gpt)[-1] == "ln_f.bias"


def test_rows_follow_the_pass_and_not_the_constructor():
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second = nn.Linear(3, 2)
            self.unused = nn.Linear(5, 5)
            self.first = nn.Linear(4, 3)

        def forward(self, x):
            return self.second(x.relu() @ torch.eye(4)[:, :4] if x.shape[-1] == 3 else self.first(x))

    rows = describe(Backwards(), torch.zeros(1, 4))
    assert [row.tensor for row in rows] == [
        "first.weight", "first.bias", "second.weight", "second.bias", "unused.weight", "unused.bias",
    ]  # fmt: skip
    assert [row.module for row in rows] == ["Linear"] * 4 + ["unused"] * 2


def test_describing_leaves_a_network_as_it_was(make):
    network = make("resnet20")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    describe(network, torch.randn(2, 3, 32, 32))
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())


def test_activations_grow_with_the_batch_and_count_no_parameters():
    network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    one = activation_bytes(network, torch.zeros(1, 8))
    assert one == 4 * (8 + 16)  # both layers keep their input; ReLU's output is the second's input
    assert activation_bytes(network, torch.zeros(5, 8)) == 5 * one


def test_the_table_and_the_file_say_the_same():
    description = standard("lenet")
    header, columns, *rows = to_csv(description).splitlines()
    assert header == (
        "# network=lenet data=mnist input=1x28x28 classes=10 batch=1 parameters=61706 forward_flops=833040 "
        f"activation_bytes={description.activation_bytes}"
    )
    assert columns == "tensor,module,shape,elements,forward_flops"
    assert rows[0] == "conv1.weight,Conv2d,6x1x5x5,150,235200"
    assert len(rows) == 10
    assert "61,706 parameters in 10 tensors" in to_table(description)
    assert to_table(description).splitlines()[2].split() == ["conv1.weight", "Conv2d", "6x1x5x5", "150", "235,200"]


def test_a_misspelt_network_is_named_with_the_nearest_known_one():
    with pytest.raises(UserError, match="did you mean 'vgg1"):
        standard("vgg")


def test_the_command_prints_tables_and_writes_files(tmp_path, capsys):
    assert main(["lenet", "charlstm"]) == 0
    assert capsys.readouterr().out == f"{to_table(standard('lenet'))}\n{to_table(standard('charlstm'))}\n"
    assert main(["lenet", "--csv", str(tmp_path)]) == 0
    assert (tmp_path / "lenet.csv").read_text() == to_csv(standard("lenet"))
    assert capsys.readouterr().out == f"{tmp_path / 'lenet.csv'}\n"
    with pytest.raises(UserError, match=r"absent/lenet\.csv: cannot be written"):
        main(["lenet", "--csv", str(tmp_path / "absent")])
