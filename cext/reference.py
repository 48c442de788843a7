"""Every kernel in NumPy: the definition that the C code is tested against, and the place to read what it computes.

Shapes: x, gradient, residual, parameters float32 (n,); indices int32 and values float32 of one length; payload arrays
are outputs and may be longer than what is written. `threads` is accepted and does not matter.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cext.moments_type import SUM_ALL, Collected, Moments, asked_for, asked_tails
from cext.places import MIX_STEP, Vector, check_places, mixed
from cext.reference_bf16 import either, widened
from cext.reference_bf16 import put_bf16 as put_bf16
from cext.reference_bf16 import round_bf16 as round_bf16
from cext.reference_bf16 import round_half as round_half
from cext.reference_draw import select_drawn as select_drawn
from cext.reference_optim import sparse_adam as sparse_adam
from cext.reference_optim import sparse_sgd as sparse_sgd
from cext.reference_stages import predict_stages as predict_stages
from cext.reference_stages import select_stages as select_stages
from cext.reference_stages import stages_workspace as stages_workspace
from cext.reference_wire import delta_decode as delta_decode
from cext.reference_wire import delta_encode as delta_encode
from cext.reference_wire import delta_size as delta_size

LOG_EPSILON = np.float32(2.2e-16)


def magnitude_key(x: Vector) -> NDArray[np.int32]:
    """The bits of |x| as int32: the order of magnitudes, with NaN above infinity and above every number."""
    return x.view(np.int32) & np.int32(0x7FFFFFFF)


def _above(x: Vector, threshold: float) -> Vector:
    if math.isnan(threshold):
        raise ValueError("threshold = nan: any number is allowed")
    return ~(np.abs(x).astype(np.float64) <= threshold)  # a NaN is above


def _write(x: Vector, chosen: Vector, indices: Vector, values: Vector) -> int:
    written = min(len(chosen), len(indices))
    indices[:written] = chosen[:written]
    values[:written] = x[chosen[:written]]
    return written


def threshold_select(x: Vector, threshold: float, indices: Vector, values: Vector, threads: int = 1) -> int:
    """Entries with |x| > threshold (compared in double), ascending indices; NaN is above every threshold.

    Writes at most len(indices) of them, the first in index order. Returns the true count, which may be larger; where it
    is smaller, what stands behind it in indices and values is undefined.
    """
    chosen = np.flatnonzero(_above(x, threshold))
    _write(x, chosen, indices, values)
    return len(chosen)


@either
def threshold_select_feedback(
    gradient: Vector,
    residual: Vector,
    threshold: float,
    indices: Vector,
    values: Vector,
    threads: int = 1,
    seed: int = 0,
) -> int:
    """residual += gradient, then select from residual; entries that are written become 0 in residual.

    Entries without room stay in the residual, so payload + residual = old residual + gradient, exactly, always.
    """
    residual += gradient
    chosen = np.flatnonzero(_above(residual, threshold))
    written = _write(residual, chosen, indices, values)
    residual[chosen[:written]] = 0
    return len(chosen)


def topk_predictable(n: int, k: int) -> bool:
    """Whether a bfloat16 residual's k largest of n are found; the reference always finds them."""
    return True


def topk_workspace(n: int, k: int) -> int:
    """Bytes (uint8 elements) of workspace; the reference needs none."""
    return 0


def _largest(x: Vector, k: int) -> Vector:
    """Places of all above the k-th largest key, and of its equals the first."""
    keys = magnitude_key(x)
    if not 0 < k < len(keys):
        return np.arange(k)
    border = np.partition(keys, len(keys) - k)[len(keys) - k]
    above = np.flatnonzero(keys > border)
    return np.sort(np.concatenate((above, np.flatnonzero(keys == border)[: k - len(above)])))


def topk_select(x: Vector, k: int, indices: Vector, values: Vector, workspace: Vector, threads: int = 1) -> int:
    """Exactly the k largest |x| (0 <= k <= n) in the order of magnitude_key, ties by the lowest index.

    Indices ascend. Returns k.
    """
    return _write(x, _largest(x, k), indices[:k], values[:k])


