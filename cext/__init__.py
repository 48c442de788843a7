"""The kernels in C: selection, moments, merging and sparse optimizing of float32 vectors at memory speed.

Arrays are one-dimensional and C-contiguous: float32 values, int32 indices, int64 offsets, a uint8 workspace. Kernels
write only into what they are given, keep no state, start no threads beyond `threads`, and release the GIL. A wrong
type or shape of an argument raises TypeError; a wrong length, range or overlap raises ValueError; nothing is written
then. `cext.reference` has every function with the same signature in NumPy, and its docstrings define what is computed.

Magnitudes are ordered by the bits of |x|: NaN above infinity above every finite number, so a NaN is always selected,
sent and visible, never lost. Selection, residuals, merging and the optimizer give the same bits on every instruction
set and for every number of threads; so do the moments.

A residual may be bfloat16 as well, as uint16, where a function has a `seed`: it is rounded as round_bf16 does it, after
the entries that go are chosen and taken exactly. Samples are taken of either kind.

SANDTABLE_SIMD=serial, avx2 or avx512 forces an instruction set; the default is the best the processor has.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

try:
    from cext import _kernels
except ImportError as missing:
    raise ImportError(
        f"cext is not compiled ({missing}): run `pip install -e . --no-build-isolation` in the clone"
    ) from missing

from cext.moments_type import (
    FIT_EXPONENTIAL,
    FIT_OTHER,
    FIT_PARETO,
    HALF_BF16,
    HALF_FP16,
    SUM_ABS,
    SUM_ALL,
    SUM_LOGS,
    SUM_SQUARES,
    SUM_X,
    Collected,
    Moments,
    Predicted,
    StageFit,
    asked_for,
    asked_tails,
    short_above,
)
from cext.places import DRAW_BLOCK, Vector

LEVELS = ("serial", "avx2", "avx512")

__all__ = [
    "DRAW_BLOCK",
    "FIT_EXPONENTIAL",
    "FIT_OTHER",
    "FIT_PARETO",
    "HALF_BF16",
    "HALF_FP16",
    "LEVELS",
    "SUM_ABS",
    "SUM_ALL",
    "SUM_LOGS",
    "SUM_SQUARES",
    "SUM_X",
    "Collected",
    "Moments",
    "Predicted",
    "StageFit",
    "add",
    "capabilities",
    "collect_feedback",
    "collect_workspace",
    "count_above",
    "delta_decode",
    "delta_encode",
    "delta_size",
    "gather",
    "huge_pages",
    "max_abs",
    "merge_sorted",
    "moments",
    "moments_feedback",
    "momentum",
    "predict_stages",
    "put_bf16",
    "round_bf16",
    "round_half",
    "sample",
    "sample_strided",
    "scaled",
    "scatter_add",
    "select_blocks",
    "select_drawn",
    "select_stages",
    "settle",
    "short_above",
    "simd",
    "sparse_adam",
    "sparse_sgd",
    "stages_workspace",
    "tail_moments",
    "take_blocks",
    "threshold_select",
    "threshold_select_feedback",
    "topk_predictable",
    "topk_select",
    "topk_select_feedback",
    "topk_workspace",
    "use",
    "zero_at",
]


def capabilities() -> tuple[str, ...]:
    """The instruction sets that this processor can run, slowest first."""
    return tuple(level for level in LEVELS if _kernels.supported(level))


def use(level: str) -> None:
    """Switches the whole process to one instruction set; ValueError names those that are allowed here."""
    if level not in capabilities():
        raise ValueError(f"SANDTABLE_SIMD = {level}: allowed on this processor: {', '.join(capabilities())}")
    _kernels.use(level)


def simd() -> str:
    """The instruction set in use."""
    level: str = _kernels.simd()
    return level


def threshold_select(x: Vector, threshold: float, indices: Vector, values: Vector, threads: int = 1) -> int:
    """Entries with |x| > threshold, ascending; returns the true count, writes at most len(indices) of them."""
    count: int = _kernels.threshold_select(x, threshold, indices, values, threads)
    return count


def threshold_select_feedback(
    gradient: Vector,
    residual: Vector,
    threshold: float,
    indices: Vector,
    values: Vector,
    threads: int = 1,
    seed: int = 0,
) -> int:
    """residual += gradient, then threshold_select from residual, which becomes 0 where an entry is written."""
    count: int = _kernels.threshold_select_feedback(gradient, residual, threshold, indices, values, threads, seed)
    return count


def topk_predictable(n: int, k: int) -> bool:
    """Whether one pass finds the k largest of n, as a rule: a bfloat16 residual has nothing else."""
    found: bool = _kernels.topk_predictable(n, k)
    return found


def topk_workspace(n: int, k: int) -> int:
    """Bytes (uint8 elements) of workspace that the exact top-k of n elements needs."""
    size: int = _kernels.topk_workspace(n, k)
    return size


def topk_select(x: Vector, k: int, indices: Vector, values: Vector, workspace: Vector, threads: int = 1) -> int:
    """Exactly the k largest |x|, ties by the lowest index, ascending indices; returns k."""
    count: int = _kernels.topk_select(x, k, indices, values, workspace, threads)
    return count


def topk_select_feedback(
    gradient: Vector,
    residual: Vector,
    k: int,
    indices: Vector,
    values: Vector,
    workspace: Vector,
    threads: int = 1,
    seed: int = 0,
) -> int:
    """residual += gradient, then topk_select from residual, which becomes 0 where an entry is written.

    Returns k; with a bfloat16 residual -1 where one pass does not do: then nothing is selected.
    """
    count: int = _kernels.topk_select_feedback(gradient, residual, k, indices, values, workspace, threads, seed)
    return count


def moments(x: Vector, threads: int = 1, sums: int = SUM_ALL) -> Moments:
    """Count, non-zeros, and the sums of x, |x|, x², ln(|x| + 2.2e-16), with the largest |x|, in one pass."""
    found = Moments(*_kernels.moments(x, threads, sums))
    return found if sums == SUM_ALL else asked_for(found, sums)


def moments_feedback(gradient: Vector, residual: Vector, threads: int = 1, sums: int = SUM_ALL) -> Moments:
    """residual += gradient, and the moments of the residual, in the same pass."""
    found = Moments(*_kernels.moments_feedback(gradient, residual, threads, sums))
    return found if sums == SUM_ALL else asked_for(found, sums)


def tail_moments(x: Vector, threshold: float, threads: int = 1, limit: float = math.inf) -> tuple[int, float, float]:
    """Count, sum and sum of squares of |x| - threshold over threshold < |x| <= limit; no limit: over NaN, too."""
    count, total, squares = _kernels.tail_moments(x, threshold, threads, limit)
    return count, total, squares


def count_above(x: Vector, threshold: float, threads: int = 1) -> int:
    """Elements with |x| > threshold, NaN among them."""
    count: int = _kernels.count_above(x, threshold, threads)
    return count


def predict_stages(
    sample: Vector, groups: int, stages: Sequence[StageFit], width: float, fewest: int
) -> Predicted | None:
    """Brackets around the thresholds of stages that follow one another, as a sample of the vector tells them."""
    found = _kernels.predict_stages(sample, groups, stages, width, fewest)
    return None if found is None else Predicted(*found)


def stages_workspace(n: int) -> int:
    """Bytes (uint8 elements) of workspace that select_stages of n elements needs."""
    size: int = _kernels.stages_workspace(n)
    return size


def select_stages(
    gradient: Vector | None,
    x: Vector,
    stages: Sequence[StageFit],
    sums: int,
    indices: Vector,
    values: Vector,
    workspace: Vector,
) -> tuple[int, float, float]:
    """x += gradient, if there is one; then the entries above the last stage's threshold: how many, it, and sum |x|."""
    count, threshold, sum_abs = _kernels.select_stages(gradient, x, stages, sums, indices, values, workspace)
    return count, threshold, sum_abs


