"""Real gradients of consecutive steps, made on the spot: a network trained by one worker, dense, alone in this process.

For statistics over hundreds of steps, which would be too large to keep in grads/.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from toolkit import data, models, optim
from toolkit.experiment import Experiment
from toolkit.gradients import store
from toolkit.gradients.store import GradientFile
from toolkit.policies.learning_rate import learning_rate
from toolkit.sampler import ShardedSampler


def real_gradients(experiment: Experiment, steps: int) -> Iterator[torch.Tensor]:
    """The gradient of the whole model at each of `steps` steps, float32 (n,), tensors in forward order, fresh."""
    seed, batch = experiment.run.seed, experiment.data.batch_size
    torch.manual_seed(seed)
    task = data.load_task(experiment.data, seed)
    model = models.build(experiment.model, task)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = optim.create(experiment.optimizer, parameters)
    sampler = ShardedSampler(len(task.train), 1, batch, 1, seed)
    model.train()
    for step in range(steps):
        indices, generator = sampler.indices(step, 0, 0), sampler.generator(step, 0, 0)
        inputs, targets = task.train.batch(indices, generator)
        optimizer.zero_grad()
        models.loss(task.kind, model(inputs), targets).backward()
        yield torch.cat([parameter.grad.reshape(-1) for parameter in parameters if parameter.grad is not None])
        if experiment.optimizer.clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(parameters, experiment.optimizer.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(experiment.optimizer, step, sampler.steps_per_epoch)
        optimizer.step()


def save_real(experiment: Experiment, steps: int, folder: Path) -> list[GradientFile]:
    """The same in files of `folder`, one a step."""
    files = []
    for step, gradient in enumerate(real_gradients(experiment, steps)):
        file = GradientFile(experiment.data.name, experiment.model.name, 0, step, folder)
        store.save(file, gradient.numpy())
        files.append(file)
    return files
