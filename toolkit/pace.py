"""Paced compute: forward and backward take the time that a device would need, without burning this machine's cores.

A worker sleeps through each tensor's share, so that ranks which outnumber the cores still compute side by side;
compression, exchanges, merging and the optimizer are the real thing. Gradients have the network's real shapes and the
heavy-tailed form that the compressors are made for (double exponential, as SIDCo fits to recorded ones: Abdelmoniem et
al., MLSys 2021, section 2.2), fresh in every step and different on every rank. Nothing is learned, and the result says
so.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from toolkit.errors import UserError
from toolkit.experiment import Experiment
from toolkit.policies.devices import Device, layer_times, load_device, table_scale
from toolkit.policies.slowness import Slowness

GRADIENT_SCALE = 1e-3
SLACK_ELEMENTS = 65_536  # places by which one step's gradient may be shifted against another's
PR_SET_TIMERSLACK = 29  # prctl: how late a sleeping thread may be woken; 50 us unless told
TIMER_SLACK_NS = 1_000
SHORTEST_SLEEP_S = 2e-5  # what a sleep costs anyway; shorter waits are left to the next one


class PacedCompute:
    """Forward and backward of one rank, taken from a device's layer times.

    tensors: (name, elements) of the network's parameters in forward order. UserError where the device or the network's
    layer table does not know them.
    """

    def __init__(self, experiment: Experiment, tensors: Iterable[tuple[str, int]], rank: int) -> None:
        self.batch_size, self.saturating = experiment.data.batch_size, experiment.cluster.saturating_batch
        self.slowness = Slowness.of(experiment)
        self.rank = rank
        self.device = load_device(experiment.cluster.device)
        self.forward_s, self.backward_s = _seconds(experiment, self.device, [name for name, _ in tensors])
        longest = max(size for _, size in tensors)
        self._seed = experiment.run.seed
        random = np.random.default_rng([self._seed, rank])
        pool = random.laplace(scale=GRADIENT_SCALE, size=longest + SLACK_ELEMENTS)
        self._pool = torch.from_numpy(pool.astype(np.float32))
        self._due = 0.0
        self.late: list[float] = []  # s, a backward pass each: how much longer it took than the device would
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS)

    @classmethod
    def of(cls, experiment: Experiment, tensors: list[tuple[str, int]], rank: int) -> PacedCompute | None:
        """What an experiment asks for: None where compute is real."""
        return cls(experiment, tensors, rank) if experiment.run.compute == "paced" else None

    def forward(self, step: int, examples: int) -> None:
        """Take a forward pass's time over so many examples."""
        self._due = time.perf_counter()
        self._take(sum(self.forward_s.values()) * self._factor(step, examples))

    def backward(self, reducer: Any, step: int, examples: int) -> None:
        """Take a backward pass's time, tensor by tensor from the last one; each tells the reducer when it is due."""
        factor = self._factor(step, examples)
        self._due = max(self._due, time.perf_counter())
        shifts = np.random.default_rng([self._seed, self.rank, step])
        for name, parameter, arrived in reducer.in_backward_order():
            self._fill(parameter, int(shifts.integers(SLACK_ELEMENTS)))
            self._take(self.backward_s[name] * factor)
            began = time.perf_counter()
            arrived(parameter)
            self._due += time.perf_counter() - began  # what the reducer did in between was real work
        self.late.append(max(0.0, time.perf_counter() - self._due))

    def _factor(self, step: int, examples: int) -> float:
        slow = self.slowness.compute(step)
        worth = max(examples, self.saturating) / max(self.batch_size, self.saturating)
        return worth * (1.0 if slow is None else float(slow[self.rank]))

    def _fill(self, parameter: torch.nn.Parameter, start: int) -> None:
        assert parameter.grad is not None
        parameter.grad.view(-1).add_(self._pool[start : start + parameter.numel()])

    def _take(self, seconds: float) -> None:
        """Be busy until `seconds` after the last deadline; a sleep that ended late shortens the next."""
        self._due += seconds
        delay = self._due - time.perf_counter()
        if delay > SHORTEST_SLEEP_S:
            time.sleep(delay)

    def report(self) -> dict[str, Any]:
        """What the result says of paced compute."""
        late = float(np.median(self.late)) if self.late else 0.0
        return {"compute": "paced", "device": self.device.name, "gradients": "synthetic", "late_s": late}


def _seconds(experiment: Experiment, device: Device, names: list[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of each tensor's forward and backward, by name."""
    source = "[run] compute = 'paced'"
    scale = table_scale(experiment.model, experiment.data, source)
    batch = max(experiment.data.batch_size, experiment.cluster.saturating_batch)
    rows = {row.name: row for row in layer_times(experiment.model.name, batch, device, scale=scale)}
    unknown = [name for name in names if name not in rows]
    if unknown:
        raise UserError(f"{source}: exp_configs/networks/{experiment.model.name}.csv has no tensor '{unknown[0]}'")
    return {name: rows[name].forward_s for name in names}, {name: rows[name].backward_s for name in names}
