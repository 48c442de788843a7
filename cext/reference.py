"""Every kernel in NumPy: the definition that the C code is tested against, and the place to read what it computes.

Shapes: x, gradient, residual, parameters float32 (n,); indices int32 and values float32 of one length; payload arrays
are outputs and may be longer than what is written. `threads` is accepted and does not matter.
"""

from __future__ import annotations

import numpy as np

from cext.places import MIX_STEP, Vector, check_places, mixed
from cext.reference_bf16 import either, widened
from cext.reference_bf16 import put_bf16 as put_bf16
from cext.reference_bf16 import round_bf16 as round_bf16
from cext.reference_bf16 import round_half as round_half
from cext.reference_collect import collect_feedback as collect_feedback
from cext.reference_collect import collect_stages as collect_stages
from cext.reference_collect import collect_workspace as collect_workspace
from cext.reference_collect import settle as settle
from cext.reference_collect import settle_topk as settle_topk
from cext.reference_draw import select_drawn as select_drawn
from cext.reference_optim import sparse_adam as sparse_adam
from cext.reference_optim import sparse_sgd as sparse_sgd
from cext.reference_scan import scan_select as scan_select
from cext.reference_scan import scan_workspace as scan_workspace
from cext.reference_stages import predict_stages as predict_stages
from cext.reference_stages import select_stages as select_stages
from cext.reference_stages import stages_workspace as stages_workspace
from cext.reference_sums import above, largest, write
from cext.reference_sums import count_above as count_above
from cext.reference_sums import magnitude_key as magnitude_key
from cext.reference_sums import moments as moments
from cext.reference_sums import moments_feedback as moments_feedback
from cext.reference_sums import tail_moments as tail_moments
from cext.reference_wire import delta_decode as delta_decode
from cext.reference_wire import delta_encode as delta_encode
from cext.reference_wire import delta_size as delta_size


def threshold_select(x: Vector, threshold: float, indices: Vector, values: Vector, threads: int = 1) -> int:
    """Entries with |x| > threshold (compared in double), ascending indices; NaN is above every threshold.

    Writes at most len(indices) of them, the first in index order. Returns the true count, which may be larger; where it
    is smaller, what stands behind it in indices and values is undefined.
    """
    chosen = np.flatnonzero(above(x, threshold))
    write(x, chosen, indices, values)
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
    chosen = np.flatnonzero(above(residual, threshold))
    written = write(residual, chosen, indices, values)
    residual[chosen[:written]] = 0
    return len(chosen)


def topk_predictable(n: int, k: int) -> bool:
    """Whether a bfloat16 residual's k largest of n are found; the reference always finds them."""
    return True


def topk_workspace(n: int, k: int) -> int:
    """Bytes (uint8 elements) of workspace; the reference needs none."""
    return 0


def topk_select(x: Vector, k: int, indices: Vector, values: Vector, workspace: Vector, threads: int = 1) -> int:
    """Exactly the k largest |x| (0 <= k <= n) in the order of magnitude_key, ties by the lowest index.

    Indices ascend. Returns k.
    """
    return write(x, largest(x, k), indices[:k], values[:k])


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
    chosen = largest(residual, k)
    written = write(residual, chosen, indices[:k], values[:k])
    residual[chosen] = 0
    return written


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
    chosen = np.flatnonzero(above(every, low))
    write(every, chosen, blocks, scores)
    return len(chosen)


def take_blocks(
    residual: Vector, blocks: Vector, indices: Vector, values: Vector, threads: int = 1, zero: bool = True
) -> int:
    """The listed blocks (int32, strictly ascending) of residual, which becomes 0 there, unless `zero` is false.

    indices, values receive every element of them, in order: 16 a block, fewer for the last. Returns their number.
    """
    every = (blocks.astype(np.int64)[:, None] * 16 + np.arange(16)).ravel()
    every = every[every < len(residual)]
    write(residual, every, indices[: len(every)], values[: len(every)])
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


def put(x: Vector, indices: Vector, values: Vector, threads: int = 1) -> None:
    """x[indices] = values, in order. ValueError before any write if an index is outside [0, n)."""
    check_places(indices, len(x))
    x[indices] = values


def gather(x: Vector, indices: Vector, values: Vector) -> None:
    """values[:] = x[indices]. ValueError before any write if an index is outside [0, n)."""
    check_places(indices, len(x))
    values[:] = x[indices]