@either
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
    """residual += gradient, then the top-k of residual, which becomes 0 there. Returns k.

    The kernel gives -1 with a bfloat16 residual where one pass does not find them: the sum is rounded then, whole, and
    nothing is selected.
    """
    residual += gradient
    chosen = _largest(residual, k)
    written = _write(residual, chosen, indices[:k], values[:k])
    residual[chosen] = 0
    return written


def _sum(x: NDArray[np.floating]) -> float:
    """In extended precision, where the platform has it, and so rounded about once."""
    return float(x.sum(dtype=np.longdouble))


def moments(x: Vector, threads: int = 1, sums: int = SUM_ALL) -> Moments:
    """One pass over |x|: see Moments. A NaN makes every sum and the maximum NaN; an infinity makes them infinite.

    The sums are float64; ln(|x| + 2.2e-16) is the first stage of SIDCo-GP (SIDCo, MLSys 2021), added in float32. Those
    that are not asked for are NaN, and non-zeros are counted only beside all of them.
    """
    a = np.abs(x)
    wide = a.astype(np.float64)
    logs = np.log((a + LOG_EPSILON).astype(np.float64))
    largest = float(a.max()) if len(a) else 0.0
    signed = _sum(x) if math.isfinite(largest) else math.nan
    found = Moments(len(x), int(np.count_nonzero(x)), signed, _sum(wide), _sum(wide * wide), _sum(logs), largest)
    return found if sums == SUM_ALL else asked_for(found, sums)


def moments_feedback(gradient: Vector, residual: Vector, threads: int = 1, sums: int = SUM_ALL) -> Moments:
    """residual += gradient, and the moments of the residual."""
    residual += gradient
    return moments(residual, threads, sums)


def tail_moments(x: Vector, threshold: float, threads: int = 1, limit: float = math.inf) -> tuple[int, float, float]:
    """Count, sum and sum of squares of |x| - threshold in float64 over threshold < |x| <= limit.

    Without a limit infinity and NaN count. ValueError if the limit is below the threshold.
    """
    if not limit >= threshold:
        raise ValueError("limit must be at least the threshold")
    chosen = _above(x, threshold) if math.isinf(limit) else _above(x, threshold) & ~_above(x, limit)
    excess = np.abs(x[chosen]).astype(np.float64) - threshold
    return len(excess), _sum(excess), _sum(excess * excess)


def count_above(x: Vector, threshold: float, threads: int = 1) -> int:
    """Elements with |x| > threshold (compared in double); NaN is above every threshold."""
    return int(np.count_nonzero(_above(x, threshold)))


