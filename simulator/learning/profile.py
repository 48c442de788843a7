"""Costs of the very network that learns, on the very inputs it learns from: its FLOPs over the device's rate."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from simulator.compute import derive
from simulator.profile import Profile
from toolkit import data, models
from toolkit.experiment import Experiment
from toolkit.models.describe import Description, describe, write_csv
from toolkit.policies.devices import load_device


def profile_of(experiment: Experiment, source: str = "experiment") -> Profile:
    """A derived profile; unlike the layer tables it knows a network of any size. Raises UserError."""
    device = load_device(experiment.cluster.device, f"{source}: [cluster] device")
    task = data.load_task(experiment.data, experiment.run.seed)
    with torch.device("meta"):
        network = models.build(experiment.model, task)
        kind = torch.int64 if task.kind == "language" else torch.float32
        rows = tuple(describe(network, torch.zeros((1, *task.input_shape), dtype=kind)))
    name = experiment.model.name
    description = Description(name, experiment.data.name, task.input_shape, task.classes, 0, rows)
    with tempfile.TemporaryDirectory() as folder:
        write_csv(description, Path(folder) / f"{name}.csv")
        return derive(name, experiment.data.batch_size, len(task.train), device, folder=Path(folder))
