"""Sparse optimizers: torch's own on dense input, untouched elsewhere, and torch-compatible in state and schedule."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from toolkit import optim
from toolkit.experiment import OptimizerSection
from toolkit.optim.sparse import SparseOptimizer
from toolkit.optim.sparse_adam import SparseAdam, SparseAdamW
from toolkit.optim.sparse_sgd import SparseSGD

SPARSE = ("sparse-sgd", "sparse-adam", "sparse-adamw")
SETTINGS: list[dict[str, Any]] = [
    {"name": "sgd", "momentum": 0.0},
    {"name": "sgd", "weight_decay": 0.01},
    {"name": "sgd", "nesterov": True, "weight_decay": 0.01},
    {"name": "sgd", "lazy_decay": True},
    {"name": "adam"},
    {"name": "adam", "weight_decay": 0.1, "beta1": 0.8, "beta2": 0.99, "epsilon": 1e-5},
    {"name": "adam", "age": "element"},
    {"name": "adamw", "weight_decay": 0.1},
    {"name": "adamw", "weight_decay": 0.1, "age": "element"},
]


def pair(settings: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
    """torch's optimizer and the sparse one, each with a parameter of the same values, shape (6, 50)."""
    section = OptimizerSection(**{**settings, "learning_rate": 0.01})
    sparse = OptimizerSection(**{**settings, "learning_rate": 0.01, "name": "sparse-" + settings["name"]})
    first, second = (torch.nn.Parameter(torch.randn(6, 50, generator=torch.Generator().manual_seed(1))) for _ in "12")
    return first, optim.create(section, [first]), second, optim.create(sparse, [second])


def gradient(step: int, parameter: torch.Tensor) -> torch.Tensor:
    return torch.randn(parameter.shape, generator=torch.Generator().manual_seed(100 + step))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("listed", [False, True])
