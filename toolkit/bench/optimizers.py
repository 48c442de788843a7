"""Goals and sides of the optimizers, sparse steps against dense ones, and the rates of the wire formats.

Sparse steps are the kernels, on flat parameters that torch can use, against torch's fused dense optimizers with their
gradients at hand and against torch's own index operations on the same list.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import numpy as np
import torch

import cext
import cext.reference
from toolkit.bench.goals import Goal
from toolkit.compression.base import wanted_count
from toolkit.exchange.wire import Entries, Wire
from toolkit.gradients.timing import Times

Call = Callable[[], object]
PAUSE_S = 5e-3  # the other side's pool of threads must be asleep: one that still spins takes a core away
HALF = ", half listed"
DENSE_ADAM, DENSE_SGD = "dense Adam of torch", "dense SGD of torch"
INDEX_ADAM, INDEX_SGD = "Adam by torch's index operations", "SGD by torch's index operations"
AGAINST_DENSE = {0.1: 1.4, 0.01: 12.0, 0.001: 90.0}
OPTIMIZER_GOALS = (
    Goal("sparse Adam", DENSE_ADAM, AGAINST_DENSE, faster=True),
    Goal("sparse SGD", DENSE_ADAM, AGAINST_DENSE, faster=True),
    Goal("sparse Adam", INDEX_ADAM, {0.001: 10.0}, faster=True),
    Goal("sparse SGD", INDEX_SGD, {0.001: 10.0}, faster=True),
    Goal(f"sparse Adam{HALF}", DENSE_ADAM, {0.1: 1.0}, faster=True),
    Goal(f"sparse SGD{HALF}", DENSE_SGD, {0.1: 1.0}, faster=True),
)


class OptimizerSides:
    """The sides of one model size and density. Every side has a parameter and a state of its own."""

    def __init__(self, n: int, density: float, threads: int, seed: int) -> None:
        self.generator = np.random.default_rng([seed, n])
        self.x = self.generator.standard_normal(n, dtype=np.float32)
        self.density = density
        torch.set_num_threads(threads)
        self._calls: dict[str, Call] = {}

    def call(self, name: str) -> Call:
        if name not in self._calls:
            self._calls[name] = self._make(name)
        return self._calls[name]

    def prepare(self, name: str) -> None:
        self.call(name)
        time.sleep(PAUSE_S)

    def _make(self, name: str) -> Call:
        parameter = torch.nn.Parameter(torch.from_numpy(self.x).clone())
        if name in (DENSE_ADAM, DENSE_SGD):
            parameter.grad = torch.from_numpy(self.x * np.float32(1e-3))
            if name == DENSE_SGD:
                return torch.optim.SGD([parameter], lr=1e-3, momentum=0.9, fused=True).step
            return torch.optim.Adam([parameter], lr=1e-3, fused=True).step
        gradient = self._list(0.5 if name.endswith(HALF) else self.density)
        if name in (INDEX_ADAM, INDEX_SGD):
            return _by_index(parameter.detach(), *gradient, adam=name == INDEX_ADAM)
        return _by_kernel(parameter.detach(), *gradient, adam=name.startswith("sparse Adam"))

    def _list(self, density: float) -> tuple[torch.Tensor, torch.Tensor]:
        count = wanted_count(self.x.size, density)
        listed = np.zeros(self.x.size, bool)
        listed[self.generator.choice(self.x.size, count, replace=False)] = True
        indices = np.flatnonzero(listed).astype(np.int32)
        return torch.from_numpy(indices), torch.from_numpy(self.generator.standard_normal(count, dtype=np.float32))

    def validate(self) -> None:
        """Optimizers and coding against their NumPy references on a prefix; RuntimeError where they differ."""
        for density in (self.density, 0.5):
            indices = np.flatnonzero(self.generator.random(10_007) < density).astype(np.int32)
            _validate_steps(self.x[:10_007], indices, self.generator.standard_normal(indices.size, dtype=np.float32))
            _validate_coding(indices)


def _by_kernel(p: torch.Tensor, indices: torch.Tensor, gradient: torch.Tensor, adam: bool) -> Call:
    """The kernel as SparseAdam and SparseSGD call it, with their state."""
    places, values, threads = indices.numpy(), gradient.numpy(), torch.get_num_threads()
    parameters, moments = p.numpy(), torch.zeros(2 * p.numel() if adam else p.numel()).numpy()
    for array in (parameters, moments):
        cext.huge_pages(array)
    steps = itertools.count(1)
    if adam:
        return lambda: cext.sparse_adam(parameters, moments, None, places, values, next(steps), 1e-3, threads=threads)
    return lambda: cext.sparse_sgd(parameters, moments, None, places, values, next(steps), 1e-3, 0.9, threads=threads)


def _by_index(p: torch.Tensor, indices: torch.Tensor, gradient: torch.Tensor, adam: bool) -> Call:
    """The listed coordinates' step as torch's own operations write it."""
    places, mean, square = indices.long(), torch.zeros_like(p), torch.zeros_like(p)

    def sgd_step() -> None:
        moved = mean.index_select(0, places).mul_(0.9).add_(gradient)
        mean.index_copy_(0, places, moved)
        p.index_add_(0, places, moved, alpha=-1e-3)

    def adam_step() -> None:
        m = mean.index_select(0, places).lerp_(gradient, 0.1)
        v = square.index_select(0, places).mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        mean.index_copy_(0, places, m)
        square.index_copy_(0, places, v)
        p.index_add_(0, places, m.div_(v.sqrt_().add_(1e-8)), alpha=-1e-3)

    return adam_step if adam else sgd_step


def _validate_steps(x: np.ndarray, indices: np.ndarray, values: np.ndarray) -> None:
    states = [(x.copy(), np.zeros(2 * x.size, np.float32), x.copy(), np.zeros_like(x)) for _ in range(2)]
    for library, (p, moments, q, buffer) in zip((cext, cext.reference), states, strict=True):
        for step in (1, 2):
            library.sparse_adam(p, moments, None, indices, values, step, 1e-3, threads=torch.get_num_threads())
            library.sparse_sgd(q, buffer, None, indices, values, step, 1e-3, 0.9, threads=torch.get_num_threads())
    if not all(np.array_equal(ours, theirs) for ours, theirs in zip(*states, strict=True)):
        raise RuntimeError(f"a sparse optimizer differs from the NumPy reference on {indices.size} of {x.size} places")


def _validate_coding(indices: np.ndarray) -> None:
    for width, count in zip((1, 2), cext.delta_size(indices), strict=True):
        codes, wanted, back = np.empty(width * count, np.uint8), np.empty(width * count, np.uint8), indices.copy()
        cext.delta_encode(indices, width, codes)
        cext.reference.delta_encode(indices, width, wanted)
        cext.delta_decode(codes, width, back)
        if not (np.array_equal(codes, wanted) and np.array_equal(back, indices)):
            raise RuntimeError(f"delta codes of {width} bytes differ from the NumPy reference")


def wire_rates(n: int, density: float, rounds: int, seed: int) -> list[dict[str, float | str]]:
    """Encoding and decoding of one bucket in each format: bytes an entry, GB/s of entries of 8 bytes."""
    generator = np.random.default_rng([seed, n])
    indices = np.flatnonzero(generator.random(n) < density).astype(np.int32)
    values = Wire(values="bf16").rounded(torch.from_numpy(generator.standard_normal(indices.size, dtype=np.float32)))[0]
    entries = indices, values.numpy()
    bucket: dict[str, float | str] = {"elements": n, "density": density}
    return [bucket | _wire_rate(Wire(i, v), entries, rounds) for i in ("int32", "delta") for v in ("fp32", "bf16")]


def _wire_rate(wire: Wire, entries: Entries, rounds: int) -> dict[str, float | str]:
    encode, decode = Times(), Times()
    message = wire.encode(*entries)
    _validate_message(wire, message, entries)
    for _ in range(rounds):
        encode.measure(lambda: wire.encode(*entries))
        decode.measure(lambda: wire.decode(message))
    count = entries[0].size
    return {
        "indices": wire.indices,
        "values": wire.values,
        "bytes_per_entry": message.size / max(1, count),
        "encode_gb_s": 8e-9 * count / min(encode.seconds),
        "decode_gb_s": 8e-9 * count / min(decode.seconds),
    }


def _validate_message(wire: Wire, message: np.ndarray, entries: Entries) -> None:
    (decoded,) = wire.decode(message)
    if not all(np.array_equal(read, written) for read, written in zip(decoded, entries, strict=True)):
        raise RuntimeError(f"{wire} does not give back what it was given")
