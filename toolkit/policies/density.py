"""Density over time: dense first steps, then DGC's exponential warm-up, then the density that was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.experiment import CompressionSection


@dataclass(frozen=True)
class DensitySchedule:
    """Density of each step. Warm-up as in DGC (ICLR 2018, section 3.3): δ^((e+1)/(E+1)) in epoch e of E."""

    density: float
    dense_steps: int
    warmup_epochs: int
    steps_per_epoch: int

    @classmethod
    def of(cls, section: CompressionSection, steps_per_epoch: int) -> DensitySchedule:
        return cls(section.density, section.dense_steps, section.warmup_epochs, steps_per_epoch)

    def at(self, step: int) -> float:
        """Share of the gradient sent in `step` (counted from 0); 1.0 in the dense first steps."""
        if step < self.dense_steps:
            return 1.0
        epoch = step // self.steps_per_epoch
        if epoch < self.warmup_epochs:
            return float(self.density ** ((epoch + 1) / (self.warmup_epochs + 1)))
        return self.density
