"""Sync-Switch's configuration policy (ICDCS 2021): batch, learning rate and momentum of each protocol.

BSP: global batch n·B with learning rate n·η; ASP: batch B a worker with η. The experiment file's learning rate is that
of BSP, as in every file without a switch, so ASP takes it over the ratio of the two batches.
"""

from __future__ import annotations

from toolkit.experiment import Experiment
from toolkit.sections.sync import bsp_units, computing_workers


def worker_batch(experiment: Experiment, protocol: str) -> int:
    """Examples a worker takes in one micro-batch: B, or its share of B in a BSP whose batch is not scaled."""
    if protocol == "bsp" and not experiment.sync.scale_batch:
        return experiment.data.batch_size // computing_workers(experiment)
    return experiment.data.batch_size


def base_rate(experiment: Experiment, protocol: str) -> float:
    """Learning rate before warm-up and cuts: of BSP's averaged gradient, or of one worker's update."""
    rate = experiment.optimizer.learning_rate
    if protocol == "bsp" or not experiment.sync.scale_rate:
        return rate
    return rate / bsp_units(experiment)


def momentum_at(policy: str, momentum: float, workers: int, progress: float) -> float:
    """Momentum of an ASP update after a BSP phase; `progress` is the share of the phase that is done, 0 to 1.

    keep: unchanged, the published best; zero; scaled: over the number of workers, because staleness adds momentum of
    its own; ramp: from 0 to the whole of it, linearly over the phase.
    """
    if policy == "zero":
        return 0.0
    if policy == "scaled":
        return momentum / workers
    if policy == "ramp":
        return momentum * min(1.0, max(0.0, progress))
    return momentum
