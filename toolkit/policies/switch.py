"""Where a run stands in its plan of phases, and which one is next: the switch, planned or decided online.

Work is conserved: whatever the order in which phases take turns, the run ends when the plan's units are done.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from toolkit.policies.protocol import Phase, total_units


@dataclass
class Course:
    """Progress through `phases`. done: steps made of each; first: raw steps (BSP steps and updates) made of all."""

    phases: tuple[Phase, ...]
    done: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.done = list(self.done) or [0] * len(self.phases)

    @property
    def raw_steps(self) -> int:
        """Steps made so far, BSP steps and updates alike."""
        return sum(self.done)

    @property
    def units(self) -> int:
        """Work done so far."""
        return sum(count * phase.step_units for count, phase in zip(self.done, self.phases, strict=True))

    @property
    def left(self) -> int:
        """Units that are left of the whole run."""
        return total_units(self.phases) - self.units

    @property
    def due(self) -> int | None:
        """Number of the phase that the plan wants now; None at the end of the run.

        The first that has not had its steps. Where a phase out of turn has taken the work of another, the last one
        whose step is not longer than what is left does the rest.
        """
        fitting = [number for number, phase in enumerate(self.phases) if 0 < phase.step_units <= self.left]
        unfinished = [number for number in fitting if self.done[number] < self.phases[number].steps]
        return unfinished[0] if unfinished else fitting[-1] if fitting else None

    def instead(self, protocol: str) -> int | None:
        """The phase that lends its settings where an online policy wants `protocol` now: the due one if it is of that
        protocol, else the next one that is; None where there is none."""
        due = self.due
        if due is None:
            return None
        return next((n for n in range(due, len(self.phases)) if self.phases[n].protocol == protocol), None)

    def steps_left(self, number: int) -> int:
        """Steps that phase `number` may make from here: its own, or all that is left where it is not due yet."""
        phase, whole = self.phases[number], self.left // self.phases[number].step_units
        own = phase.steps - self.done[number]
        return min(own, whole) if number == self.due and own > 0 else whole

    def advance(self, number: int, steps: int) -> None:
        """Count steps that were made in phase `number`."""
        self.done[number] += steps
        if self.left < 0:
            raise ValueError(f"{steps} steps of phase {number}: more than the plan's work")
