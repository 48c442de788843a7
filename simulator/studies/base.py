"""What every study shares: a cell (observed beside predicted), the request, the table that is printed, the JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.table import Table

from simulator.terminal import console
from toolkit.errors import UserError
from toolkit.experiment import Experiment, load
from toolkit.keys import read_section
from toolkit.units import render

FOLDER = Path(__file__).resolve().parents[2] / "exp_configs" / "studies"
# "prediction": nothing is published to hold it against; "upper bound": of what is published, and no prediction of it
ROLES = ("calibration", "held-out", "prediction", "upper bound")


@dataclass(frozen=True)
class Cell:
    """One number of a study.

    settings: {"section.key": value as in an experiment file} that ask for this very cell. predicted: None where the
    setting cannot run, with the reason in `note`. observed: None where none is published. Times in seconds.
    """

    settings: dict[str, Any]
    quantity: str
    predicted: float | None
    observed: float | None = None
    role: str = "prediction"
    group: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        assert self.role in ROLES, self.role

    @property
    def error(self) -> float | None:
        """(predicted - observed) / observed; the difference where 0 was observed; None where either is missing."""
        if self.observed is None or self.predicted is None:
            return None
        return (self.predicted - self.observed) / (self.observed or 1.0)

    def to_json(self) -> dict[str, Any]:
        row = {"settings": self.settings, "quantity": self.quantity, "observed": self.observed}
        row |= {"predicted": self.predicted, "error": self.error, "role": self.role}
        return row | ({"group": self.group} if self.group else {}) | ({"note": self.note} if self.note else {})


@dataclass(frozen=True)
class Request:
    """A study's base experiment with the overrides applied, its own keys, and which keys the user set."""

    experiment: Experiment
    keys: Any
    given: frozenset[str]
    seed: int
    source: str

    def allow(self, *keys: str) -> None:
        """UserError if the user set a key that this study does not follow; "section." stands for a whole section."""
        for name in sorted(self.given):
            if name not in keys and not any(k.endswith(".") and name.startswith(k) for k in keys):
                text = ", ".join(k + "*" if k.endswith(".") else k for k in keys)
                raise UserError(f"--set {name}: this study follows {text}")

    def value(self, name: str) -> Any:
        """A key's value as an experiment file writes it, quantities with their unit."""
        section, _, option = name.partition(".")
        holder = self.keys if section == "study" else getattr(self.experiment, section)
        value = getattr(holder, option)
        unit = {spec.name: spec.metadata["unit"] for spec in dataclasses.fields(holder)}[option]
        return render(unit, value) if unit else list(value) if isinstance(value, tuple) else value

    def also(self, settings: dict[str, Any]) -> dict[str, Any]:
        """What the user set beside `settings`, so that a cell says all that it was asked with."""
        return {name: self.value(name) for name in sorted(self.given - settings.keys())}


@dataclass(frozen=True)
class NoKeys:
    """A study without keys of its own."""


@dataclass(frozen=True)
class Errors:
    """Mean and worst |error| of the cells of a role."""

    role: str
    cells: int
    mean: float
    worst: float

    @staticmethod
    def of(cells: Iterable[Cell], role: str, quantity: str = "") -> Errors:
        """Of all the role's cells, or of one quantity's."""
        chosen = [c for c in cells if c.role == role and quantity in ("", c.quantity)]
        found = [abs(c.error) for c in chosen if c.error is not None]
        mean = math.fsum(found) / len(found) if found else math.nan
        return Errors(role, len(found), mean, max(found, default=math.nan))


@dataclass
class Outcome:
    """What a study came to; `sections` joins the JSON."""

    name: str
    cells: list[Cell]
    sections: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        errors = {}
        for role in ROLES[:2]:
            found = Errors.of(self.cells, role)
            if found.cells:
                parts = {part: _plain_errors(Errors.of(self.cells, role, part)) for part in _compared(self.cells, role)}
                errors[role] = _plain_errors(found) | {"quantities": parts}
        rows = [cell.to_json() for cell in self.cells]
        return {"schema": 1, "study": self.name, "errors": errors, "cells": rows, **self.sections}


def _plain_errors(errors: Errors) -> dict[str, Any]:
    return {"cells": errors.cells, "mean": errors.mean, "worst": errors.worst}


def _compared(cells: Sequence[Cell], role: str) -> list[str]:
    """The quantities of a role that were observed: seconds and layers, say, are no errors to be averaged in silence."""
    return list(dict.fromkeys(c.quantity for c in cells if c.role == role and c.error is not None))


def request(module: ModuleType, name: str, overrides: Sequence[str], seed: int | None, file: str | None) -> Request:
    """Load a study's experiment file, or `file`; overrides of [study] go to the study's own keys. UserError."""
    path = Path(file) if file else getattr(module, "FILE", FOLDER / f"{name}.toml")
    own: list[str] = []
    others: list[str] = []
    for override in overrides:
        (own if override.strip().startswith("study.") else others).append(override)
    experiment = load(path, others)
    kind = getattr(module, "Keys", NoKeys)
    content: dict[str, Any] = {}
    for override in own:
        key, equals, text = override.partition("=")
        if not equals:
            raise UserError(f"--set {override}: write study.key=value")
        content[key.strip().removeprefix("study.")] = _plain(text.strip())
    keys = kind(**read_section(kind, content, "--set [study]"))
    given = frozenset(override.partition("=")[0].strip() for override in overrides)
    return Request(experiment, keys, given, experiment.run.seed if seed is None else seed, str(path))


def _plain(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text, text.strip("\"'"))


def show(title: str, source: str, outcome: Outcome) -> None:
    """The table for people: observed, predicted, error, role; then the two means apart."""
    out = console()
    out.print(f"{title} — {source}", highlight=False)
    for group in dict.fromkeys(cell.group for cell in outcome.cells):
        table = Table(title=group or None, title_justify="left")
        for column in ("setting", "quantity"):
            table.add_column(column)
        for column in ("observed", "predicted", "error"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("role")
        for cell in (c for c in outcome.cells if c.group == group):
            setting = " ".join(f"{key.partition('.')[2]}={value}" for key, value in cell.settings.items())
            error = "" if cell.error is None else f"{cell.error:+.2%}" if cell.observed else f"{cell.error:+.3g}"
            row = (setting, cell.quantity, _number(cell.observed), _number(cell.predicted), error, cell.role)
            table.add_row(*row)
        out.print(table)
    for note in dict.fromkeys(cell.note for cell in outcome.cells if cell.note):
        out.print(f"note: {note}", highlight=False)
    for role in ROLES[:2]:
        quantities = _compared(outcome.cells, role)
        for quantity in ("", *quantities) if len(quantities) > 1 else quantities:
            found = Errors.of(outcome.cells, role, quantity)
            name = f"  {quantity}" if quantity and len(quantities) > 1 else role
            out.print(f"{name}: {found.cells} cells, mean error {found.mean:.2%}, worst {found.worst:.2%}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"
