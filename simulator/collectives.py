"""Collectives as schedules of messages.

A schedule is a list of rounds. A message starts when both its ends have reached its round (a send-receive), and a rank
goes on when its own messages were sent and those to it have arrived.
Sources: Thakur, Rabenseifner, Gropp, Optimization of Collective Communication Operations in MPICH (IJHPCA 2005); the
choice is that of Open MPI's tuned component up to 4.0 (coll_tuned_decision_fixed.c); for the exchanges of sparse
gradients toolkit/exchange/gtopk.py and oktopk.py, message by message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from toolkit.sections.cluster import ALLGATHER, ALLREDUCE  # noqa: F401 - the names that `schedule` knows

SMALL_ALLREDUCE = 10_000  # bytes: below it Open MPI doubles recursively
SMALL_ALLGATHER = 50_000  # bytes of all blocks: below it Open MPI uses Bruck's algorithm
Ranks = NDArray[np.int64]


@dataclass(frozen=True)
class Round:
    """Messages of one round: source and target ranks, bytes; each (messages,).

    work: seconds that a rank needs for what it received, before its next round.
    """

    source: Ranks
    target: Ranks
    size: NDArray[np.float64]
    work: float = 0.0


Schedule = list[Round]


@cache
def ring_pairs(workers: int) -> tuple[Ranks, Ranks]:
    rank = np.arange(workers)
    return rank, (rank + 1) % workers


def ring_allreduce(workers: int, size: float) -> Schedule:
    """2(P-1) rounds of a P-th part: reduce-scatter, then allgather."""
    return [Round(*ring_pairs(workers), np.full(workers, size / workers))] * (2 * (workers - 1))


def ring_allgather(sizes: Sequence[float]) -> Schedule:
    """P-1 rounds; in round s a rank passes on the block that started s places before it."""
    workers, blocks = len(sizes), np.asarray(sizes, dtype=float)
    rank, following = ring_pairs(workers)
    return [Round(rank, following, blocks[(rank - s) % workers]) for s in range(workers - 1)]


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


def hierarchical_allreduce(workers: int, per_host: int, size: float) -> Schedule:
    """A binomial reduce to the first worker of each host, a ring over these, a binomial broadcast in each host."""
    leaders = np.arange(0, workers, per_host)
    down = []
    for tree in binomial_broadcast(min(per_host, workers), size):
        source = (leaders[:, None] + tree.source).ravel()
        target = (leaders[:, None] + tree.target).ravel()
        there = target < np.minimum(source // per_host * per_host + per_host, workers)  # the last host may be smaller
        down.append(Round(source[there], target[there], np.full(int(there.sum()), float(size))))
    up = [Round(message.target, message.source, message.size) for message in reversed(down)]
    between = ring_allreduce(len(leaders), size)
    return up + [Round(leaders[message.source], leaders[message.target], message.size) for message in between] + down


def all_to_all(sizes: Sequence[float]) -> Round:
    """Every rank sends as many bytes to each other rank as `sizes` says of it, all at once."""
    return Round(*_pairs(len(sizes)), np.repeat(np.asarray(sizes, dtype=float), len(sizes) - 1))


@cache
def _pairs(workers: int) -> tuple[Ranks, Ranks]:
    source, target = np.divmod(np.arange(workers * workers), workers)
    return source[source != target], target[source != target]


def parameter_server(workers: int, size: float) -> Schedule:
    """A shard of the vector on every worker: all push a P-th part to each other, then pull one from each other."""
    part = [size / workers] * workers
    return [all_to_all(part), all_to_all(part)]


def gtopk(lists: Sequence[float], work: float = 0.0) -> Schedule:
    """Pairs merge and select again: log2 P rounds, for any P; a merged list is as long as the longer of the two.

    lists: bytes of each rank's list; work: seconds of a merge.
    """
    workers, held = len(lists), np.asarray(lists, dtype=float)
    core = 1 << (workers.bit_length() - 1)
    extra, rank, rounds = np.arange(workers - core), np.arange(core), []
    if len(extra):
        rounds.append(Round(extra + core, extra, held[core:], work))
        held = np.maximum(held[:core], np.concatenate([held[core:], np.zeros(core - len(extra))]))
    for s in range(core.bit_length() - 1):
        other = rank ^ (1 << s)
        rounds.append(Round(rank, other, held[:core], work))
        held = np.maximum(held[:core], held[other])
    if len(extra):
        rounds.append(Round(extra, extra + core, held[: len(extra)]))
    return rounds


HEADS = 128  # magnitudes that an owner tells of its sums (toolkit/exchange/oktopk.py)


def heads(sums: int) -> int:
    """Magnitudes that stand for so many sums."""
    return -(-sums // max(1, -(-sums // HEADS)))


def oktopk(work: float, told: float, quotas: float, share: float, parts: Sequence[float]) -> Schedule:
    """Regions are told, parts of them reduced, quotas told, shares gathered: everybody to everybody, four times.

    work: seconds to add up what came. parts: bytes of each rank's list for one region; all else is alike on all ranks.
    Owners are taken to keep like shares, so that nothing has to be evened out.
    """
    workers = len(parts)
    reduce = all_to_all(parts)
    others = [all_to_all([size] * workers) for size in (told, quotas, share)]
    return [others[0], Round(reduce.source, reduce.target, reduce.size, work), *others[1:]]


def lists(kind: str, workers: int, sizes: Sequence[float]) -> Schedule:
    """The messages of a "gtopk" (sizes: seconds of a merge, bytes of each rank's list) or "oktopk" (seconds, then the
    bytes of `oktopk`, the parts of each rank last)."""
    if workers == 1:
        return []
    if kind == "gtopk":
        return gtopk(sizes[1:], sizes[0])
    work, told, quotas, share = sizes[:4]
    return oktopk(work, told, quotas, share, sizes[4:])


def lists_sent(kind: str, workers: int, sizes: Sequence[float]) -> NDArray[np.float64]:
    """Bytes that each rank sends in an exchange of lists, (workers,)."""
    if kind == "oktopk":  # to each other rank the same, four times
        return (workers - 1) * (sum(sizes[1:4]) + np.asarray(sizes[4:], dtype=float))
    return wire_bytes(lists(kind, workers, sizes), workers)


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


def schedule(kind: str, algorithm: str, sizes: Sequence[float], per_host: int = 1) -> Schedule:
    """The messages of an allreduce (sizes: the vector's bytes at each rank) or allgather (each rank's block, bytes)."""
    workers = len(sizes)
    if workers == 1:
        return []
    if kind == "allgather":
        return {"ring": ring_allgather, "bruck": bruck_allgather}[algorithm](sizes)
    if algorithm == "hierarchical":
        return hierarchical_allreduce(workers, per_host, sizes[0])
    return {
        "ring": ring_allreduce,
        "rabenseifner": rabenseifner_allreduce,
        "recursive-doubling": recursive_doubling_allreduce,
        "parameter-server": parameter_server,
    }[algorithm](workers, sizes[0])


def wire_bytes(rounds: Schedule, workers: int) -> NDArray[np.float64]:
    """Bytes that each rank puts on the wire, (workers,)."""
    total = np.zeros(workers)
    for messages in rounds:
        np.add.at(total, messages.source, messages.size)
    return total
