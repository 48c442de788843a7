"""Gradients made on the spot are those that one worker of a real run has."""

from __future__ import annotations

import torch

from toolkit import data, models
from toolkit.experiment import parse
from toolkit.gradients.live import real_gradients, save_real
from toolkit.gradients.quality import main
from toolkit.gradients.store import load

EXPERIMENT = parse(
    {"model": {"name": "fcn5", "hidden": 12}, "data": {"name": "digits"}, "optimizer": {"learning_rate": 0.2}}, "test"
)


def test_they_repeat_and_are_those_of_the_training_set(tmp_path) -> None:
    gradients = list(real_gradients(EXPERIMENT, 60))
    files = save_real(EXPERIMENT, 60, tmp_path)
    assert all(torch.equal(torch.from_numpy(load(file.path)), g) for file, g in zip(files, gradients, strict=True))
    task = data.load_task(EXPERIMENT.data, 1)
    torch.manual_seed(EXPERIMENT.run.seed)
    model = models.build(EXPERIMENT.model, task)
    assert gradients[0].numel() == sum(p.numel() for p in model.parameters())
    inputs, targets = task.train.batch(torch.arange(len(task.train)), None)
    models.loss(task.kind, model(inputs), targets).backward()
    whole = torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])
    cosine = torch.nn.functional.cosine_similarity(whole, gradients[0], dim=0)
    assert float(cosine) > 0.6, "the first step's gradient is that of a batch of the training set"


def test_the_command_says_what_lies_outside(tmp_path, capsys) -> None:
    """Three steps are too few for the stages to settle: the command must say so and fail."""
    path = tmp_path / "e.toml"
    path.write_text('[model]\nname = "fcn5"\nhidden = 12\n[data]\nname = "digits"\n')
    assert main([str(path), "--elements", "20000", "--seeds", "1", "--steps", "3"]) == 1
    out = capsys.readouterr().out
    assert "outside" in out
    assert "fcn5 on digits" in out
    assert "laplace" in out