def sample(gradient: Vector | None, x: Vector, out: Vector, groups: int = 1) -> int:
    """Copies len(out) // 32 jittered grains of 32 elements of x, or of gradient + x; returns the elements copied."""
    count: int = _kernels.sample(gradient, x, out, groups)
    return count


def sample_strided(gradient: Vector | None, x: Vector, start: int, stride: int, out: Vector, threads: int = 1) -> None:
    """out[:] = x[start::stride][:len(out)], or the same of gradient + x."""
    _kernels.sample_strided(gradient, x, start, stride, out, threads)


def collect_workspace(n: int) -> int:
    """Bytes (uint8 elements) of workspace that collect_feedback of n elements needs."""
    size: int = _kernels.collect_workspace(n)
    return size


def collect_feedback(
    gradient: Vector,
    residual: Vector,
    low: float,
    zero_above: float,
    indices: Vector,
    values: Vector,
    brackets: Vector,
    between: Vector,
    workspace: Vector,
    sums: int = SUM_ALL,
    threads: int = 1,
    seed: int = 0,
) -> Collected:
    """residual += gradient, sums, the brackets' tails and the candidates above `low`, in one pass over memory."""
    arrays = (indices, values, brackets, between, workspace)
    found, all_sums, tails, inside = _kernels.collect_feedback(
        gradient, residual, low, zero_above, *arrays, sums, threads, seed
    )
    return Collected(found, asked_for(Moments(*all_sums), sums), asked_tails(tails, sums), inside)


