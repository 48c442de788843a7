"""Loss and accuracy on the test set, dealt out over the ranks."""

from __future__ import annotations

import torch

from toolkit import data, models
from toolkit.comm import Communicator

EVALUATION_BATCH = 256


class Evaluator:
    """All ranks call its methods together."""

    def __init__(self, task: data.Task, model: torch.nn.Module, comm: Communicator) -> None:
        self.task = task
        self.model = model
        self.comm = comm
        self.counted = 0  # examples that this rank had seen when statistics were last averaged

    @torch.no_grad()
    def test(self) -> tuple[float, float]:
        """(loss, accuracy) of the model as it is, means over all examples; the same on every rank."""
        self.model.eval()
        own = torch.arange(self.comm.rank, len(self.task.test), self.comm.size)
        total, right, counted = 0.0, 0, 0
        for indices in own.split(EVALUATION_BATCH):
            inputs, targets = self.task.test.batch(indices, None)
            outputs = self.model(inputs)
            total += float(models.loss(self.task.kind, outputs, targets)) * targets.numel()
            correct, number = models.accuracy(self.task.kind, outputs, targets)
            right, counted = right + correct, counted + number
        parts = self.comm.allgather_values((total, right, counted))
        number = max(1, sum(part[2] for part in parts))
        return sum(part[0] for part in parts) / number, sum(part[1] for part in parts) / number

    def buffers(self) -> list[torch.Tensor]:
        """The model's running statistics."""
        return [buffer for buffer in self.model.buffers() if buffer.is_floating_point()]

    @torch.no_grad()
    def average_buffers(self, examples: int) -> None:
        """Give every rank the mean of all ranks' running statistics.

        A rank counts by what it has seen since the last time (`examples`: so far in the run): a dedicated server or a
        worker that was left out has nothing to say, and a straggler under ASP less than the others.
        """
        fresh, self.counted = float(examples - self.counted), examples
        floats = self.buffers()
        if not floats:
            return
        flat = torch.cat([*(buffer.reshape(-1) * fresh for buffer in floats), torch.tensor([fresh])])
        total = self.comm.mean_tensor(flat)
        if total[-1] > 0:  # else nothing is new, and all ranks have the same
            self.load_buffers(total[:-1] / total[-1])

    def load_buffers(self, flat: torch.Tensor) -> None:
        """Overwrite the running statistics from one flat vector."""
        floats = self.buffers()
        for buffer, part in zip(floats, flat.split([buffer.numel() for buffer in floats]), strict=True):
            buffer.copy_(part.view_as(buffer))
