"""The methods that cext.bench times: each is one call that leaves a payload, and knows how to be checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cext
from cext import reference

Vector = NDArray[Any]
STAGES = 3


@dataclass
class Bench:
    """The vectors of one size and density, and the room that every method shares."""

    x: Vector
    gradient: Vector
    density: float
    threads: int
    module: Any = cext
    residual: Vector = field(init=False)
    room: dict[str, Vector] = field(init=False)

    def __post_init__(self) -> None:
        n, entries = len(self.x), int(1.5 * self.k) + 65536
        self.residual = self.x.copy()
        size = max(cext.topk_workspace(n, self.k), cext.collect_workspace(n))
        self.room = {
            "indices": np.zeros(entries, np.int32),
            "values": np.zeros(entries, np.float32),
            "workspace": np.zeros(size, np.uint8),
            "between": np.zeros(n // 16 + 1024, np.float32),
            "lines": np.zeros(32 * min(4096, max(64, n // 256)), np.float32),
            "scores": np.zeros(-(-n // 16), np.float32),
            "candidates": np.zeros(-(-n // 16), np.int32),
            "blocks": np.zeros(max(1, self.k // 16), np.int32),
            "block_values": np.zeros(max(1, self.k // 16), np.float32),
        }

    @property
    def k(self) -> int:
        return max(1, int(self.density * len(self.x)))

    @property
    def threshold(self) -> float:
        return NormalDist().inv_cdf(1 - self.density / 2)

    def payload(self) -> tuple[Vector, Vector]:
        return self.room["indices"], self.room["values"]


def read(b: Bench) -> int:
    b.module.max_abs(b.x, b.threads)
    return 0


def moments(b: Bench) -> int:
    b.module.moments(b.x, b.threads)
    return 0


def threshold(b: Bench) -> int:
    return int(b.module.threshold_select(b.x, b.threshold, *b.payload(), b.threads))


def topk(b: Bench) -> int:
    return int(b.module.topk_select(b.x, b.k, *b.payload(), b.room["workspace"], b.threads))


def add(b: Bench) -> int:
    b.module.add(b.gradient, b.residual, b.threads)
    return 0


def moments_feedback(b: Bench) -> int:
    b.module.moments_feedback(b.gradient, b.residual, b.threads)
    return 0


def momentum(b: Bench) -> int:
    b.module.momentum(b.gradient, b.residual, 0.9, b.threads)
    return 0


def threshold_feedback(b: Bench) -> int:
    return int(b.module.threshold_select_feedback(b.gradient, b.residual, b.threshold, *b.payload(), b.threads))


def topk_feedback(b: Bench) -> int:
    room = (*b.payload(), b.room["workspace"])
    return int(b.module.topk_select_feedback(b.gradient, b.residual, b.k, *room, b.threads))


def thresholdv16_feedback(b: Bench) -> int:
    """The k / 16 blocks with the largest sums, whole, from candidates that a sample predicts."""
    wanted, module = len(b.room["blocks"]), b.module
    lines = b.room["lines"][: module.sample(b.gradient, b.residual, b.room["lines"])]
    scores, candidates = b.room["scores"], b.room["candidates"]
    sampled = module.select_blocks(None, lines, -1.0, candidates, scores, 1)
    rank = wanted / len(scores) * sampled
    above = min(sampled, int(rank + 6 * math.sqrt(rank)) + 6)
    low = float(np.partition(scores[:sampled], sampled - above)[sampled - above])
    found = module.select_blocks(b.gradient, b.residual, low, candidates, scores, b.threads)
    assert found >= wanted, "the prediction missed"
    room = b.room["blocks"], b.room["block_values"], b.room["workspace"]
    module.topk_select(scores[:found], wanted, *room, b.threads)
    chosen = candidates[room[0]]
    return int(module.take_blocks(b.residual, chosen, *b.payload(), b.threads))


def random_feedback(b: Bench) -> int:
    """k places, drawn of each block in proportion."""
    ends = np.minimum(np.arange(1, -(-len(b.x) // cext.DRAW_BLOCK) + 1) * cext.DRAW_BLOCK, len(b.x)) * b.k // len(b.x)
    indices, values = (room[: b.k] for room in b.payload())
    b.module.select_drawn(b.gradient, b.residual, len(b.x), ends, 7, indices, values, b.threads)
    return b.k


def _stages(density: float) -> list[float]:
    return [0.25] + [(density / 0.25) ** (1 / (STAGES - 1))] * (STAGES - 1)


def sidco_e_feedback(b: Bench) -> int:
    """SIDCo-E with three stages (MLSys 2021) in one pass: predicted from a sample, collected, settled."""
    ratios, module = _stages(b.density), b.module
    lines = b.room["lines"][: module.sample(b.gradient, b.residual, b.room["lines"])]
    seen = module.moments(lines)
    mean = seen.sum_abs / seen.count
    deviation = math.sqrt(max(0.0, seen.sum_squares / seen.count - mean * mean))
    eta = [mean * math.log(1 / ratios[0])]
    error = [4 * deviation / math.sqrt(seen.count) * math.log(1 / ratios[0])]
    for ratio in ratios[1:]:  # the error of a stage: that of the one before, and four deviations of its mean excess
        count, total, squares = module.tail_moments(lines, eta[-1])
        mean = total / count
        deviation = math.sqrt(max(0.0, squares / count - mean * mean))
        eta.append(eta[-1] + mean * math.log(1 / ratio))
        error.append(error[-1] + 4 * deviation / math.sqrt(count) * math.log(1 / ratio))
    around = zip(eta[:-1], error[:-1], strict=True)
    brackets = np.array([[max(0.0, t - e), cext.short_above(t + e)] for t, e in around]).ravel()
    low = max(0.0, eta[-1] - error[-1])
    room = (*b.payload(), brackets, b.room["between"], b.room["workspace"])
    found = module.collect_feedback(b.gradient, b.residual, low, eta[-1], *room, cext.SUM_ABS, b.threads)
    exact = _settle_stages(b, found, brackets, ratios)
    assert low <= exact, "the prediction missed"
    return int(module.settle(b.residual, *b.payload(), found.candidates, eta[-1], exact, b.threads))


def _settle_stages(b: Bench, found: cext.Collected, brackets: Vector, ratios: list[float]) -> float:
    """The exact threshold of the last stage: sums above each bracket, completed by what lies inside it."""
    assert found.between <= len(b.room["between"])
    assert found.candidates <= len(b.room["indices"])
    inside = b.room["between"][: found.between]
    exact: float = found.moments.sum_abs / found.moments.count * math.log(1 / ratios[0])
    for stage, ratio in enumerate(ratios[1:]):
        low, high = brackets[2 * stage : 2 * stage + 2]
        assert low <= exact <= high, "the prediction missed"
        count, excess, _ = found.tails[stage]
        more, added, _ = b.module.tail_moments(inside, exact, b.threads, high)
        exact += (excess + count * (high - exact) + added) / (count + more) * math.log(1 / ratio)
    return float(exact)


@dataclass(frozen=True)
class Method:
    name: str
    run: Callable[[Bench], int]
    floor: Callable[[Bench], int]
    goals: dict[float, float]
    """Density -> allowed multiple of the floor, on 25.6 M elements or more with 2 threads."""


def _goals(*values: float) -> dict[float, float]:
    return dict(zip((0.1, 0.01, 0.001), values, strict=True))


METHODS = (
    Method("threshold", threshold, read, _goals(1.35, 1.1, 1.06)),
    Method("exact top-k", topk, read, _goals(1.9, 1.2, 1.1)),
    Method("moments", moments, read, {}),
    Method("threshold + feedback", threshold_feedback, add, _goals(1.15, 1.05, 1.0)),
    Method("exact top-k + feedback", topk_feedback, add, _goals(1.4, 1.15, 1.05)),
    Method("SIDCo-E, 3 stages, + feedback", sidco_e_feedback, add, _goals(1.4, 1.25, 1.2)),
    Method("thresholdv16 + feedback", thresholdv16_feedback, add, _goals(1.15, 1.1, 1.0)),
    Method("moments + feedback", moments_feedback, add, {}),
    Method("momentum", momentum, add, {}),
    Method("random-k + feedback", random_feedback, add, {}),
)


def check(method: Method, elements: int, density: float, threads: int) -> None:
    """Runs the method with the kernels and with the reference on the same data: payload and residual must be equal."""
    rng = np.random.default_rng(1)
    x, gradient = (rng.standard_normal(elements, dtype=np.float32) for _ in range(2))
    outcomes = []
    for module in (cext, reference):
        bench = Bench(x, gradient, density, threads, module)
        count = method.run(bench)
        indices, values = bench.payload()
        outcomes.append((count, indices[:count].copy(), values[:count].copy(), bench.residual))
    for got, wanted in zip(*outcomes, strict=True):
        if not np.array_equal(got, wanted):
            raise SystemExit(f"bench: {method.name} at density {density} differs from its reference")
