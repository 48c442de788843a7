"""A method, a model and a machine: does it fit, how long is an iteration, which window, how large may the model be."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from scipy.optimize import brentq

from simulator.offload import calibration
from simulator.offload.job import Job, Settings
from simulator.offload.machine import Machine, load_machine
from simulator.offload.memory import Footprint
from simulator.offload.methods import METHODS, Method
from simulator.offload.tiers import Entry, Tiers
from simulator.offload.transformer import Transformer
from toolkit.errors import UserError
from toolkit.experiment import Experiment

MOST_LAYERS = 10_000


@dataclass(frozen=True)
class Iteration:
    """One executed iteration: seconds, what each resource did, its busy seconds, the most bytes each memory held."""

    seconds: float
    log: list[Entry]
    busy: dict[str, float]
    peak: dict[str, float]

    @property
    def binds(self) -> str:
        """The resource that worked longest."""
        return max(self.busy, key=lambda where: self.busy[where])


@dataclass(frozen=True)
class Case:
    """What is asked: a model on a machine with a method's settings."""

    model: Transformer
    machine: Machine
    settings: Settings

    @classmethod
    def of(cls, experiment: Experiment, source: str, machines: Path | None = None) -> Case:
        """The case of an experiment file; UserError where its model or device is not known here."""
        section = experiment.offload
        machine = load_machine(experiment.cluster.device, f"{source}: [cluster] device", machines)
        settings = Settings(
            section.method,
            section.window,
            section.threads or machine.cores,
            section.optimizer == "fused",
            section.disk,
            experiment.optimizer.clip_norm > 0,
        )
        return cls(Transformer.of(experiment, source), machine, settings)

    def replace(self, *, layers: int | None = None, machine: Machine | None = None, **settings: object) -> Case:
        """The same with other layers, machine or settings."""
        model = self.model if layers is None else self.model.deep(layers)
        changed = dataclasses.replace(self.settings, **settings)  # type: ignore[arg-type]
        return Case(model, machine or self.machine, changed)

    @property
    def method(self) -> Method:
        return METHODS[self.settings.method]

    @cached_property
    def job(self) -> Job:
        return Job.of(self.model, self.machine, self.settings, self.release)

    @cached_property
    def release(self) -> calibration.Release:
        """l2l on a host that it fills never gets beyond its first iterations: they are slower."""
        if self.settings.method == "l2l" and self._first_only:
            return calibration.FIRST_TEN
        return calibration.RELEASES[self.settings.method]

    @property
    def _first_only(self) -> bool:
        job = Job.of(self.model, self.machine, self.settings, calibration.FIRST_TEN)
        return METHODS["l2l"].footprint(job).total("host") > self.machine.budget()["host"]

    @property
    def note(self) -> str:
        """What is to be known of the answer, "" where nothing is."""
        if self.settings.method == "l2l" and self._first_only:
            return "l2l takes nearly all of the host: it ends in its first iterations, whose slower figures these are"
        return ""

    @cached_property
    def footprint(self) -> Footprint:
        return self.method.footprint(self.job)

    @property
    def over(self) -> str:
        """The tier that does not hold it, "" where it fits."""
        return self.footprint.over(self.budget)

    @property
    def budget(self) -> dict[str, float]:
        """Bytes that may be used of each tier; l2l begins, but does not go on, where it takes the whole host."""
        if self.settings.counted:
            return self.machine.budget(1.0)
        budget = self.machine.budget()
        return budget | ({"host": self.machine.host_memory} if self.settings.method == "l2l" else {})

    def why_not(self) -> str:
        """One line on what does not fit; "" where all does."""
        tier = self.over
        if not tier:
            return ""
        parts = self.footprint.parts(tier)
        listed = ", ".join(f"{name} {size / 2**30:.2f}" for name, size in parts.items())
        total, limit = self.footprint.total(tier) / 2**30, self.budget[tier] / 2**30
        return f"out of memory on the {tier}: {total:.2f} of {limit:.2f} GiB ({listed})"

    def run(self, *, anyway: bool = False) -> Iteration:
        """Execute one iteration. UserError where no window is chosen or it does not fit; `anyway`: as if it did."""
        if self.over and not anyway:
            raise UserError(f"{self.settings.method}, {self.model.layers} layers: {self.why_not()}")
        if self.method.windowed and not self.settings.window:
            raise UserError(f"[offload] window = 0: {self.settings.method} needs a window, or one is chosen by 'plan'")
        budget = {tier: max(size, self.footprint.total(tier)) for tier, size in self.budget.items()}
        tiers = Tiers(self.machine, budget, self.settings.threads)
        tiers.device.take(self.footprint.fixed())
        tiers.host.take(self.footprint.total("host"))
        seconds = tiers.run(self.method.iteration(self.job, tiers))
        return Iteration(seconds, tiers.log, tiers.busy(), {"device": tiers.device.peak, "host": tiers.host.peak})


def fit_update() -> float:
    """Solve the logged 32-layer run of stronghold for the CPU's seconds a parameter."""
    settings = Settings("stronghold", calibration.WINDOW)
    case = Case(calibration.MODEL, load_machine(calibration.DEVICE), settings)

    def beyond(update_s: float) -> float:
        tiers = Tiers(case.machine, case.machine.budget(), settings.threads)
        job = dataclasses.replace(case.job, update_s=update_s)
        return tiers.run(METHODS["stronghold"].iteration(job, tiers)) - calibration.STRONGHOLD_S

    return float(brentq(beyond, 1e-9, 1e-8, xtol=1e-14))
