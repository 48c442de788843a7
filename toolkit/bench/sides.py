"""What is timed: callables on one vector and density, each validated against the NumPy reference before it is timed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

import cext
import cext.reference
from toolkit.compression.base import wanted_count
from toolkit.gradients.methods import WARM_UP, Method

WORKERS = 4
Call = Callable[[], object]


class Sides:
    """The sides of one vector and density. `prepare(name)` undoes, untimed, what a call leaves behind."""

    def __init__(self, n: int, density: float, threads: int, seed: int) -> None:
        generator = np.random.default_rng([seed, n])
        self.x = generator.standard_normal(n, dtype=np.float32)
        self.start = generator.standard_normal(n, dtype=np.float32)  # a residual before the call
        self.residual = self.start.copy()
        self.density = density
        self.threads = threads
        self.k = wanted_count(n, density)
        magnitudes = np.abs(self.x)
        self.threshold = float(np.partition(magnitudes, n - self.k - 1)[n - self.k - 1]) if self.k < n else 0.0
        both = np.abs(self.x + self.start)
        self.feedback_threshold = float(np.partition(both, n - self.k - 1)[n - self.k - 1]) if self.k < n else 0.0
        room = self.k + self.k // 4 + 16
        self.indices, self.values = np.empty(room, np.int32), np.empty(room, np.float32)
        self.workspace = np.empty(cext.topk_workspace(n, self.k), np.uint8)
        self._methods: dict[str, Method] = {}
        self._merge: tuple[np.ndarray, ...] | None = None
        torch.set_num_threads(threads)

    def call(self, name: str) -> Call:
        """The callable of a side: a kernel, a floor, a peer in another library, or a compressor's name."""
        return self._table().get(name) or self._method(name).compress

    def prepare(self, name: str) -> None:
        if name in ("threshold + feedback", "exact top-k + feedback", "add"):
            np.copyto(self.residual, self.start)

    def _table(self) -> dict[str, Call]:
        x, out, t = self.x, (self.indices, self.values), self.threads
        return {
            "read": lambda: cext.max_abs(x, t),
            "add": lambda: cext.add(x, self.residual, t),
            "threshold select": lambda: cext.threshold_select(x, self.threshold, *out, t),
            "threshold + feedback": lambda: cext.threshold_select_feedback(
                x, self.residual, self.feedback_threshold, *out, t
            ),
            "exact top-k": lambda: cext.topk_select(x, self.k, *out, self.workspace, t),
            "exact top-k + feedback": lambda: cext.topk_select_feedback(
                x, self.residual, self.k, *out, self.workspace, t
            ),
            "torch.topk": self._torch_topk,
            "np.partition": self._partition,
            "merge of 4 lists": self._merge_lists,
            "torch coalesce": self._coalesce,
        }

    def _method(self, name: str) -> Method:
        if name not in self._methods:
            method = Method(name, torch.from_numpy(self.x), self.density, self.threads, feedback=True)
            for _ in range(WARM_UP if not name.startswith("torch:") else WARM_UP // 4):
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
        x = self.x[:100_003].copy()
        k = wanted_count(x.size, self.density)
        for feedback in (False, True):
            results = []
            for library in (cext, cext.reference):
                residual = self.start[: x.size].copy()
                indices, values = np.empty(k, np.int32), np.empty(k, np.float32)
                workspace = np.empty(cext.topk_workspace(x.size, k), np.uint8)
                if feedback:
                    library.topk_select_feedback(x, residual, k, indices, values, workspace, self.threads)
                else:
                    library.topk_select(x, k, indices, values, workspace, self.threads)
                results.append((indices, values, residual))
            if not all(np.array_equal(a, b) for a, b in zip(*results, strict=True)):
                raise RuntimeError(f"exact top-k differs from the NumPy reference at density {self.density}")
