"""Every kernel in NumPy: the definition that the C code is tested against, and the place to read what it computes.

Shapes: x, gradient, residual, parameters float32 (n,); indices int32 and values float32 of one length; payload arrays
are outputs and may be longer than what is written. `threads` is accepted and does not matter.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cext.moments_type import Collected, Moments

Vector = NDArray[Any]
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


def threshold_select_feedback(
    gradient: Vector, residual: Vector, threshold: float, indices: Vector, values: Vector, threads: int = 1
) -> int:
    """residual += gradient, then select from residual; entries that are written become 0 in residual.

    Entries without room stay in the residual, so payload + residual = old residual + gradient, exactly, always.
    """
    residual += gradient
    chosen = np.flatnonzero(_above(residual, threshold))
    written = _write(residual, chosen, indices, values)
    residual[chosen[:written]] = 0
    return len(chosen)


def topk_workspace(n: int, k: int) -> int:
    """Bytes (uint8 elements) of workspace; the reference needs none."""
    return 0


def _largest(x: Vector, k: int) -> Vector:
    order = np.argsort(-magnitude_key(x).astype(np.int64), kind="stable")  # stable: ties by the lowest index
    return np.sort(order[:k])


def topk_select(x: Vector, k: int, indices: Vector, values: Vector, workspace: Vector, threads: int = 1) -> int:
    """Exactly the k largest |x| (0 <= k <= n) in the order of magnitude_key, ties by the lowest index.

    Indices ascend. Returns k.
    """
    return _write(x, _largest(x, k), indices[:k], values[:k])


def topk_select_feedback(
    gradient: Vector,
    residual: Vector,
    k: int,
    indices: Vector,
    values: Vector,
    workspace: Vector,
    threads: int = 1,
) -> int:
    """residual += gradient, then the top-k of residual, which becomes 0 there."""
    residual += gradient
    chosen = _largest(residual, k)
    written = _write(residual, chosen, indices[:k], values[:k])
    residual[chosen] = 0
    return written


def moments(x: Vector, threads: int = 1) -> Moments:
    """One pass over |x|: see Moments. A NaN makes every sum and the maximum NaN; an infinity makes them infinite.

    The sums are float64; ln(|x| + 2.2e-16) is the first stage of SIDCo-GP (SIDCo, MLSys 2021), added in float32.
    """
    a = np.abs(x)
    wide = a.astype(np.float64)
    logs = np.log((a + LOG_EPSILON).astype(np.float64))
    largest = float(a.max()) if len(a) else 0.0
    sums = (math.fsum(v) if math.isfinite(largest) else float(v.sum()) for v in (wide, wide * wide, logs))
    total, squares, log_sum = sums
    return Moments(len(x), int(np.count_nonzero(x)), total, squares, log_sum, largest)


def moments_feedback(gradient: Vector, residual: Vector, threads: int = 1) -> Moments:
    """residual += gradient, and the moments of the residual."""
    residual += gradient
    return moments(residual)


def tail_moments(x: Vector, threshold: float, threads: int = 1) -> tuple[int, float, float]:
    """Count, sum and sum of squares of |x| - threshold in float64 over |x| > threshold; a NaN counts."""
    excess = np.abs(x[_above(x, threshold)]).astype(np.float64) - threshold
    return len(excess), float(excess.sum()), float((excess * excess).sum())


def _mix(z: int) -> int:
    """splitmix64: a well mixed number for each line, the same in every run."""
    z = (z + 0x9E3779B97F4A7C15) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def sample(gradient: Vector | None, x: Vector, out: Vector) -> int:
    """One 16-element line at a jittered place of each of len(out) // 16 strata of x, or of gradient + x.

    The places depend on the lengths only, so a run can be repeated. Returns the elements copied: fewer than len(out)
    where x has fewer lines.
    """
    lines = len(x) // 16
    taken = min(len(out) // 16, lines)
    for j in range(taken):
        first = j * lines // taken
        width = (j + 1) * lines // taken - first
        at = 16 * (first + _mix(j) % width)
        line = x[at : at + 16]
        out[16 * j : 16 * j + 16] = line if gradient is None else line + gradient[at : at + 16]
    return 16 * taken


def collect_workspace(n: int) -> int:
    """Bytes (uint8 elements) of workspace; the reference needs none."""
    return 0


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
    logs: bool = False,
    threads: int = 1,
) -> Collected:
    """One pass for thresholds that need statistics of the whole vector: predict, collect, settle.

    residual += gradient; the candidates |residual| > low go to indices and values, ascending, as many as have room;
    those above zero_above (>= low) become 0 in the residual, except where there was no room. Moments are those of the
    residual before that. brackets (float64, low and high in turn, one pair a stage) are where the thresholds of the
    earlier stages are predicted: tails has the sums above each high, and `between` receives the elements inside each
    bracket, in no particular order, so that the sums above any threshold inside can be completed exactly.
    """
    residual += gradient
    sums = moments(residual)
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
    return Collected(len(chosen), sums if logs else sums._replace(sum_log=math.nan), tails, len(found))


def settle(
    residual: Vector,
    indices: Vector,
    values: Vector,
    count: int,
    zeroed_above: float,
    threshold: float,
    threads: int = 1,
) -> int:
    """Decides among `count` candidates: those with |value| > threshold stay, in order, at the front of indices, values.

    The residual is mended where the prediction was off: 0 where an entry stays, the value where one that was zeroed
    (|value| > zeroed_above) does not. So payload + residual is again the compensated gradient, exactly.
    """
    _check_places(indices[:count], len(residual))
    stays, zeroed = _above(values[:count], threshold), _above(values[:count], zeroed_above)
    residual[indices[:count][stays]] = 0
    back = zeroed & ~stays
    residual[indices[:count][back]] = values[:count][back]
    kept = np.flatnonzero(stays)
    indices[: len(kept)], values[: len(kept)] = indices[kept], values[kept]
    return len(kept)


def block_scores_feedback(gradient: Vector, residual: Vector, scores: Vector, threads: int = 1) -> None:
    """residual += gradient; scores (float32, ceil(n / 16)): sums of |residual| over blocks of 16, a cache line each.

    The unit of StellaTrain's cache-aware thresholdv16. Added in halves (lane l to l + 8, then + 4, + 2, + 1), missing
    elements of the last block as zeros, so that every instruction set gives the same bits; a NaN makes its score NaN.
    """
    residual += gradient
    padded = np.zeros(16 * len(scores), np.float32)
    padded[: len(residual)] = np.abs(residual)
    lanes = padded.reshape(-1, 16)
    for half in (8, 4, 2, 1):
        lanes = lanes[:, :half] + lanes[:, half:]
    scores[:] = lanes[:, 0]


def take_blocks(residual: Vector, blocks: Vector, indices: Vector, values: Vector, threads: int = 1) -> int:
    """Moves the listed blocks (int32, strictly ascending) out of residual, which becomes 0 there.

    indices, values receive every element of them, in order: 16 a block, fewer for the last. Returns their number.
    """
    every = (blocks.astype(np.int64)[:, None] * 16 + np.arange(16)).ravel()
    every = every[every < len(residual)]
    _write(residual, every, indices[: len(every)], values[: len(every)])
    residual[every] = 0
    return len(every)


def max_abs(x: Vector, threads: int = 1) -> float:
    """The largest |x|, 0.0 for an empty vector, NaN if there is one."""
    return float(np.abs(x).max()) if len(x) else 0.0


def add(gradient: Vector, residual: Vector, threads: int = 1) -> None:
    """residual += gradient, in place."""
    residual += gradient


def _check_places(indices: Vector, n: int) -> None:
    bad = np.flatnonzero((indices < 0) | (indices >= n))
    if len(bad):
        raise ValueError(f"indices[{bad[0]}] = {indices[bad[0]]}: allowed are 0 to {n - 1}")


def scatter_add(out: Vector, indices: Vector, values: Vector, scale: float = 1.0, threads: int = 1) -> None:
    """out[indices] += scale * values, in order, so that duplicates are added twice. ValueError before any write if an
    index is outside [0, n)."""
    _check_places(indices, len(out))
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


def zero_at(x: Vector, indices: Vector) -> None:
    """x[indices] = 0. ValueError before any write if an index is outside [0, n)."""
    _check_places(indices, len(x))
    x[indices] = 0


def gather(x: Vector, indices: Vector, values: Vector) -> None:
    """values[:] = x[indices]. ValueError before any write if an index is outside [0, n)."""
    _check_places(indices, len(x))
    values[:] = x[indices]


def sparse_sgd(
    parameters: Vector,
    momentum_buffer: Vector | None,
    last_touched: Vector | None,
    indices: Vector,
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
    """SGD on the listed places, in float32, in torch.optim.SGD's order (StellaTrain, SIGCOMM 2024, sparse optimizers).

    g += weight_decay * p; b = g at the first touch (last_touched = -1), else b = momentum^a * b + (1 - dampening) * g
    with a = 1, or, with lazy_decay, the steps since that place was last touched; g = g + momentum * b with nesterov,
    else g = b; p -= lr * g; last_touched = step. Without last_touched every place counts as touched in the step before.
    ValueError before any write: an index outside [0, n), a step before a place's last touch, momentum without a buffer.
    """
    _check_places(indices, len(parameters))
    if momentum > 0 and momentum_buffer is None:
        raise ValueError("momentum needs momentum_buffer")
    if lazy_decay and last_touched is None:
        raise ValueError("lazy_decay needs last_touched")
    f32 = np.float32
    for i, v in zip(indices.tolist(), values, strict=True):
        g = v
        if weight_decay != 0:
            g = g + f32(weight_decay) * parameters[i]
        if momentum > 0 and momentum_buffer is not None:
            b = g
            if last_touched is None or last_touched[i] != -1:
                age = step - int(last_touched[i]) if lazy_decay and last_touched is not None else 1
                b = f32(momentum**age) * momentum_buffer[i] + f32(1.0 - dampening) * g
            momentum_buffer[i] = b
            g = g + f32(momentum) * b if nesterov else b
        if last_touched is not None:
            last_touched[i] = step
        parameters[i] = parameters[i] - f32(lr) * g


def sparse_adam(
    parameters: Vector | None,
    state: Vector,
    indices: Vector,
    values: Vector,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    own_age: bool = False,
    threads: int = 1,
) -> None:
    """Adam on the listed places, in float32, in torch.optim.Adam's order (StellaTrain, SIGCOMM 2024; Kingma and Ba).

    state (float32, 4 n) is {p, m, v, t} for each element, so that one place in memory serves one index; with
    parameters = None p is the parameter, else parameters is and p is left alone. t counts the element's own updates:
    t += 1; with weight_decay, p *= 1 - lr * weight_decay if decoupled (AdamW), else g += weight_decay * p;
    m += (1 - beta1) * (g - m); v = beta2 * v + (1 - beta2) * g²;
    p -= lr / (1 - beta1^s) * m / (sqrt(v) / sqrt(1 - beta2^s) + epsilon), with s = t if own_age else step (from 1).
    """
    rows = state.reshape(-1, 4)
    _check_places(indices, len(rows))
    f32 = np.float32
    for i, v in zip(indices.tolist(), values, strict=True):
        row, g = rows[i], v
        row[3] += 1
        count = float(row[3]) if own_age else float(step)
        p = row[0] if parameters is None else parameters[i]
        if weight_decay != 0 and decoupled:
            p = p * f32(1.0 - lr * weight_decay)
        elif weight_decay != 0:
            g = g + f32(weight_decay) * p
        row[1] = row[1] + f32(1.0 - beta1) * (g - row[1])
        row[2] = f32(beta2) * row[2] + f32(1.0 - beta2) * (g * g)
        denominator = np.sqrt(row[2]) / f32(math.sqrt(1.0 - beta2**count)) + f32(epsilon)
        p = p - f32(lr / (1.0 - beta1**count)) * (row[1] / denominator)
        if parameters is None:
            row[0] = p
        else:
            parameters[i] = p


def adam_pairs(
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
    """Adam on the listed places (all of them without indices), in float32 (StellaTrain, SIGCOMM 2024).

    moments float32 (2n,): mean m and mean square v of a place beside each other. Per place:
    g += weight_decay * p, or with decoupled p *= 1 - lr * weight_decay (AdamW); m += (1 - beta1) * (g - m);
    v = beta2 * v + (1 - beta2) * g²; p -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon), with t the
    step, or, with updates int32 (n,), the number of updates of that place, which is counted up first.
    ValueError before any write: an index outside [0, n), step < 1, a beta outside [0, 1).
    """
    places = np.arange(len(parameters), dtype=np.int32) if indices is None else indices
    _check_places(places, len(parameters))
    f32 = np.float32
    for i, g in zip(places.tolist(), values, strict=True):
        age = step
        if updates is not None:
            updates[i] += 1
            age = int(updates[i])
        rate, root = f32(lr / (1.0 - beta1**age)), f32(1.0 / math.sqrt(1.0 - beta2**age))
        p, m, v = parameters[i], moments[2 * i], moments[2 * i + 1]
        if weight_decay != 0 and not decoupled:
            g = g + f32(weight_decay) * p
        m = m + f32(1.0 - beta1) * (g - m)
        v = f32(beta2) * v + f32(1.0 - beta2) * (g * g)
        moments[2 * i], moments[2 * i + 1] = m, v
        shrink = f32(1.0 - lr * weight_decay) if decoupled else f32(1.0)
        parameters[i] = shrink * p - rate * (m / (np.sqrt(v) * root + f32(epsilon)))
