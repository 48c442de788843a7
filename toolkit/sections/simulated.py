"""What an experiment file may ask of the simulator only: the trainer refuses it in one line rather than skip it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.errors import UserError
from toolkit.sections import offload

if TYPE_CHECKING:
    from toolkit.experiment import Experiment


def refuse_in_training(experiment: Experiment, source: str) -> None:
    """UserError names file, key and value of the first thing that only the simulator does."""
    offload.refuse_in_training(experiment, source)
    control, checkpoint, faults = experiment.control, experiment.checkpoint, experiment.faults
    asked = (
        ("[control] name", f"'{control.name}'", control.name != "none", "study stellatrain"),
        ("[checkpoint] replicas", checkpoint.replicas, checkpoint.replicas > 1, "study gemini' and 'plan"),
        ("[faults] failures_per_day", faults.failures_per_day, faults.failures_per_day > 0, "run' and 'plan"),
        ("[faults] failure", f"{len(faults.failure)} of them", bool(faults.failure), "run"),
    )
    for key, value, wanted, command in asked:
        if wanted:
            raise UserError(
                f"{source}: {key} = {value}: simulated only ('python -m simulator {command}'); leave it out here"
            )