def settle(
    residual: Vector,
    indices: Vector,
    values: Vector,
    count: int,
    zeroed_above: float,
    threshold: float,
    threads: int = 1,
    seed: int = 0,
) -> int:
    """Keeps the entries with |value| > threshold, in place, and mends the residual; returns how many they are."""
    kept: int = _kernels.settle(residual, indices, values, count, zeroed_above, threshold, threads, seed)
    return kept


def select_blocks(
    gradient: Vector | None, x: Vector, low: float, blocks: Vector, scores: Vector, threads: int = 1
) -> int:
    """x += gradient, if there is one; then the blocks of 16 elements with a sum of |x| above `low`, and these sums."""
    count: int = _kernels.select_blocks(gradient, x, low, blocks, scores, threads)
    return count


def take_blocks(
    residual: Vector, blocks: Vector, indices: Vector, values: Vector, threads: int = 1, zero: bool = True
) -> int:
    """Whole blocks of 16 of residual, which become 0 there unless `zero` is false; returns the number of entries."""
    count: int = _kernels.take_blocks(residual, blocks, indices, values, threads, zero)
    return count


def select_drawn(
    gradient: Vector | None,
    x: Vector | None,
    n: int,
    ends: Vector,
    seed: int,
    indices: Vector,
    values: Vector,
    threads: int = 1,
) -> None:
    """x += gradient, if there is one; then entries at places that are drawn, so many a block of DRAW_BLOCK elements."""
    _kernels.select_drawn(gradient, x, n, ends, seed, indices, values, threads)


def round_bf16(x: Vector, residual: Vector, threads: int = 1, seed: int = 0) -> None:
    """residual[:] = x as bfloat16 (uint16), each rounded up or down at random, without bias."""
    _kernels.round_bf16(x, residual, threads, seed)


def round_half(gradient: Vector | None, x: Vector, out: Vector, kind: int, threads: int = 1) -> None:
    """x += gradient, if there is one; out = x in 16 bits, to nearest; with a gradient x keeps what was rounded away."""
    _kernels.round_half(gradient, x, out, kind, threads)


def put_bf16(residual: Vector, indices: Vector, values: Vector, seed: int = 0) -> None:
    """residual[indices] = values, each rounded as round_bf16 does it at its place."""
    _kernels.put_bf16(residual, indices, values, seed)


