"""What is timed: callables on one vector and density, each validated against the NumPy reference before it is timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import cext
import cext.reference
from toolkit.bench import datasets
from toolkit.compression.base import wanted_count
from toolkit.gradients.methods import WARM_UP, Method

WORKERS = 4
Call = Callable[[], object]
Vector = NDArray[np.float32]

SPARE = 1 << 20  # elements by which the noise is longer than a vector: a compressor gets another part in every call
VALIDATED = 600_003  # elements a thread: so many that all threads have work
PAUSE_S = 5e-3  # a pool of threads that still spins, torch's say, would take a core away from the other side


class Sides:
    """The sides of one vector and density. `prepare(name)` undoes, untimed, what a call leaves behind."""

    def __init__(self, n: int, density: float, threads: int, seed: int, data: str = "normal") -> None:
        self.stream = datasets.make(data, n + SPARE, seed)
        self.x = self.stream[:n]
        self.start = datasets.make("normal", n, seed + 1)  # a residual before the call
        self.residual = self.start.copy()
        self.density, self.threads, self.seed = density, threads, seed
        self.k = wanted_count(n, density)
        room = self.k + self.k // 4 + 16
        self.indices, self.values = np.zeros(room, np.int32), np.zeros(room, np.float32)
        self.workspace = np.zeros(cext.topk_workspace(n, self.k), np.uint8)
        self.threshold = self._largest_but_k(self.x)
        self.feedback_threshold = self._largest_but_k(self.x + self.start)
        self._methods: dict[str, Method] = {}
        self._merge: tuple[np.ndarray, ...] | None = None
        self._other: tuple[str, Sides] | None = None
        torch.set_num_threads(threads)

    def _largest_but_k(self, x: np.ndarray) -> float:
        """A threshold that about k elements exceed."""
        cext.topk_select(x, self.k, self.indices, self.values, self.workspace, self.threads)
        return float(np.nextafter(np.abs(self.values[: self.k]).min(), np.float32(-1)))

    def call(self, name: str) -> Call:
        """The callable of a side: a kernel, a floor, a peer in another library, or a compressor's name; or one of these
        "on" other data.
        """
        side, _, data = name.partition(" on ")
        if data:
            return self._on(data).call(side)
        return self._table().get(name) or self._method(name).compress

    def prepare(self, name: str) -> None:
        self.call(name)  # what is made only once is made now
        if name in ("threshold + feedback", "exact top-k + feedback"):
            np.copyto(self.residual, self.start)
        time.sleep(PAUSE_S)

    def free(self, name: str) -> None:
        """The memory of a compressor that is not timed any more."""
        self._methods.pop(name, None)

    def _on(self, data: str) -> Sides:
        if self._other is None or self._other[0] != data:
            self._other = None  # first: two would be too large for small machines
            self._other = (data, Sides(self.x.size, self.density, self.threads, self.seed, data))
        return self._other[1]

    def _table(self) -> dict[str, Call]:
        x, t = self.x, self.threads
        return self._selections(cext, x, self.residual, self.indices, self.values, self.k) | {
            "read": lambda: cext.max_abs(x, t),
            "add": lambda: cext.add(x, self.residual, t),
            "torch.topk": self._torch_topk,
            "np.partition": self._partition,
            "merge of 4 lists": self._merge_lists,
            "torch coalesce": self._coalesce,
        }

    def _selections(
        self, of: ModuleType, x: Vector, residual: Vector, indices: NDArray[np.int32], values: Vector, k: int
    ) -> dict[str, Call]:
        """The selecting kernels of cext or of its reference."""
        out, t = (indices, values), self.threads
        return {
            "threshold select": lambda: of.threshold_select(x, self.threshold, *out, t),
            "threshold + feedback": lambda: of.threshold_select_feedback(x, residual, self.feedback_threshold, *out, t),
            "exact top-k": lambda: of.topk_select(x, k, *out, self.workspace, t),
            "exact top-k + feedback": lambda: of.topk_select_feedback(x, residual, k, *out, self.workspace, t),
        }

    def _method(self, name: str) -> Method:
        """A compressor in the steady state of its residual; one in torch operations takes it from the kernels'."""
        if name not in self._methods:
            method = Method(name, torch.from_numpy(self.stream), self.density, self.threads, True, spare=SPARE)
            if name.startswith("torch:"):
                method.go_on_from(self._method(name.removeprefix("torch:")))
            else:
                for _ in range(WARM_UP):
                    method.compress()
            self._methods[name] = method
        return self._methods[name]

    def _torch_topk(self) -> object:
        magnitudes = torch.from_numpy(self.x).abs()
        best = (torch.empty(self.k), torch.empty(self.k, dtype=torch.int64))
        return torch.topk(magnitudes, self.k, sorted=False, out=best)

    def _partition(self) -> object:
        magnitudes = np.abs(self.x)
        limit = np.partition(magnitudes, magnitudes.size - self.k)[magnitudes.size - self.k]
        return np.nonzero(magnitudes >= limit)[0]

    def _lists(self) -> tuple[np.ndarray, ...]:
        if self._merge is None:
            generator = np.random.default_rng(3)
            step = max(1, round(1 / self.density))
            starts = np.arange(self.k, dtype=np.int64) * step
            lists = [np.minimum(starts + generator.integers(0, step, self.k), self.x.size - 1) for _ in range(WORKERS)]
            indices = np.concatenate([np.unique(part) for part in lists]).astype(np.int32)
            offsets = np.cumsum([0] + [np.unique(part).size for part in lists], dtype=np.int64)
            values = generator.standard_normal(indices.size, dtype=np.float32)
            self._merge = (indices, values, offsets, np.empty_like(indices), np.empty_like(values))
        return self._merge

    def _merge_lists(self) -> object:
        indices, values, offsets, merged_indices, merged_values = self._lists()
        return cext.merge_sorted(indices, values, offsets, merged_indices, merged_values, self.threads)

    def _coalesce(self) -> object:
        indices, values = self._lists()[:2]
        places = torch.from_numpy(indices).long()[None]
        return torch.sparse_coo_tensor(
            places, torch.from_numpy(values), (self.x.size,), check_invariants=False
        ).coalesce()

    def validate(self) -> None:
        """The kernels against their NumPy reference on a prefix of this vector; RuntimeError where they differ."""
        x = self.x[: VALIDATED * self.threads].copy()
        start = self.start[: x.size]
        k = wanted_count(x.size, self.density)
        for name in self._selections(cext, x, start, self.indices, self.values, k):
            results = []
            for library in (cext, cext.reference):
                residual, indices, values = start.copy(), np.zeros(x.size, np.int32), np.zeros(x.size, np.float32)
                count: Any = self._selections(library, x, residual, indices, values, k)[name]()
                results.append((count, residual, indices[:count], values[:count]))
            self._compare(name, results)
        self._validate_merge()

    def _validate_merge(self) -> None:
        """Of as many entries as start every thread."""
        generator = np.random.default_rng(self.seed)
        range_ = min(self.x.size, round(70_000 * self.threads / (WORKERS * self.density)))
        lists = [np.flatnonzero(generator.random(range_) < self.density).astype(np.int32) for _ in range(WORKERS)]
        indices, offsets = np.concatenate(lists), np.cumsum([0] + [part.size for part in lists], dtype=np.int64)
        values = generator.standard_normal(indices.size, dtype=np.float32)
        results = []
        for library in (cext, cext.reference):
            out = np.zeros_like(indices), np.zeros(indices.size, np.float32)
            count = library.merge_sorted(indices, values, offsets, *out, self.threads)
            results.append((count, out[0][:count], out[1][:count]))
        self._compare("merge of 4 lists", results)

    def _compare(self, name: str, results: list[tuple[Any, ...]]) -> None:
        if not all(np.array_equal(a, b) for a, b in zip(*results, strict=True)):
            raise RuntimeError(f"{name} differs from the NumPy reference at density {self.density}")
