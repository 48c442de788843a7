"""Networks run forward and backward, and the small ones learn real examples by heart."""

import math

import pytest
import torch

from toolkit.data import load_task
from toolkit.experiment import DataSection
from toolkit.models import accuracy, loss
from toolkit.models.describe import STANDARD


@pytest.mark.parametrize("name", STANDARD)
def test_one_pass_forward_and_backward(make, name):
    task = STANDARD[name]
    network = make(name)
    if task.kind == "language":
        inputs = torch.randint(0, task.classes, (2, *task.input_shape))
        targets = torch.randint(0, task.classes, (2, *task.input_shape))
    else:
        inputs, targets = torch.randn(2, *task.input_shape), torch.randint(0, task.classes, (2,))
    outputs = network(inputs)
    assert outputs.shape == (*targets.shape, task.classes)
    value = loss(task.kind, outputs, targets)
    value.backward()
    assert 0.2 < value.item() / math.log(task.classes) < 5
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.any(), parameter_name


@pytest.mark.parametrize(
    ("name", "data", "rate", "steps"),
    [
        ("fcn5", "digits", 1e-4, 12),
        ("lenet", "digits", 3e-3, 40),
        ("resnet20", "digits", 3e-3, 40),
        ("charlstm", "pysource", 1e-2, 40),
        ("gpt", "pysource", 1e-3, 40),
    ],
)
def test_one_batch_is_learnt_by_heart(make, name, data, rate, steps):
    task = load_task(DataSection(name=data, sequence=32), seed=0)
    network = make(name, task)
    inputs, targets = task.train.batch(torch.arange(0, 160, 20), torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        outputs = network(inputs)
        value = loss(task.kind, outputs, targets)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    right, count = accuracy(task.kind, outputs, targets)
    assert losses[-1] < losses[0] / 3, losses
    assert right > 0.8 * count


def test_loss_of_knowing_nothing_is_the_logarithm_of_the_classes():
    assert loss("classification", torch.zeros(3, 10), torch.tensor([0, 5, 9])).item() == pytest.approx(math.log(10))
    assert loss("language", torch.zeros(2, 4, 98), torch.zeros(2, 4, dtype=torch.int64)).item() == pytest.approx(
        math.log(98)
    )


def test_a_language_batch_is_the_mean_over_its_tokens():
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(2, 3, 5, generator=generator)
    targets = torch.randint(0, 5, (2, 3), generator=generator)
    by_hand = -torch.log_softmax(outputs, -1).gather(-1, targets[..., None]).mean()
    torch.testing.assert_close(loss("language", outputs, targets), by_hand)


def test_accuracy_counts_right_predictions():
    outputs = torch.eye(4)[[0, 1, 2, 3]]
    assert accuracy("classification", outputs, torch.tensor([0, 1, 0, 3])) == (3, 4)
    assert accuracy("language", outputs.view(2, 2, 4), torch.tensor([[0, 1], [2, 0]])) == (3, 4)
