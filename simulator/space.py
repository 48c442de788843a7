"""The space that a search walks: keys with lists of values, or ranges of numbers."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.errors import UserError

if TYPE_CHECKING:
    import optuna

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
LOGARITHMIC = 10.0  # a range whose ends differ by this factor is searched by its logarithm


@dataclass(frozen=True)
class Axis:
    """A key with its values, or with the ends of a range (`values` empty); whole: whole numbers only."""

    name: str
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False

    def suggest(self, trial: optuna.Trial) -> str:
        """A value of the axis, as it is written in a file."""
        if self.values:
            return str(trial.suggest_categorical(self.name, self.values))
        logarithmic = self.low > 0 and self.high / self.low >= LOGARITHMIC
        if self.whole:
            return str(trial.suggest_int(self.name, int(self.low), int(self.high), log=logarithmic))
        value = trial.suggest_float(self.name, self.low, self.high, log=logarithmic)
        return repr(float(f"{value:.4g}"))  # no setting is worth more digits


def axis(text: str) -> Axis:
    """Read "section.key=a,b,c" or "section.key=low..high"; UserError where it is neither."""
    name, equals, rest = text.partition("=")
    name = name.strip()
    if not equals or name.count(".") != 1 or not rest.strip():
        raise UserError(f"--over {text}: write section.key=A,B,… or section.key=low..high")
    ends = re.fullmatch(rf"\s*({NUMBER})\.\.({NUMBER})\s*", rest)
    if ends is None:
        values = tuple(part.strip() for part in rest.split(","))
        if not all(values) or len(set(values)) != len(values):
            raise UserError(f"--over {text}: a value is empty or stands there twice")
        return Axis(name, values)
    low, high = float(ends[1]), float(ends[2])
    if not low < high or not math.isfinite(high):
        raise UserError(f"--over {text}: a range rises from its first number to its second")
    whole = all(re.fullmatch(r"[-+]?\d+", end) for end in ends.groups())
    return Axis(name, (), low, high, whole)


def grid(axes: list[Axis], most: int) -> list[dict[str, str]] | None:
    """Every point, where all axes are lists (or short ranges of whole numbers) and there are at most `most` points."""
    listed = []
    for one in axes:
        if one.values:
            listed.append(one.values)
        elif one.whole and one.high - one.low < most:
            listed.append(tuple(str(n) for n in range(int(one.low), int(one.high) + 1)))
        else:
            return None
    if math.prod(len(values) for values in listed) > most:
        return None
    names = [one.name for one in axes]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*listed)]
