"""What a search wants of a point: one number to make small or large, and conditions that it must meet."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from toolkit import registry
from toolkit.errors import UserError

HOUR = 3600.0
MEASURES = (
    *("iteration_time_s", "total_time_s", "samples_per_s", "bytes_sent_per_worker", "workers"),
    *("compute", "compress", "communicate", "optimize", "checkpoint", "idle"),
)
COMPARE: dict[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Objective:
    """A number of one result. larger: whether more of it is better. unit: as printed."""

    name: str
    unit: str
    larger: bool
    of: Callable[[Mapping[str, Any]], float]

    def better(self, a: float, b: float) -> bool:
        return a > b if self.larger else a < b


@dataclass(frozen=True)
class Condition:
    """`measure <= limit` or `measure >= limit` on the mean over seeds."""

    measure: str
    relation: str
    limit: float

    def holds(self, measures: Mapping[str, float]) -> bool:
        return COMPARE[self.relation](measures[self.measure], self.limit)

    def excess(self, measures: Mapping[str, float]) -> float:
        """How far it is missed, relative to the limit; 0 or below where it holds."""
        over = measures[self.measure] - self.limit
        return (over if self.relation == "<=" else -over) / (abs(self.limit) or 1.0)

    def __str__(self) -> str:
        return f"{self.measure} {self.relation} {self.limit:g}"


def objective(name: str, samples: int, price: float) -> Objective:
    """The objective of a name. samples: training examples that a job has to see. price: of a worker and hour."""
    table = {
        "throughput": Objective("throughput", "samples/s", True, lambda r: float(r["samples_per_s"])),
        "time": Objective("time", f"s for {samples:,} samples", False, lambda r: samples / r["samples_per_s"]),
        "cost": Objective(
            *("cost", f"for {samples:,} samples at {price:g} a worker and hour", False),
            lambda r: samples / r["samples_per_s"] / HOUR * r["workers"] * price,
        ),
        "wasted": Objective("wasted", "share of time that is not computing", False, _wasted),
    }
    return table[registry.check_name("--objective", name, table)]


NAMES = ("throughput", "time", "cost", "wasted")


def _wasted(result: Mapping[str, Any]) -> float:
    return 1.0 - float(result["time_share"]["compute"])


def condition(text: str) -> Condition:
    """Read "iteration_time_s<=0.2"; UserError names what is allowed."""
    match = re.fullmatch(r"\s*(\w+)\s*(<=|>=)\s*([-+.\deE]+)\s*", text)
    try:
        limit = float(match[3]) if match else 0.0
    except ValueError:
        match = None
    if match is None:
        raise UserError(f"--where {text}: write measure<=number or measure>=number; measures are {', '.join(MEASURES)}")
    return Condition(registry.check_name(f"--where {text}: measure", match[1], MEASURES), match[2], limit)


def flat(result: Mapping[str, Any]) -> dict[str, float]:
    """The measures of one result by name."""
    measures = {"iteration_time_s": result["iteration_time_s"]["mean"], **result["time_share"]}
    return measures | {name: result[name] for name in MEASURES if name in result and name != "iteration_time_s"}
