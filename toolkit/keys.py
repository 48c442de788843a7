"""A key of an experiment file: its default, what is allowed, and the error that tells the user so."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from toolkit import registry, units
from toolkit.errors import UserError


def key(
    default: Any,
    help: str,
    *,
    unit: str = "",
    choices: Iterable[str] = (),
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    required: bool = False,
) -> Any:
    """A key of a section: its default and what is allowed (`low` and `high` inclusive, `above` exclusive).

    required: a row of a table must name it; its default then only tells its type.
    """
    rules = {"help": help, "unit": unit, "choices": tuple(choices), "low": low, "high": high, "above": above}
    rules |= {"required": required, "table": None}
    return dataclasses.field(default=units.parse(unit, default) if unit else default, metadata=rules)


def table(kind: type, help: str) -> Any:
    """A key whose value is a list of tables, each with the keys of the dataclass `kind`; empty by default."""
    return dataclasses.field(default=(), metadata={"help": help, "unit": "", "table": kind, "required": False})


def read_section(kind: type, content: dict[str, Any], where: str, *, base_units: bool = False) -> dict[str, Any]:
    """Check the keys of one section and turn their values into those of the dataclass `kind`.

    where: what an error begins with, "file: [section]". Quantities are texts with a unit, or plain numbers in base
    units with `base_units`. Raises UserError.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}
    values = {}
    for name, value in content.items():
        if name not in fields:
            allowed = f"known keys are {', '.join(fields)}" if fields else "there are none here"
            raise UserError(f"{where} {name} = {value!r}: unknown key{registry.nearest(name, fields)}; {allowed}")
        kind_of_row = fields[name].metadata["table"]
        if kind_of_row:
            values[name] = _rows(kind_of_row, value, f"{where} {name}", base_units)
        else:
            values[name] = _value(fields[name], value, f"{where} {name}", base_units)
    return values


def is_free_text(spec: dataclasses.Field[Any]) -> bool:
    """Whether a key takes any text: no name of a list, no quantity."""
    return isinstance(spec.default, str) and not spec.metadata["choices"] and not spec.metadata["unit"]


def _rows(kind: type, value: Any, where: str, base_units: bool) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(row, dict) for row in value):
        names = ", ".join(f.name for f in dataclasses.fields(kind))
        raise UserError(f"{where} = {value!r}: a list of tables is wanted, with the keys {names}")
    rows = []
    for number, row in enumerate(value, start=1):
        here = f"{where} {number}:"
        for spec in dataclasses.fields(kind):
            if spec.metadata["required"] and spec.name not in row:
                raise UserError(f"{here} {spec.name}: this key is missing: {spec.metadata['help']}")
        rows.append(kind(**read_section(kind, row, here, base_units=base_units)))
    return tuple(rows)


def _value(spec: dataclasses.Field[Any], value: Any, where: str, base_units: bool) -> Any:
    rules = spec.metadata
    if rules["unit"] and not base_units:
        value = units.parse(rules["unit"], value, where)
    elif rules["choices"]:
        if not isinstance(value, str):
            raise UserError(f"{where} = {value!r}: a name in quotes; allowed are {', '.join(rules['choices'])}")
        return registry.check_name(where, value, rules["choices"])
    else:
        value = _typed(spec.default, value, where)
    numbers = value if isinstance(value, tuple) else (value,)
    if not isinstance(value, (str, bool)) and not all(_in_range(number, rules) for number in numbers):
        raise UserError(f"{where} = {_show(value, rules['unit'])}: {_range(rules)}")
    return value


def _typed(default: Any, value: Any, where: str) -> Any:
    """`value` as the type of `default`; UserError says which type is wanted."""
    if isinstance(default, bool):
        good, wanted = isinstance(value, bool), "true or false"
    elif isinstance(default, int):
        good, wanted = _is_number(value) and isinstance(value, int), "a whole number"
    elif isinstance(default, float):
        good, wanted = _is_number(value), "a number"
        value = float(value) if good else value
    elif isinstance(default, tuple):
        good, wanted = isinstance(value, (list, tuple)) and all(map(_is_number, value)), "a list of numbers"
        value = tuple(float(item) for item in value) if good else value
    else:
        good, wanted = _is_text(value), "a text in quotes"
    if not good:
        raise UserError(f"{where} = {value!r}: {wanted} is wanted")
    return value


def _is_number(value: Any) -> bool:
    """True and false are no numbers, and TOML's whole numbers have 64 bits."""
    return isinstance(value, float) or (type(value) is int and -(2**63) <= value < 2**63)


def _is_text(value: Any) -> bool:
    """A lone surrogate, what a command line makes of bytes that are no UTF-8, cannot be written to a file again."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _in_range(value: float, rules: Any) -> bool:
    return math.isfinite(value) and value > rules["above"] and rules["low"] <= value <= rules["high"]


def _show(value: Any, unit: str) -> str:
    return repr(units.render(unit, value)) if unit else repr(value)


def _range(rules: Any) -> str:
    parts = [f"> {_show(rules['above'], rules['unit'])}"] if rules["above"] > -math.inf else []
    parts += [f">= {_show(rules['low'], rules['unit'])}"] if rules["low"] > -math.inf else []
    parts += [f"<= {_show(rules['high'], rules['unit'])}"] if rules["high"] < math.inf else []
    return "a finite value " + " and ".join(parts) + " is wanted" if parts else "a finite value is wanted"
