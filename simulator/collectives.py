"""Collectives as schedules of messages, and the choice among them.

A schedule is a list of rounds; in a round a rank sends at most one message and receives at most one. A message starts
when both its ends have reached its round (a send-receive), and a rank goes on when its own message was sent and the
other's has arrived.
Sources: Thakur, Rabenseifner, Gropp, Optimization of Collective Communication Operations in MPICH (IJHPCA 2005); the
choice is that of Open MPI's tuned component up to 4.0 (coll_tuned_decision_fixed.c).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SMALL_ALLREDUCE = 10_000  # bytes: below it Open MPI doubles recursively
SMALL_ALLGATHER = 50_000  # bytes of all blocks: below it Open MPI uses Bruck's algorithm
ALLREDUCE = ("ring", "recursive-doubling", "rabenseifner")
ALLGATHER = ("ring", "bruck")


@dataclass(frozen=True)
class Round:
    """Messages of one round: source and target ranks, bytes; each (messages,)."""

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    size: NDArray[np.float64]


Schedule = list[Round]


def ring_allreduce(workers: int, size: float) -> Schedule:
    """2(P-1) rounds of a P-th part: reduce-scatter, then allgather."""
    rank = np.arange(workers)
    step = Round(rank, (rank + 1) % workers, np.full(workers, size / workers))
    return [step] * (2 * (workers - 1))


def ring_allgather(sizes: Sequence[float]) -> Schedule:
    """P-1 rounds; in round s a rank passes on the block that started s places before it."""
    workers, blocks = len(sizes), np.asarray(sizes, dtype=float)
    rank = np.arange(workers)
    return [Round(rank, (rank + 1) % workers, blocks[(rank - s) % workers]) for s in range(workers - 1)]


def bruck_allgather(sizes: Sequence[float]) -> Schedule:
    """⌈log2 P⌉ rounds for any P; in round s a rank sends the blocks it holds to the rank 2^s before it."""
    workers, blocks = len(sizes), np.asarray(sizes, dtype=float)
    rank, rounds, held = np.arange(workers), [], 1
    total = np.concatenate([[0.0], np.cumsum(np.concatenate([blocks, blocks]))])
    while held < workers:
        count = min(held, workers - held)
        rounds.append(Round(rank, (rank - held) % workers, total[rank + count] - total[rank]))
        held += count
    return rounds


def recursive_doubling_allreduce(workers: int, size: float) -> Schedule:
    """log2 P rounds of the whole vector; what exceeds a power of two is folded in before and told after."""
    return _folded(workers, size, lambda core: [(1 << s, size) for s in range(core.bit_length() - 1)])


def rabenseifner_allreduce(workers: int, size: float) -> Schedule:
    """Recursive halving, then recursive doubling: 2 log2 P rounds, 2(P-1)/P of the vector."""

    def halves(core: int) -> list[tuple[int, float]]:
        down = [(core >> (s + 1), size / (1 << (s + 1))) for s in range(core.bit_length() - 1)]
        return down + down[::-1]

    return _folded(workers, size, halves)


def binomial_broadcast(workers: int, size: float) -> Schedule:
    """⌈log2 P⌉ rounds from rank 0; the number of informed ranks doubles."""
    rounds, informed = [], 1
    while informed < workers:
        source = np.arange(min(informed, workers - informed))
        rounds.append(Round(source, source + informed, np.full(len(source), float(size))))
        informed *= 2
    return rounds


def _folded(workers: int, size: float, exchanges: Callable[[int], list[tuple[int, float]]]) -> Schedule:
    core = 1 << (workers.bit_length() - 1)
    extra, rank = np.arange(workers - core), np.arange(core)
    fold = np.full(len(extra), float(size))
    before = [Round(extra + core, extra, fold)] if len(extra) else []
    after = [Round(extra, extra + core, fold)] if len(extra) else []
    return before + [Round(rank, rank ^ far, np.full(core, part)) for far, part in exchanges(core)] + after


def choose(kind: str, workers: int, size: float) -> str:
    """The algorithm of an "allreduce" of `size` bytes, or of an "allgather" of `size` bytes from all ranks together."""
    if kind == "allreduce":
        return "recursive-doubling" if size < SMALL_ALLREDUCE else "ring"
    return "bruck" if size < SMALL_ALLGATHER and workers > 2 else "ring"


def schedule(kind: str, algorithm: str, sizes: Sequence[float]) -> Schedule:
    """The messages of an allreduce (sizes: the vector's bytes at each rank) or allgather (each rank's block, bytes)."""
    workers = len(sizes)
    if workers == 1:
        return []
    if kind == "allgather":
        return {"ring": ring_allgather, "bruck": bruck_allgather}[algorithm](sizes)
    if algorithm == "ring":
        return ring_allreduce(workers, sizes[0])
    if algorithm == "rabenseifner":
        return rabenseifner_allreduce(workers, sizes[0])
    return recursive_doubling_allreduce(workers, sizes[0])


def wire_bytes(rounds: Schedule, workers: int) -> NDArray[np.float64]:
    """Bytes that each rank puts on the wire, (workers,)."""
    total = np.zeros(workers)
    for messages in rounds:
        np.add.at(total, messages.source, messages.size)
    return total
