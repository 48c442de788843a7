"""Work on listed places: merging, packing, optimizing; see cext and cext.reference."""

from __future__ import annotations

from cext.levels import _kernels
from cext.places import Vector


def scatter_add(out: Vector, indices: Vector, values: Vector, scale: float = 1.0, threads: int = 1) -> None:
    """out[indices] += scale * values, in order; an index that occurs twice is added twice."""
    _kernels.scatter_add(out, indices, values, scale, threads)


def merge_sorted(
    indices: Vector, values: Vector, offsets: Vector, out_indices: Vector, out_values: Vector, threads: int = 1
) -> int:
    """Union of ascending lists, values of one index added in list (rank) order; returns the number of entries."""
    count: int = _kernels.merge_sorted(indices, values, offsets, out_indices, out_values, threads)
    return count


def zero_at(x: Vector, indices: Vector, threads: int = 1) -> None:
    """x[indices] = 0."""
    _kernels.zero_at(x, indices, threads)


def put(x: Vector, indices: Vector, values: Vector, threads: int = 1) -> None:
    """x[indices] = values; of an index that occurs twice the last counts."""
    _kernels.put(x, indices, values, threads)


def gather(x: Vector, indices: Vector, values: Vector) -> None:
    """values[:] = x[indices]."""
    _kernels.gather(x, indices, values)


def on_stride(indices: Vector, values: Vector, start: int, stride: int, out: Vector, threads: int = 1) -> int:
    """Values of the entries at the first len(out) of the places start, start + stride, …, into `out`; how many."""
    count: int = _kernels.on_stride(indices, values, start, stride, out, threads)
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