def max_abs(x: Vector, threads: int = 1) -> float:
    """The largest |x|, 0.0 for an empty vector: one pass that only reads, the floor of what looks at every element."""
    largest: float = _kernels.max_abs(x, threads)
    return largest


def add(gradient: Vector, residual: Vector, threads: int = 1) -> None:
    """residual += gradient: the floor of everything with error feedback."""
    _kernels.add(gradient, residual, threads)


def scaled(x: Vector, factor: float, out: Vector, threads: int = 1) -> None:
    """out[:] = factor * x."""
    _kernels.scaled(x, factor, out, threads)


def momentum(gradient: Vector, velocity: Vector, factor: float, threads: int = 1, taken: Vector | None = None) -> None:
    """velocity = factor * velocity + gradient; or Nesterov's, with what is `taken`; see cext.reference.momentum."""
    _kernels.momentum(gradient, velocity, factor, threads, taken)


def scatter_add(out: Vector, indices: Vector, values: Vector, scale: float = 1.0, threads: int = 1) -> None:
    """out[indices] += scale * values, in order; an index that occurs twice is added twice."""
    _kernels.scatter_add(out, indices, values, scale, threads)


def merge_sorted(
    indices: Vector, values: Vector, offsets: Vector, out_indices: Vector, out_values: Vector, threads: int = 1
) -> int:
    """Union of ascending lists, values of one index added in list (rank) order; returns the number of entries."""
    count: int = _kernels.merge_sorted(indices, values, offsets, out_indices, out_values, threads)
    return count


def delta_size(indices: Vector) -> tuple[int, int]:
    """Codes that ascending int32 indices take in 1 byte each and in 2; see cext.reference.delta_size."""
    in_bytes, in_shorts = _kernels.delta_size(indices)
    return in_bytes, in_shorts


def delta_encode(indices: Vector, width: int, codes: Vector) -> None:
    """Writes the gaps between ascending indices as codes of `width` bytes into uint8 `codes`, all of it."""
    _kernels.delta_encode(indices, width, codes)


def delta_decode(codes: Vector, width: int, indices: Vector) -> None:
    """Reads what delta_encode wrote; ValueError unless it is the codes of exactly len(indices) indices."""
    _kernels.delta_decode(codes, width, indices)


def zero_at(x: Vector, indices: Vector, threads: int = 1) -> None:
    """x[indices] = 0."""
    _kernels.zero_at(x, indices, threads)


def gather(x: Vector, indices: Vector, values: Vector) -> None:
    """values[:] = x[indices]."""
    _kernels.gather(x, indices, values)


def sparse_sgd(
    parameters: Vector,
    momentum_buffer: Vector | None,
    last_touched: Vector | None,
    indices: Vector | None,
    values: Vector,
    step: int,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    lazy_decay: bool = False,
    threads: int = 1,
) -> None:
    """One SGD step on the listed places only, on all without `indices`; see cext.reference.sparse_sgd."""
    numbers = (step, lr, momentum, dampening, weight_decay, nesterov, lazy_decay, threads)
    _kernels.sparse_sgd(parameters, momentum_buffer, last_touched, indices, values, *numbers)


def sparse_adam(
    parameters: Vector,
    moments: Vector,
    updates: Vector | None,
    indices: Vector | None,
    values: Vector,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    threads: int = 1,
) -> None:
    """One Adam step on the listed places only, on all without `indices`; see cext.reference.sparse_adam."""
    numbers = (step, lr, beta1, beta2, epsilon, weight_decay, decoupled, threads)
    _kernels.sparse_adam(parameters, moments, updates, indices, values, *numbers)


def huge_pages(x: Vector) -> bool:
    """Asks for huge pages behind x, which keeps what it holds; whether it has them now. Scattered access gains."""
    huge: bool = _kernels.huge_pages(x)
    return huge


if os.environ.get("SANDTABLE_SIMD"):
    use(os.environ["SANDTABLE_SIMD"])
