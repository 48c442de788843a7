"""The controller of batch sizes and compression rate (StellaTrain, SIGCOMM 2024): telemetry in, instructions out.

A worker with batch x takes T(x) = max(alpha, x) / beta seconds: below alpha samples its device is not busy enough to go
faster (f(x) = min(beta x / alpha, beta) samples/s). All workers together choose batches and a compression rate r, the
share of the gradient that is not sent, to make the time to accuracy small:
    (1 + g(r, sum x)) / (sum x / max T) + lambda CV(T),    r >= 1 - (B / m) T,
with g the profiled penalty of compression and batch on the loss, B the bandwidth and m = 8 bytes a parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, pstdev

from scipy.optimize import minimize_scalar

Penalty = Callable[[float, float], float]  # g(r, sum of batches)
ENTRY_BYTES = 8  # of a parameter that is sent: index and value
SMOOTHING = 0.9
IDLE = 0.05  # share of idle time on the link below which it is taken as full, so more may be there
RAISE, LOWEST = 1.1, 0.75
GRID = 64


@dataclass(frozen=True)
class Worker:
    """T(x) = max(alpha, x) / beta. alpha: samples; beta: samples/s."""

    alpha: float
    beta: float

    def seconds(self, batch: float) -> float:
        """Time of an iteration with so many samples."""
        return max(self.alpha, batch) / self.beta

    def rate(self, batch: float) -> float:
        """f(x), samples/s."""
        return min(self.beta * batch / self.alpha, self.beta)

    def batch(self, seconds: float) -> float:
        """The samples that fill so much time."""
        return seconds * self.beta


def fit(batches: Sequence[float], seconds: Sequence[float]) -> Worker:
    """alpha and beta by least squares over T = max(alpha, x) / beta.

    For each split of the observations the level before it is a mean, and the slope behind it a regression through the
    origin; the split with the least error holds. Raises ValueError without observations, or where one is not positive.
    """
    rows = sorted(zip(batches, seconds, strict=True))
    if not rows or min(time for _, time in rows) <= 0 or rows[0][0] <= 0:
        raise ValueError("observations of positive batches and times are wanted")
    best: tuple[float, Worker] | None = None
    for split in range(len(rows) + 1):
        flat, rising = rows[:split], rows[split:]
        if rising:
            beta = math.fsum(x * x for x, _ in rising) / math.fsum(x * t for x, t in rising)
        else:  # nothing beyond alpha was seen: it is at least the largest batch
            beta = flat[-1][0] / fmean(t for _, t in flat)
        alpha = fmean(t for _, t in flat) * beta if flat else rising[0][0]
        worker = Worker(alpha, beta)
        error = math.fsum((worker.seconds(x) - t) ** 2 for x, t in rows)
        if best is None or error < best[0] - 1e-18:
            best = (error, worker)
    assert best is not None
    return best[1]


@dataclass
class Bandwidth:
    """What the link carries, bytes/s: an average of the received rate, and what of it a decision may count on."""

    average: float
    usable: float = 0.0

    def __post_init__(self) -> None:
        self.usable = self.usable or self.average

    def observe(self, received: float, idle: float) -> float:
        """Take in the rate while receiving, and the share of the interval in which the link was idle.

        A link that never rests may carry more: a tenth is added. One that rests was not tried: less is counted on.
        """
        self.average = SMOOTHING * self.average + (1 - SMOOTHING) * received
        self.usable = self.average * (RAISE if idle < IDLE else max(LOWEST, 1 - idle))
        return self.usable


@dataclass(frozen=True)
class Choice:
    """Batches, (workers,), compression rate, seconds of an iteration, and the objective that they reach."""

    batches: tuple[int, ...]
    rate: float
    seconds: float
    objective: float

    @property
    def samples_per_s(self) -> float:
        return sum(self.batches) / self.seconds


def least_rate(bandwidth: float, parameters: int, seconds: float) -> float:
    """The smallest compression rate whose traffic fits `seconds` at `bandwidth`, in [0, 1)."""
    return min(max(0.0, 1.0 - bandwidth * seconds / (ENTRY_BYTES * parameters)), 1.0 - 1.0 / parameters)


def choose(
    workers: Sequence[Worker],
    bandwidth: float,
    parameters: int,
    penalty: Penalty,
    *,
    largest: float,
    cv_weight: float = 0.1,
) -> Choice:
    """The batches and the rate with the best objective.

    Workers that take equal time have no spread, so a choice is one number: the seconds T of an iteration, each worker
    with T beta samples. The rate is the smallest that the link allows, since compressing more only costs accuracy. T is
    searched on a grid and then refined; batches are whole at the end. largest: samples of all workers, at most.
    """
    total = math.fsum(worker.beta for worker in workers)
    low = max(len(workers) / total, min(1 / worker.beta for worker in workers))
    high = max(low * 1.001, largest / total)

    def value(seconds: float) -> float:
        return _evaluate(
            workers, [worker.batch(seconds) for worker in workers], bandwidth, parameters, penalty, cv_weight
        )[0]

    grid = [low * (high / low) ** (i / GRID) for i in range(GRID + 1)]
    best = min(range(GRID + 1), key=lambda i: value(grid[i]))
    around = (grid[max(0, best - 1)], grid[min(GRID, best + 1)])
    found = minimize_scalar(value, bounds=around, method="bounded")
    seconds = float(found.x) if found.fun < value(grid[best]) else grid[best]
    batches = [max(1, round(worker.batch(seconds))) for worker in workers]
    objective, longest, rate = _evaluate(workers, batches, bandwidth, parameters, penalty, cv_weight)
    return Choice(tuple(batches), rate, longest, objective)


def _evaluate(
    workers: Sequence[Worker],
    batches: Sequence[float],
    bandwidth: float,
    parameters: int,
    penalty: Penalty,
    cv_weight: float,
) -> tuple[float, float, float]:
    """Objective, seconds of an iteration, rate."""
    times = [worker.seconds(batch) for worker, batch in zip(workers, batches, strict=True)]
    longest, samples = max(times), math.fsum(batches)
    rate = least_rate(bandwidth, parameters, longest)
    spread = pstdev(times) / fmean(times)
    return (1 + penalty(rate, samples)) * longest / samples * (1 + cv_weight * spread), longest, rate


@dataclass(frozen=True)
class Instruction:
    """A choice and the first iteration in which it holds."""

    choice: Choice
    from_iteration: int


@dataclass
class Controller:
    """Decides every `every` iterations; a decision holds `delay` iterations later at the earliest.

    choose: from the bandwidth estimate, bytes/s, to a choice.
    """

    choose: Callable[[float], Choice]
    bandwidth: Bandwidth
    every: int = 100
    delay: int = 3
    pending: list[Instruction] = field(default_factory=list)
    current: Choice | None = None

    def step(self, iteration: int, received: float, idle: float) -> Choice:
        """Telemetry of one iteration in, the choice that holds in the next one out."""
        self.bandwidth.observe(received, idle)
        if self.current is None:
            self.current = self.choose(self.bandwidth.usable)
        elif iteration % self.every == 0:
            self.pending.append(Instruction(self.choose(self.bandwidth.usable), iteration + self.delay))
        while self.pending and self.pending[0].from_iteration <= iteration + 1:
            self.current = self.pending.pop(0).choice
        return self.current