def test_equals_torch_on_dense_input(settings, listed):
    ours_is_listed = torch.arange(300, dtype=torch.int32)
    first, theirs, second, ours = pair(settings)
    for step in range(30):
        first.grad = gradient(step, first)
        if listed:
            ours.assign(second, ours_is_listed, gradient(step, second).view(-1))
        else:
            second.grad = gradient(step, second)
        theirs.step()
        ours.step()
    torch.testing.assert_close(second, first, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", SPARSE)
def test_only_listed_coordinates_change_and_a_list_goes_before_a_dense_gradient(name):
    section = OptimizerSection(name=name, learning_rate=0.01, weight_decay=0.1)
    parameter = torch.nn.Parameter(torch.randn(100))
    optimizer = optim.create(section, [parameter])
    before = parameter.detach().clone()
    parameter.grad = torch.ones(100)
    optimizer.assign(parameter, torch.tensor([3, 50, 99], dtype=torch.int32), torch.tensor([1.0, -2.0, 3.0]))
    optimizer.step()
    changed = (parameter.detach() != before).nonzero().view(-1)
    assert changed.tolist() == [3, 50, 99]
    parameter.grad = None
    optimizer.step()
    assert (parameter.detach() != before).sum() == 3


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_state_goes_through_a_state_dict_bit_for_bit(settings):
    _, _, parameter, optimizer = pair(settings)
    indices = torch.arange(0, 300, 3, dtype=torch.int32)

    def step(p, o, number):
        o.assign(p, indices, gradient(number, p).view(-1)[: indices.numel()].clone())
        o.step()

    for number in range(3):
        step(parameter, optimizer, number)
    _, _, other, restored = pair(settings)
    with torch.no_grad():
        other.copy_(parameter)
    saved = copy.deepcopy(optimizer.state_dict())
    restored.load_state_dict(saved)
    for name, value in optimizer.state[parameter].items():
        if isinstance(value, torch.Tensor):
            assert restored.state[other][name].dtype == value.dtype, name
    for number in range(3, 6):
        step(parameter, optimizer, number)
        step(other, restored, number)
    assert torch.equal(parameter, other)


@pytest.mark.parametrize("name", SPARSE)
def test_schedulers_and_groups_act(name):
    parameters = [torch.nn.Parameter(torch.zeros(4)) for _ in "12"]
    optimizer = optim.create(OptimizerSection(name=name, learning_rate=0.5, momentum=0.0), parameters[:1])
    optimizer.add_param_group({"params": parameters[1:], "lr": 0.25})
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    for expected in (1.0, 0.1):
        before = [p.detach().clone() for p in parameters]
        for p in parameters:
            p.grad = torch.ones(4)
        optimizer.step()
        scheduler.step()
        moved = [float((old - p.detach()).mean()) for p, old in zip(parameters, before, strict=True)]
        assert moved == pytest.approx([0.5 * expected, 0.25 * expected], rel=1e-4)


def test_clipping_counts_lists_and_dense_gradients_together():
    parameters = [torch.nn.Parameter(torch.zeros(5)) for _ in "12"]
    optimizer = optim.create(OptimizerSection(name="sparse-sgd", learning_rate=1.0, momentum=0.0), parameters)
    assert isinstance(optimizer, SparseOptimizer)
    optimizer.assign(parameters[0], torch.tensor([1], dtype=torch.int32), torch.tensor([3.0]))
    parameters[1].grad = torch.tensor([0.0, 4.0, 0.0, 0.0, 0.0])
    optimizer.clip_norm(1.0)
    optimizer.step()
    assert parameters[0][1].item() == pytest.approx(-0.6)
    assert parameters[1][1].item() == pytest.approx(-0.8)


def test_a_late_coordinate_takes_a_first_step_of_the_learning_rate_with_its_own_age():
    moved = {}
    for age in ("step", "element"):
        parameter = torch.nn.Parameter(torch.zeros(2))
        optimizer = optim.create(OptimizerSection(name="sparse-adam", learning_rate=0.01, age=age), [parameter])
        first = torch.tensor([0], dtype=torch.int32)
        for _ in range(5000):
            optimizer.assign(parameter, first, torch.ones(1))
            optimizer.step()
        optimizer.assign(parameter, first + 1, torch.ones(1))
        optimizer.step()
        moved[age] = -parameter[1].item()
    assert moved["element"] == pytest.approx(0.01, rel=1e-4)
    assert moved["step"] == pytest.approx(0.01 * 0.1 / 0.001**0.5, rel=0.02)


@pytest.mark.parametrize(
    ("ours", "theirs", "settings"),
    [
        (SparseAdam, torch.optim.SparseAdam, {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6}),
        (SparseSGD, torch.optim.SGD, {"lr": 0.1}),
    ],
)
def test_an_embedding_with_sparse_gradients_trains_as_with_torch(ours, theirs, settings):
    tables = []
    for family in (ours, theirs):
        embedding = torch.nn.Embedding(50, 6, sparse=True)
        with torch.no_grad():
            embedding.weight.copy_(torch.randn(50, 6, generator=torch.Generator().manual_seed(3)))
        optimizer = family(embedding.parameters(), **settings)
        for step in range(10):
            words = torch.randint(0, 30, (4, 5), generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            embedding(words).tanh().sum().backward()
            assert embedding.weight.grad.is_sparse
            optimizer.step()
        tables.append(embedding.weight.detach())
    torch.testing.assert_close(tables[0], tables[1], rtol=1e-5, atol=1e-6)


def test_clipping_counts_a_sparse_gradient_once_a_place():
    weight = torch.nn.Parameter(torch.zeros(3, 2))
    weight.grad = torch.sparse_coo_tensor(
        torch.tensor([[1, 1]]), torch.tensor([[1.0, 2.0], [2.0, 2.0]]), (3, 2), check_invariants=True
    )
    optimizer = SparseSGD([weight], lr=1.0)
    optimizer.clip_norm(2.5)  # the two entries of row 1 are (3, 4) together
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([[0.0, 0.0], [-1.5, -2.0], [0.0, 0.0]]))


@pytest.mark.parametrize("dampening", [0.0, 0.3])
def test_dampening_and_a_learning_rate_as_a_tensor_are_torchs(dampening):
    outcomes = []
    for family in (SparseSGD, torch.optim.SGD):
        parameter = torch.nn.Parameter(torch.ones(40))
        optimizer = family([parameter], lr=torch.tensor(0.1), momentum=0.9, dampening=dampening)
        for step in range(5):
            parameter.grad = gradient(step, parameter)
            optimizer.step()
        outcomes.append(parameter.detach())
    torch.testing.assert_close(outcomes[0], outcomes[1], rtol=1e-5, atol=1e-6)


def test_a_closure_is_run_and_hooks_see_the_step():
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer, seen = SparseSGD([parameter], lr=0.5), []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (parameter**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3.0
    assert seen == ["before", "after"]
    assert parameter.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        (SparseSGD, {"lr": -1.0}, "Invalid learning rate: -1.0"),
        (SparseSGD, {"momentum": -0.1}, "Invalid momentum value: -0.1"),
        (SparseSGD, {"nesterov": True}, "Nesterov momentum requires a momentum and zero dampening"),
        (SparseSGD, {"lazy_decay": True}, "lazy_decay requires a momentum"),
        (SparseAdam, {"betas": (0.9, 1.0)}, "Invalid beta parameter at index 1: 1.0"),
        (SparseAdam, {"eps": -1.0}, "Invalid epsilon value: -1.0"),
        (SparseAdamW, {"weight_decay": -0.1}, "Invalid weight_decay value: -0.1"),
        (SparseAdamW, {"age": "days"}, "Invalid age: days: allowed are step, element"),
    ],
)
def test_settings_are_refused_in_torchs_words(family, settings, message):
    with pytest.raises(ValueError, match=message):
        family([torch.nn.Parameter(torch.zeros(3))], **settings)


@pytest.mark.parametrize("parameter", [torch.zeros(3, dtype=torch.float64), torch.zeros(4, 4).t()[:, 1:]])
def test_parameters_that_kernels_cannot_take_are_refused(parameter):
    with pytest.raises(ValueError, match="takes contiguous float32 parameters on the CPU"):
        SparseAdam([torch.nn.Parameter(parameter)])
    optimizer = SparseAdam([torch.nn.Parameter(torch.zeros(3))])
    with pytest.raises(ValueError, match="takes contiguous float32 parameters on the CPU"):
        optimizer.add_param_group({"params": [torch.nn.Parameter(parameter)]})
    assert len(optimizer.param_groups) == 1
