"""What to do with a model on a machine: for each method whether it fits, its window, its time, its largest model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from simulator.offload import calibration
from simulator.offload.case import Case, Iteration
from simulator.offload.methods import METHODS
from simulator.offload.search import by_policy, fastest, largest
from toolkit.policies.window import WindowChoice
from toolkit.sections.offload import IN_MEMORY, WITH_DISK

WITH_WINDOW = tuple(name for name, method in METHODS.items() if method.windowed)
VARIANTS: dict[
    str, tuple[dict[str, Any], tuple[str, ...]]
] = {  # counterfactuals: what is changed, of which methods it says something
    "as asked": ({}, tuple(METHODS)),
    "fused CPU Adam": ({"fused": True}, tuple(name for name in METHODS if name != IN_MEMORY)),
    "global clipping": ({"clipped": True}, WITH_WINDOW),
    "bf16": ({"value_bytes": 2}, tuple(METHODS)),
    "NVMe tier": ({"disk": True}, WITH_DISK),
}


@dataclass(frozen=True)
class Largest:
    """The deepest model: layers (0: not even one fits), parameters, the window of its shortest iteration, and the tier
    that does not hold one layer more."""

    layers: int
    parameters: int
    window: int
    limit: str


@dataclass(frozen=True)
class Advice:
    """One method. case: the file's own model with its best window, None where none fits; error: relative, of time."""

    method: str
    variant: str
    case: Case | None
    why_not: str
    iteration: Iteration | None
    largest: Largest

    @property
    def error(self) -> float:
        return error_of(self.method)

    @property
    def rule(self) -> WindowChoice | None:
        """What the published rule would choose; None without a window."""
        return by_policy(self.case) if self.case and self.window else None

    @property
    def seconds(self) -> float | None:
        return self.iteration.seconds if self.iteration else None

    @property
    def window(self) -> int:
        return self.case.job.window if self.case else 0

    def to_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {"method": self.method, "variant": self.variant, "fits": self.case is not None}
        row |= {"largest_layers": self.largest.layers, "largest_parameters": self.largest.parameters}
        row |= {"largest_window": self.largest.window or None, "largest_binds": self.largest.limit}
        row |= {"iteration_time_s": self.seconds}
        if not self.case or not self.iteration:
            return row | {"why_not": self.why_not}
        choice = self.rule
        row |= {"window": self.window or None, "relative_error": self.error, "binds": self.iteration.binds}
        row |= {"samples_per_s": self.case.model.batch / self.iteration.seconds}
        row |= {"policy_window": choice.window if choice else None, "not_hidden": list(choice.unmet) if choice else []}
        row |= {"busy_share": {name: s / self.iteration.seconds for name, s in self.iteration.busy.items()}}
        row |= {"bytes": {tier: self.case.footprint.parts(tier) for tier in ("device", "host", "disk")}}
        return row | ({"note": self.case.note} if self.case.note else {})


def advise(case: Case, method: str, variant: str = "as asked") -> Advice:
    """The advice for one method on a case's model and machine, in a variant of VARIANTS.

    A window that the case sets is kept; 0 takes the fastest.
    """
    case = _varied(case, variant).replace(method=method)
    if not METHODS[method].windowed:
        case = case.replace(window=0)
    best = fastest(case) if not case.settings.window else None if case.over else case
    why_not = "" if best else _why_not(case)
    return Advice(method, variant, best, why_not, best.run() if best else None, _largest(case))


def _largest(case: Case) -> Largest:
    layers = largest(case)
    limit = _limit(case.replace(layers=layers + 1))
    if not layers:
        return Largest(0, 0, 0, limit)
    deep, window = case.replace(layers=layers), case.settings.window
    if case.method.windowed and not window:
        best = fastest(deep)
        window = best.settings.window if best else 0
    return Largest(layers, deep.model.parameters, window, limit)


def _limit(case: Case) -> str:
    """The tier that a model is too large for; of a windowed method with the window that is nearest to fitting."""
    return (case.replace(window=_nearest(case)) if case.method.windowed and not case.settings.window else case).over


def _varied(case: Case, variant: str) -> Case:
    changes = dict(VARIANTS[variant][0])
    value_bytes = changes.pop("value_bytes", case.model.value_bytes)
    return Case(dataclasses.replace(case.model, value_bytes=value_bytes), case.machine, case.settings).replace(
        **changes
    )


def _why_not(case: Case) -> str:
    """What stands in the way."""
    if not case.method.windowed or case.settings.window:
        return case.why_not()
    window = _nearest(case)
    return f"with window {window}: {case.replace(window=window).why_not()}"


def _nearest(case: Case) -> int:
    """The window that is nearest to fitting."""
    budget = case.budget

    def excess(window: int) -> float:
        footprint = case.replace(window=window).footprint
        return max(footprint.total(tier) - budget[tier] for tier in budget)

    return min(range(1, case.model.layers + 1), key=excess)


def error_of(method: str) -> float:
    """Worst relative error of a method's held-out times in the study, of all where it has none.

    Not below the mean of all: a method with one such time was lucky.
    """
    from simulator.studies.stronghold import residuals

    found = residuals()
    everything = [error for errors in found.values() for error in errors]
    return max(sum(everything) / len(everything), *(found.get(method) or everything))


def validated(case: Case) -> str:
    """Why the study's errors are not those of this case, "" where they are."""
    if case.machine.name != calibration.DEVICE:
        return f"errors were measured on {calibration.DEVICE}; the rates of {case.machine.name} are its catalogue's"
    if case.model.value_bytes != 4 or case.settings.fused or case.settings.disk:
        return "errors were measured in fp32 with the methods' released optimizers and without a disk"
    if dataclasses.replace(case.model, layers=calibration.LAYERS) != calibration.MODEL:
        return "errors were measured with hidden 2048, sequence 1024, batch 4"
    return ""
