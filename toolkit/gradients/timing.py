"""Timing in turn: every side once a round, so that a slow stretch of the machine falls on all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

import cext


@dataclass
class Times:
    """Seconds of each round."""

    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.seconds)

    @property
    def std(self) -> float:
        """Sample standard deviation; 0 of a single round."""
        return statistics.stdev(self.seconds) if len(self.seconds) > 1 else 0.0

    def relative(self, other: Times) -> float:
        """Median over the rounds of this time over the other's in the same round."""
        return statistics.median(a / b for a, b in zip(self.seconds, other.seconds, strict=True))

    def measure(self, call: Callable[[], object]) -> object:
        start = time.perf_counter()
        result = call()
        self.seconds.append(time.perf_counter() - start)
        return result


class Floors:
    """The machine's own floors on a vector: `read` looks at 4 bytes an element, `add` (r += g) moves 12."""

    def __init__(self, x: torch.Tensor, threads: int) -> None:
        self.x = x.numpy()
        self.r = np.zeros_like(self.x)
        self.threads = threads
        self.read = Times()
        self.add = Times()
        cext.max_abs(self.x, threads)
        cext.add(self.x, self.r, threads)

    def round(self) -> None:
        self.read.measure(lambda: cext.max_abs(self.x, self.threads))
        self.add.measure(lambda: cext.add(self.x, self.r, self.threads))


def rounds(count: int, seconds: float, at_least: int = 5) -> Iterator[int]:
    """Round numbers up to `count`; after `at_least` rounds it ends once `seconds` have passed."""
    start = time.perf_counter()
    for number in range(count):
        if number >= at_least and time.perf_counter() - start > seconds:
            return
        yield number
