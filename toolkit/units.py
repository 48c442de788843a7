"""Quantities as people write them: "200 Mbit/s", "50 us", "128 MiB". A number without its unit is refused.

Times are seconds, sizes bytes and rates bytes/s everywhere inside; only files and messages carry units.
"""

from __future__ import annotations

import math
import re

from toolkit.errors import UserError

TIME = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0}
SIZE = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
SIZE |= {"KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40}
RATE = {f"{prefix}bit/s": factor / 8 for prefix, factor in {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}.items()}
RATE |= {f"{unit}/s": factor for unit, factor in SIZE.items()}
KINDS = {"time": TIME, "size": SIZE, "rate": RATE}
EXAMPLES = {"time": "50 us", "size": "128 MiB", "rate": "200 Mbit/s"}

_PATTERN = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|\.[0-9]+)\s*([A-Za-z/]+)\s*")


def parse(kind: str, text: object, where: str = "value") -> float:
    """Parse a quantity of `kind` ("time", "size", "rate") to seconds, bytes or bytes/s; UserError if it is not one."""
    value = _read(kind, text)
    if value is None:
        raise UserError(
            f'{where} = {text!r}: a {kind} is written like "{EXAMPLES[kind]}"; units are {", ".join(KINDS[kind])}'
        )
    return value


def _read(kind: str, text: object) -> float | None:
    match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
    if match is None or match.group(2) not in KINDS[kind]:
        return None
    number, factor = float(match.group(1)), KINDS[kind][match.group(2)]
    # 1e-6 is no float but 1e6 is: dividing gives 5e-05 for "50 us", multiplying its neighbour
    value = number * factor if factor >= 1 else number / round(1 / factor)
    return value if math.isfinite(value) else None


def render(kind: str, value: float) -> str:
    """Write a quantity in the largest decimal unit that reads back to exactly `value`; the base unit otherwise.

    Never raises: what is no quantity (a negative or infinite number) is written too, for a message that refuses it.
    """
    units = KINDS[kind]
    value = float(value) + 0.0  # no negative zero, no NumPy scalar: neither would be written as a plain number
    preferred = {"time": ("s", "ms", "us", "ns"), "size": ("GB", "MB", "kB", "B")}
    preferred |= {"rate": ("Gbit/s", "Mbit/s", "kbit/s", "bit/s")}
    names = sorted(preferred[kind], key=lambda name: -units[name])
    base = next(name for name in units if units[name] == 1.0)
    for name in names if value else ():
        number = value / units[name]
        text = f"{number:.12g} {name}"
        if (number >= 1 or name == names[-1]) and _read(kind, text) == value:
            return text
    return f"{value!r} {base}" if value else f"0 {base}"
