"""Learning rate over time: linear warm-up, then a cut at each milestone."""

from __future__ import annotations

from toolkit.experiment import OptimizerSection


def learning_rate(section: OptimizerSection, step: float, steps_per_epoch: int) -> float:
    """Learning rate of `step` (from 0; in ASP phases a fraction: updates over workers).

    Milestones and warm-up are in epochs, so in samples seen.
    """
    epoch = step / steps_per_epoch
    rate = section.learning_rate * section.gamma ** sum(1 for milestone in section.milestones if epoch >= milestone)
    if epoch < section.warmup_epochs:
        rate *= min(1.0, (step + 1) / (section.warmup_epochs * steps_per_epoch))
    return rate
