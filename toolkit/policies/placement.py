"""Where the copies of in-memory checkpoints lie, and how likely a failure leaves one of each alive (GEMINI, SOSP 2023).

N machines each hold one shard of the training state and m - 1 copies of others' shards: m copies in all, the own one
counted. Machine i's shard lies on `holders(i)`, i first. k machines fail at once, every set of k equally likely; the
job recovers from memory unless some shard's holders have all failed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from math import comb

PLACEMENTS = ("group", "ring", "mixed")


@dataclass(frozen=True)
class Placement:
    """Copies of N machines' shards; `problem` says why a combination is impossible."""

    kind: str
    machines: int
    copies: int

    def __post_init__(self) -> None:
        if text := self.problem(self.kind, self.machines, self.copies):
            raise ValueError(text)

    @staticmethod
    def problem(kind: str, machines: int, copies: int) -> str:
        """Why the placement is impossible; empty if it is not."""
        if kind not in PLACEMENTS:
            return f"placement '{kind}': allowed are {', '.join(PLACEMENTS)}"
        if not 1 <= copies <= machines:
            return f"{copies} copies on {machines} machines: from 1 to {machines} are possible"
        if kind == "group" and machines % copies:
            return f"{machines} machines do not divide into groups of {copies}; 'mixed' takes any number"
        return ""

    @property
    def groups(self) -> int:
        """Groups of exactly m machines; the machines after them form one ring."""
        if self.kind == "ring":
            return 0
        return self.machines // self.copies - (self.kind == "mixed" and self.machines % self.copies > 0)

    @property
    def ring(self) -> int:
        """Machines of the ring."""
        return self.machines - self.groups * self.copies

    def holders(self, machine: int) -> tuple[int, ...]:
        """The machines that keep this machine's shard, itself first, (m,)."""
        if not 0 <= machine < self.machines:
            raise ValueError(f"machine {machine}: there are {self.machines}, counted from 0")
        start = self.groups * self.copies
        first, length = (start, self.ring) if machine >= start else (machine // self.copies * self.copies, self.copies)
        return tuple(first + (machine - first + step) % length for step in range(self.copies))

    def survives(self, failed: Iterable[int]) -> bool:
        """Whether every shard has a copy left when these machines fail together."""
        gone = frozenset(failed)
        return not any(gone.issuperset(self.holders(machine)) for machine in gone)

    def surviving_sets(self, failed: int) -> int:
        """How many of the sets of so many failed machines leave every shard alive: exact, by counting.

        A group survives with fewer than m failures: (sum_{j<m} C(m, j) x^j) each. A ring of n survives without m
        neighbours failing: n/(n-j) times the coefficient of x^j in (1 + x + ... + x^(m-1))^(n-j), by the cycle lemma.
        """
        m = self.copies
        total = _power([comb(m, j) for j in range(m)], self.groups, failed)
        ring = [_ring_sets(self.ring, j, m) for j in range(min(self.ring, failed) + 1)]
        return _product(total, ring, failed)[failed] if self.ring else total[failed]

    def recovery_probability(self, failed: int) -> float:
        """Probability that so many simultaneous failures leave every shard in memory."""
        if not 0 <= failed <= self.machines:
            raise ValueError(f"{failed} failed machines of {self.machines}")
        return float(Fraction(self.surviving_sets(failed), comb(self.machines, failed)))

    def rack_recovery_probability(self, racks: tuple[tuple[int, ...], ...], failed: int) -> float:
        """The same where whole racks fail together: `failed` of them, every set equally likely. By enumeration."""
        sets = list(combinations(racks, failed))
        alive = sum(self.survives(machine for rack in chosen for machine in rack) for chosen in sets)
        return alive / len(sets)


def published_bound(machines: int, copies: int, failed: int) -> float:
    """GEMINI's bound for groups: 1 for k < m, else max(0, 1 - N C(N-m, k-m) / (m C(N, k))); exact only for k < 2m."""
    if failed < copies:
        return 1.0
    lost = Fraction(machines * comb(machines - copies, failed - copies), copies * comb(machines, failed))
    return max(0.0, float(1 - lost))


def contiguous_racks(machines: int, per_rack: int) -> tuple[tuple[int, ...], ...]:
    """Machines in racks of neighbours, as a scheduler hands them out; the last rack may be short."""
    return tuple(tuple(range(i, min(i + per_rack, machines))) for i in range(0, machines, per_rack))


def spread_racks(machines: int, per_rack: int) -> tuple[tuple[int, ...], ...]:
    """Machines dealt to the racks in turn, so that the members of a group stand in different racks."""
    racks = -(-machines // per_rack)
    return tuple(tuple(range(rack, machines, racks)) for rack in range(racks))


def _ring_sets(n: int, failed: int, m: int) -> int:
    """Sets of `failed` places on a circle of n without m neighbours in it."""
    if failed == n:
        return 0 if n else 1
    gaps = _power([1] * m, n - failed, failed)
    return gaps[failed] * n // (n - failed)


def _power(base: list[int], exponent: int, degree: int) -> list[int]:
    """The first degree + 1 coefficients of a polynomial's power."""
    result = [1] + [0] * degree
    square = base
    while exponent:
        if exponent & 1:
            result = _product(result, square, degree)
        square = _product(square, square, degree)
        exponent >>= 1
    return result


def _product(a: list[int], b: list[int], degree: int) -> list[int]:
    result = [0] * (degree + 1)
    for i, x in enumerate(a[: degree + 1]):
        if x:
            for j, y in enumerate(b[: degree + 1 - i]):
                result[i + j] += x * y
    return result
