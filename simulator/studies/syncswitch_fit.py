"""What the Sync-Switch study takes from the published runs, and the constants that follow; nothing else is fitted.

Source of every number: the run records released with Sync-Switch (ICDCS 2021, arXiv 2104.08364; Apache-2.0; Li,
Mangoubi, Xu, Guo): cells whose role is "fit". Times in seconds, batches in samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.optimize import brentq

SAMPLES = 164 * 50_000 - 8_000  # of a whole run: 8,000 steps of 1,024 = 16,000 of 512 = 4,000 of 2,048
BSP_RAMP, ASP_RAMP = 17.0, 8.0  # start of a phase: within the first 100 BSP steps; 7 to 9 s
DELAY = 0.010  # of the runs with a static straggler, one of LEGACY_WORKERS
LEGACY_WORKERS = 4
SLOW_ASP, SLOW_BSP, SLOW_BSP_FIXED = 1.0403, 1.0546, 1.0074  # slow-down by it: async, sync, sync of global batch 128
SMALL_STEP, SMALL_BATCH = 0.2468, 128  # exp1's BSP step at a small global batch, 8 workers


@dataclass(frozen=True)
class Runs:
    """One published experiment: its setting, and what was measured in its BSP and ASP runs.

    bsp_step: plain pace at the global batch workers x batch. asp_update: plain pace of the cluster, per update.
    bsp_cv over 100 steps, asp_cv over 119 updates. stalls: of a checkpoint, by number of workers: (bsp, asp).
    every: steps between checkpoints (bsp, asp).
    """

    workers: int
    batch: int
    bsp_step: float
    asp_update: float
    bsp_cv: float
    asp_cv: float
    stalls: dict[int, tuple[float, float]]
    every: tuple[int, int]


RESNET32_STALLS = {8: (14.3374, 7.3357), 16: (21.0052, 15.4631)}
EXP1 = Runs(8, 128, 1.274, 0.02382, 0.0106, 0.0102, RESNET32_STALLS, (250, 2000))
EXP2 = Runs(8, 64, 0.6538, 0.04750, 0.0054, 0.0155, {8: (12.7998, 7.1777)}, (250, 4000))
# 16 workers and the legacy runs on 4 train exp1's network: all but their checkpoints is exp1's
EXPERIMENTS = {"exp1": EXP1, "exp2": EXP2, "exp3": EXP1, "legacy": EXP1}
WORKERS = {"exp1": 8, "exp2": 8, "exp3": 16, "legacy": LEGACY_WORKERS}
GAPS = {8: 187.5320, 16: 201.0973}  # a switch, its fixed sleep of 90 s included; left out of published times


@dataclass(frozen=True)
class Constants:
    """The cluster's laws.

    sample: seconds of the serial master, a sample of the global batch. fixed: seconds of a step beside it. compute:
    seconds of a worker, a sample of its own batch. asp_wait, bsp_wait: a path that is delayed by L costs its part of
    a worker's exchange asp_wait x L; under BSP bsp_wait x L a sample of the worker's batch.
    bsp_cv, asp_cv: relative spread of one step, of one iteration.
    """

    sample: float
    fixed: float
    compute: float
    asp_wait: float
    bsp_wait: float
    bsp_cv: float
    asp_cv: float


def constants(runs: Runs) -> Constants:
    """The laws of one experiment's cluster from its measured runs."""
    compute = runs.workers * runs.asp_update / runs.batch
    whole = runs.workers * runs.batch
    exp1 = EXP1.workers * EXP1.batch
    per_sample = (EXP1.bsp_step - SMALL_STEP - _compute(EXP1) * (EXP1.batch - SMALL_BATCH / EXP1.workers)) / (
        exp1 - SMALL_BATCH
    )
    fixed = EXP1.bsp_step - _compute(EXP1) * EXP1.batch - per_sample * exp1
    sample = (runs.bsp_step - fixed - compute * runs.batch) / whole
    return Constants(
        sample,
        fixed,
        compute,
        _asp_wait(),
        _bsp_wait(fixed, per_sample),
        runs.bsp_cv * math.sqrt(100),
        runs.asp_cv * math.sqrt(119),
    )


def stall(runs: Runs, workers: int) -> tuple[float, float]:
    """Seconds of a checkpoint under (BSP, ASP): linear in the workers, with exp1's and exp3's slope."""
    (few, first), (many, last) = sorted(RESNET32_STALLS.items())
    at, base = next(iter(runs.stalls.items()))
    slopes = [(late - early) / (many - few) for early, late in zip(first, last, strict=True)]
    bsp, asp = (max(0.0, b + slope * (workers - at)) for b, slope in zip(base, slopes, strict=True))
    return bsp, asp


def gap(workers: int) -> float:
    """Seconds of a switch, linear in the workers."""
    (few, first), (many, last) = sorted(GAPS.items())
    return first + (last - first) * (workers - few) / (many - few)


def paths(workers: int, rank: int, slow: int) -> float:
    """The part of a worker's exchange that goes over a path of a slow host: 1/n a shard, that on its own host apart."""
    return (workers - 1) / workers if rank == slow else 1 / workers


def _compute(runs: Runs) -> float:
    return runs.workers * runs.asp_update / runs.batch


def _asp_wait() -> float:
    """What makes one delayed host of four slow the cluster's pace as measured."""
    own = _compute(EXP1) * EXP1.batch
    shares = [paths(LEGACY_WORKERS, rank, 0) for rank in range(LEGACY_WORKERS)]

    def beyond(wait: float) -> float:
        pace = sum(1 / (own + wait * DELAY * share) for share in shares)
        return LEGACY_WORKERS / own / pace - SLOW_ASP

    return float(brentq(beyond, 0.0, 1e3))


def _bsp_wait(fixed: float, sample: float) -> float:
    """Least squares over the two BSP runs with a straggler: the slowest worker's wait, beside the step without."""
    xs, ys = [], []
    for batch, slow in ((EXP1.batch, SLOW_BSP), (SMALL_BATCH // LEGACY_WORKERS, SLOW_BSP_FIXED)):
        step = fixed + sample * batch * LEGACY_WORKERS + _compute(EXP1) * batch
        xs.append(paths(LEGACY_WORKERS, 0, 0) * batch * DELAY / step)
        ys.append(slow - 1)
    return sum(x * y for x, y in zip(xs, ys, strict=True)) / sum(x * x for x in xs)