def sample(gradient: Vector | None, x: Vector, out: Vector, groups: int = 1) -> int:
    """One grain of 32 elements at a jittered place of each of len(out) // 32 strata of x, or of gradient + x.

    The places depend on the lengths only, so a run can be repeated. The grains are dealt out to groups in turn: each
    group's lie together, in order, and those that cannot be shared evenly behind all. Returns the elements copied:
    fewer than len(out) where x has fewer grains.
    """
    x = widened(x) if x.dtype == np.uint16 else x
    grains = len(x) // 32
    taken = min(len(out) // 32, grains)
    step = (grains << 32) // taken if taken else 0  # grains a stratum, in units of 2^-32
    jitter = mixed(np.arange(1, taken + 1, dtype=np.uint64) * MIX_STEP).tolist()
    for j in range(taken):
        first = j * step >> 32
        width = ((j + 1) * step >> 32) - first
        at = 32 * (first + ((jitter[j] >> 32) * width >> 32))
        grain = x[at : at + 32]
        each = taken // groups
        place = j % groups * each + j // groups if j // groups < each else j
        out[32 * place : 32 * place + 32] = grain if gradient is None else grain + gradient[at : at + 32]
    return 32 * taken


def sample_strided(gradient: Vector | None, x: Vector, start: int, stride: int, out: Vector, threads: int = 1) -> None:
    """out[:] = x[start::stride][:len(out)], or the same of gradient + x. ValueError where that reaches beyond x."""
    last = start + (len(out) - 1) * stride
    if len(out) and last >= len(x):
        raise ValueError(f"{len(out)} elements from {start} on, {stride} apart, reach beyond the vector's {len(x)}")
    taken = x[start : last + 1 : stride]
    out[:] = widened(taken) if x.dtype == np.uint16 else taken
    if gradient is not None:
        out += gradient[start : last + 1 : stride]


def collect_workspace(n: int) -> int:
    """Bytes (uint8 elements) of workspace; the reference needs none."""
    return 0


@either
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
    """One pass for thresholds that need statistics of the whole vector: predict, collect, settle.

    residual += gradient; the candidates |residual| > low go to indices and values, ascending, as many as have room;
    those above zero_above (>= low) become 0 in the residual, except where there was no room. Moments are those of the
    residual before that: the largest magnitude and what `sums` asks for (SUM_X + SUM_ABS + SUM_SQUARES + SUM_LOGS),
    the others are NaN, and non-zeros are not counted (-1). brackets (float64, low and high in turn, disjoint, in any
    order) are where further thresholds are predicted: tails has the sums above each high (squares: with SUM_SQUARES),
    and `between` receives the elements inside each bracket, in no particular order, so that the sums above any
    threshold inside can be completed exactly.
    The kernels add up 16 of a tail's excesses and their squares in float32 first and, where the sum of |residual| is
    wanted alone, that, too: as a rule 1e-8 of a tail off over 2 M elements, and 1e-10 of the sum. For SUM_ABS,
    SUM_SQUARES and SUM_LOGS together they multiply 16 mantissas in float32 first: at most 2^-24 an element off in
    sum_log, either way. They are quickest where every high has at most 20 significant bits (cext.short_above).
    ValueError where brackets overlap.
    """
    bounds = np.sort(brackets.reshape(-1, 2), axis=0).ravel()
    if (np.diff(bounds) < 0).any():
        raise ValueError("collect_feedback: brackets must not overlap")
    residual += gradient
    every = moments(residual)
    tails = tuple(tail_moments(residual, float(high)) for high in brackets[1::2])
    inside = [
        residual[_above(residual, float(a)) & ~_above(residual, float(b))]
        for a, b in zip(brackets[::2], brackets[1::2], strict=True)
    ]
    found = np.concatenate([np.empty(0, np.float32), *inside])
    between[: len(found)] = found[: len(between)]
    chosen = np.flatnonzero(_above(residual, low))
    written = _write(residual, chosen, indices, values)
    zeroed = chosen[:written]
    residual[zeroed[_above(residual[zeroed], zero_above)]] = 0
    return Collected(len(chosen), asked_for(every, sums), asked_tails(tails, sums), len(found))


@either
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
    """Decides among `count` candidates: those with |value| > threshold stay, in order, at the front of indices, values.

    The residual is mended where the prediction was off: 0 where an entry stays, the value where one that was zeroed
    (|value| > zeroed_above) does not. So payload + residual is again the compensated gradient, exactly.
    """
    check_places(indices[:count], len(residual))
    stays, zeroed = _above(values[:count], threshold), _above(values[:count], zeroed_above)
    residual[indices[:count][stays]] = 0
    back = zeroed & ~stays
    residual[indices[:count][back]] = values[:count][back]
    kept = np.flatnonzero(stays)
    indices[: len(kept)], values[: len(kept)] = indices[kept], values[kept]
    return len(kept)


def select_blocks(
    gradient: Vector | None, x: Vector, low: float, blocks: Vector, scores: Vector, threads: int = 1
) -> int:
    """x += gradient, if there is one; then the blocks of 16 elements whose score is above `low`, ascending.

    The score of a block, the unit of StellaTrain's cache-aware thresholdv16 and a cache line, is the sum of |x| over
    it, added in halves (lane l to l + 8, then + 4, + 2, + 1), so that every instruction set gives the same bits;
    missing elements of the last block count as zeros, and a NaN makes its block's score NaN, above everything. Writes
    block numbers (int32) and scores (float32) of as many as have room; returns the true count. `x` is not zeroed.
    """
    if gradient is not None:
        x += gradient
    lanes = np.zeros((-(-len(x) // 16), 16), np.float32)
    lanes.ravel()[: len(x)] = np.abs(x)
    for half in (8, 4, 2, 1):
        lanes = lanes[:, :half] + lanes[:, half:]
    every = lanes[:, 0]
    chosen = np.flatnonzero(_above(every, low))
    _write(every, chosen, blocks, scores)
    return len(chosen)


def take_blocks(
    residual: Vector, blocks: Vector, indices: Vector, values: Vector, threads: int = 1, zero: bool = True
) -> int:
    """The listed blocks (int32, strictly ascending) of residual, which becomes 0 there, unless `zero` is false.

    indices, values receive every element of them, in order: 16 a block, fewer for the last. Returns their number.
    """
    every = (blocks.astype(np.int64)[:, None] * 16 + np.arange(16)).ravel()
    every = every[every < len(residual)]
    _write(residual, every, indices[: len(every)], values[: len(every)])
    if zero:
        residual[every] = 0
    return len(every)


def max_abs(x: Vector, threads: int = 1) -> float:
    """The largest |x|, 0.0 for an empty vector, NaN if there is one."""
    return float(np.abs(x).max()) if len(x) else 0.0


def add(gradient: Vector, residual: Vector, threads: int = 1) -> None:
    """residual += gradient, in place."""
    residual += gradient


def scaled(x: Vector, factor: float, out: Vector, threads: int = 1) -> None:
    """out[:] = factor * x, the factor rounded to float32 first."""
    np.multiply(x, np.float32(factor), out=out)


def momentum(gradient: Vector, velocity: Vector, factor: float, threads: int = 1, taken: Vector | None = None) -> None:
    """velocity = factor * velocity + gradient, every operation rounded to float32.

    With `taken`, Nesterov's as in Deep Gradient Compression (ICLR 2018): velocity = factor * (velocity + gradient), and
    taken = velocity + gradient.
    """
    if taken is None:
        velocity *= np.float32(factor)
        velocity += gradient
    else:
        velocity += gradient
        velocity *= np.float32(factor)
        np.add(velocity, gradient, out=taken)


def scatter_add(out: Vector, indices: Vector, values: Vector, scale: float = 1.0, threads: int = 1) -> None:
    """out[indices] += scale * values, in order, so that duplicates are added twice. ValueError before any write if an
    index is outside [0, n)."""
    check_places(indices, len(out))
    np.add.at(out, indices, np.float32(scale) * values)


def merge_sorted(
    indices: Vector, values: Vector, offsets: Vector, out_indices: Vector, out_values: Vector, threads: int = 1
) -> int:
    """Union of P ascending lists; list p is indices[offsets[p]:offsets[p+1]] (offsets int64, P + 1 of them).

    Values of one index are added in list order, beginning with the first, so the result is the same on every rank.
    Returns the number of entries, ascending. The outputs need room for min(len(indices), largest index + 1) entries.
    """
    order = np.argsort(indices, kind="stable")
    merged, start = np.unique(indices[order], return_index=True)
    ends = np.append(start, len(order))[1:]
    for i, (index, first, end) in enumerate(zip(merged, start, ends, strict=True)):
        total = values[order[first]]
        for at in order[first + 1 : end]:
            total = np.float32(total + values[at])
        out_indices[i], out_values[i] = index, total
    return len(merged)


def on_stride(indices: Vector, values: Vector, start: int, stride: int, out: Vector, threads: int = 1) -> int:
    """Values of the entries at the first len(out) of the places start, start + stride, …, into `out`; how many.

    ValueError where indices do not ascend strictly from 0 on, if that is noticed.
    """
    steps, rest = np.divmod(indices.astype(np.int64) - start, stride)
    found = values[(rest == 0) & (steps >= 0) & (steps < len(out))]
    if len(found) > len(out):
        raise ValueError("on_stride: indices must ascend")
    out[: len(found)] = found
    return len(found)


def zero_at(x: Vector, indices: Vector, threads: int = 1) -> None:
    """x[indices] = 0. ValueError before any write if an index is outside [0, n)."""
    check_places(indices, len(x))
    x[indices] = 0


def gather(x: Vector, indices: Vector, values: Vector) -> None:
    """values[:] = x[indices]. ValueError before any write if an index is outside [0, n)."""
    check_places(indices, len(x))
    values[:] = x[indices]
