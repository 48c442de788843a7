"""Sync-Switch's protocol policy (ICDCS 2021): which protocol when, in units of work.

A unit is one batch of one worker. A BSP step of n workers counts n units, an ASP step (one worker's update) counts 1,
so a run is equally long in samples whatever its order: [run] steps counts BSP steps, and ASP alone makes n times as
many updates. Learning-rate cuts stand at samples seen, so they stay where they are across a switch; in raw steps a cut
at W/2 units moves to W/2 - (n-1)·(BSP steps before the switch).
"""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.experiment import Experiment
from toolkit.policies.configuration import base_rate, worker_batch
from toolkit.sections.sync import bsp_units

LETTERS = {"1": "bsp", "0": "asp"}


@dataclass(frozen=True)
class Phase:
    """One stretch of a run under one protocol.

    protocol: "bsp", "asp" or "ssp". steps: BSP steps, or workers' updates. step_units: units of work of a step.
    start: units done before it, if all goes by plan. batch: examples a worker and micro-batch. learning_rate: before
    warm-up and cuts. momentum: before a momentum policy. bound: ssp's staleness bound, else None. policy: the momentum
    policy in force.
    """

    protocol: str
    steps: int
    step_units: int
    start: int
    batch: int
    learning_rate: float
    momentum: float
    checkpoint_every: int
    bound: int | None = None
    policy: str = "keep"

    @property
    def units(self) -> int:
        return self.steps * self.step_units


def plan_phases(experiment: Experiment, steps: int) -> tuple[Phase, ...]:
    """The phases of a run of `steps` BSP steps' work, in order, none of them empty.

    Where [sync] phase_steps are given they alone say how long the run is.
    """
    sync, unit = experiment.sync, bsp_units(experiment)
    if sync.policy != "switch":
        letter = "1" if sync.policy == "bsp" else "0"
        counts, letters = [steps if letter == "1" else steps * unit], letter
    elif sync.phase_steps:
        counts, letters = [int(count) for count in sync.phase_steps], sync.order
    else:
        letters = sync.order
        counts = _shares(letters, steps, unit, sync.switch_at)
    phases: list[Phase] = []
    start = 0
    for number, (letter, count) in enumerate(zip(letters, counts, strict=True)):
        if count:
            phases.append(_phase(experiment, number, letter, count, start))
            start += phases[-1].units
    return tuple(phases)


def total_units(phases: tuple[Phase, ...]) -> int:
    """Work of a whole run, in units."""
    return sum(phase.units for phase in phases)


def _shares(letters: str, steps: int, unit: int, share: float) -> list[int]:
    """Steps before and after one switch at a share of the work, cut at a whole BSP step."""
    if len(letters) == 1:
        return [steps if letters == "1" else steps * unit]
    before = round(share * steps)
    return [
        count if letter == "1" else count * unit
        for letter, count in zip(letters, (before, steps - before), strict=True)
    ]


def _phase(experiment: Experiment, number: int, letter: str, steps: int, start: int) -> Phase:
    sync = experiment.sync
    protocol = sync.policy if sync.policy == "ssp" else LETTERS[letter]
    switches = sync.policy == "switch"
    rates, momenta, saves = sync.phase_learning_rate, sync.phase_momentum, sync.phase_checkpoint_every
    return Phase(
        protocol=protocol,
        steps=steps,
        step_units=bsp_units(experiment) if protocol == "bsp" else 1,
        start=start,
        batch=worker_batch(experiment, protocol),
        learning_rate=rates[number] if switches and rates else base_rate(experiment, protocol),
        momentum=momenta[number] if switches and momenta else experiment.optimizer.momentum,
        checkpoint_every=int(saves[number]) if switches and saves else _checkpoint_every(experiment, protocol),
        bound=sync.staleness if protocol == "ssp" else None,
        policy=sync.momentum if protocol != "bsp" and start > 0 else "keep",
    )


def _checkpoint_every(experiment: Experiment, protocol: str) -> int:
    """[checkpoint] every counts BSP steps: after as much work in either protocol."""
    return experiment.checkpoint.every * (1 if protocol == "bsp" else bsp_units(experiment))
