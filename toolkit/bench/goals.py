"""The goals: what is timed, against what, and the ratio that is wanted at each density.

Ratios of two sides timed in turn in one run; absolute times on shared machines mean little. "read" is one pass over 4
bytes an element, "add" one `residual += gradient` pass over 12, both by this library's own kernels at the same threads.
"""

from __future__ import annotations

from dataclasses import dataclass

LARGE = 20_000_000  # elements from which the goals of large vectors hold
WARM_LIMIT_S = 40e-6  # a vector that fits the cache, one thread
WARM_SIZE = 300_000


@dataclass(frozen=True)
class Goal:
    """`side` takes at most (or, for `faster`, is faster by at least) `limits[density]` times `base`."""

    side: str
    base: str
    limits: dict[float, float]
    faster: bool = False

    def holds(self, ratio: float, density: float) -> bool:
        limit = self.limits[density]
        return ratio >= limit if self.faster else ratio <= limit


def _at(*limits: float) -> dict[float, float]:
    return dict(zip((0.1, 0.01, 0.001), limits, strict=True))


STATISTICAL = ("sidco-e", "sidco-p", "sidco-gp", "dgc", "redsync", "gaussiank")
LARGE_GOALS = (
    Goal("threshold select", "read", _at(1.35, 1.1, 1.06)),
    Goal("exact top-k", "read", _at(1.9, 1.2, 1.1)),
    Goal("threshold + feedback", "add", _at(1.15, 1.05, 1.0)),
    Goal("exact top-k + feedback", "add", _at(1.4, 1.15, 1.05)),
    *(Goal(name, "add", _at(1.4, 1.25, 1.2)) for name in STATISTICAL[:3]),
    Goal("thresholdv16", "add", _at(1.15, 1.1, 1.0)),
    *(Goal(name, "add", _at(1.7, 1.5, 1.45)) for name in STATISTICAL[3:]),
    Goal("exact top-k", "torch.topk", _at(70, 130, 85), faster=True),
    Goal("exact top-k", "np.partition", _at(10, 12, 12), faster=True),
    *(Goal(name, f"torch:{name}", _at(15, 15, 15), faster=True) for name in STATISTICAL),
    Goal("merge of 4 lists", "torch coalesce", _at(60, 13, 12), faster=True),
)

# On other data than normal noise, `side on data` against the side itself; data that defeat a prediction against read.
LIKE_NORMAL = ("laplace", "student", "mostly zeros", "layers", "saved")
WORST = ("equal", "hidden")
BEYOND = 4.0  # reads that the worst data may cost beyond the goal
DATA_LIMIT = 60_000_000  # elements up to which these are measured
DATA_GOALS = (
    *(
        Goal(f"{side} on {data}", side, _at(1.5, 1.5, 1.5))
        for side in ("exact top-k", "sidco-e")
        for data in LIKE_NORMAL
    ),
    *(Goal(f"exact top-k on {data}", "read", _at(1.9 + BEYOND, 1.2 + BEYOND, 1.1 + BEYOND)) for data in WORST),
)
