"""The passes of `passes.py` in Triton, for CUDA tensors: few passes over memory, and few trips to the host.

The exact top-k makes a histogram of the magnitudes' exponents while it adds the gradient. What has the exponent of the
k-th largest or a higher one is gathered, and the mantissas' bits are looked at among these alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import cext
from toolkit.compression import kernels_triton as kernels
from toolkit.compression.passes_torch import Selection, TorchPasses, TorchSums

# (shift, bits) of a key's digits. Triton's histogram counts bin by bin, 32 elements at a time: wide ones are slow.
DIGITS = ((23, 8), (15, 8), (7, 8), (0, 7))
KEY_INFINITY = 0x7F800000
KEY_LARGEST = 0x7FFFFFFF
FLOAT_LARGEST = float(np.finfo(np.float32).max)
MOST_TILES = 512  # that a program adds up: its products of mantissas stay in range


@dataclass(frozen=True)
class TritonPasses(TorchPasses):
    """Same passes, same rules as in C: strict thresholds, ties by the lowest index, NaN > inf > finite.

    tile: elements that a program has in hand at a time, a power of two. programs: how many share a pass that adds up.
    """

    tile: int = 1024
    programs: int = 1024

    def topk(self, x: torch.Tensor, k: int) -> Selection:
        return self._topk(None, x, k)

    def topk_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, k: int) -> Selection:
        if not k:
            residual.add_(gradient)
        return self._topk(gradient, residual, k)

    def above(self, x: torch.Tensor, threshold: float) -> Selection:
        return self._take(x, _cut(x, threshold_key(threshold)))

    def above_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, threshold: float) -> Selection:
        return self._take(residual, _cut(residual, threshold_key(threshold)), gradient=gradient, residual=residual)

    def settle(self, residual: torch.Tensor, candidates: Selection, zeroed_above: float, threshold: float) -> Selection:
        """Of the candidates, none of which is zeroed yet, those above `threshold`; the residual becomes 0 there."""
        places, values = candidates
        return self._take(values, _cut(values, threshold_key(threshold)), places=places, residual=residual)

    def moments(self, x: torch.Tensor, sums: int = cext.SUM_ALL) -> TorchSums:
        return self._moments(None, x)

    def moments_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, sums: int = cext.SUM_ALL) -> TorchSums:
        return self._moments(gradient, residual)

    def tail_moments(self, x: torch.Tensor, threshold: float, limit: float = math.inf) -> tuple[int, float, float]:
        if not x.numel():
            return 0, 0.0, 0.0
        keys = threshold_key(threshold), KEY_LARGEST if math.isinf(limit) else threshold_key(limit)
        bounded = min(threshold, FLOAT_LARGEST)  # only infinity and NaN lie above that, whose excess is what they are
        high = float(np.float32(bounded))
        low = bounded - high
        sums = self._sums(x, 3)
        self._launch(kernels.add_up_tail, x, len(sums), x.numel(), high, low, *keys, sums)
        count, total, squares = sums.cpu().sum(0).tolist()
        return int(count), total, squares

    def count_above(self, x: torch.Tensor, threshold: float) -> int:
        return self.tail_moments(x, threshold)[0]

    def _moments(self, gradient: torch.Tensor | None, x: torch.Tensor) -> TorchSums:
        if not x.numel():
            return TorchSums(0, 0, 0.0, 0.0, 0.0, 0.0, 0.0)
        sums = self._sums(x, 6)
        self._launch(kernels.add_up, x, len(sums), x.numel(), gradient, sums)
        host = sums.cpu()
        nonzero, total, total_abs, squares, logs = host[:, :5].sum(0).tolist()
        key = int(host[:, 5].max())
        largest = float(np.int32(key).view(np.float32))
        if key > KEY_INFINITY:
            total_abs = squares = logs = math.nan
        elif key == KEY_INFINITY:
            logs = math.inf
        total = total if key < KEY_INFINITY else math.nan
        return TorchSums(x.numel(), int(nonzero), total, total_abs, squares, logs, largest)

    def _take(
        self,
        x: torch.Tensor,
        cut: torch.Tensor,
        count: int | None = None,
        gradient: torch.Tensor | None = None,
        places: torch.Tensor | None = None,
        residual: torch.Tensor | None = None,
    ) -> Selection:
        """What a cut takes of x, after x += gradient.

        count: how much that is, where it is known: then the host need not wait for it. places: the indices of the
        entries of x, if x is not the whole vector. residual: where what is taken becomes 0.
        """
        n, tiles = x.numel(), self._tiles(x)
        if not n:
            return _room(x, 0)
        counts = torch.empty((2, tiles), dtype=torch.int32, device=x.device)
        self._launch(kernels.tally, x, tiles, n, gradient, cut, counts)
        ends = counts.cumsum(1, dtype=torch.int32)
        taken = _room(x, int(ends[0, -1]) if count is None else count)
        self._launch(kernels.take, x, tiles, n, cut, ends, places, residual, *taken)
        return taken

    def _topk(self, gradient: torch.Tensor | None, x: torch.Tensor, k: int) -> Selection:
        """With a gradient, what is taken becomes 0 in x."""
        if not k:
            return _room(x, 0)
        residual = None if gradient is None else x
        state = _numbers(x, 0, k, 0)
        self._digit(gradient, x, state, *DIGITS[0])
        key, _, reach = state.tolist()
        if reach == k:
            return self._take(x, _cut(x, key - 1), k, residual=residual)
        indices, values = self._take(x, _cut(x, key - 1), reach)
        for shift, bits in DIGITS[1:]:
            self._digit(None, values, state, shift, bits)
        return self._take(values, state, k, places=indices, residual=residual)

    def _digit(
        self, gradient: torch.Tensor | None, x: torch.Tensor, state: torch.Tensor, shift: int, bits: int
    ) -> None:
        """Find another digit of the key of the k-th largest."""
        counts = torch.zeros(1 << bits, dtype=torch.int32, device=x.device)
        programs, digit = min(self.programs, self._tiles(x)), {"SHIFT": shift, "BITS": bits}
        self._launch(kernels.histogram, x, programs, x.numel(), gradient, state, counts, **digit)
        with torch.cuda.device_of(x):
            kernels.pick[(1,)](counts, state, **digit)

    def _launch(self, kernel: Any, x: torch.Tensor, programs: int, *arguments: Any, **constants: int) -> None:
        with torch.cuda.device_of(x):
            kernel[(programs,)](x, *arguments, TILE=self.tile, **constants)

    def _tiles(self, x: torch.Tensor) -> int:
        return -(-x.numel() // self.tile)

    def _sums(self, x: torch.Tensor, columns: int) -> torch.Tensor:
        """Room for a row of sums a program, float64 (programs, columns)."""
        tiles = self._tiles(x)
        programs = max(min(self.programs, tiles), -(-tiles // MOST_TILES))
        return torch.empty((programs, columns), dtype=torch.float64, device=x.device)


def threshold_key(threshold: float) -> int:
    """The key of the largest float32 that is not above the threshold: what has a higher key is above it.

    −1, below every key, for negative thresholds. ValueError for NaN.
    """
    if math.isnan(threshold):
        raise ValueError("threshold = nan: any number is allowed")
    if threshold < 0:
        return -1
    with np.errstate(over="ignore"):
        nearest = np.float32(threshold)
    if float(nearest) > threshold:
        nearest = np.nextafter(nearest, np.float32(-1))
    return int(nearest.view(np.int32)) & KEY_LARGEST


def _cut(x: torch.Tensor, key: int) -> torch.Tensor:
    """What takes all above a key."""
    return _numbers(x, key, 0)


def _numbers(x: torch.Tensor, *numbers: int) -> torch.Tensor:
    """int32 numbers beside x. They are filled in there: a copy from the host would wait for all that is in flight."""
    there = torch.zeros(len(numbers), dtype=torch.int32, device=x.device)
    for place, number in enumerate(numbers):
        if number:
            there[place].fill_(number)
    return there


def _room(x: torch.Tensor, count: int) -> Selection:
    return torch.empty(count, dtype=torch.int32, device=x.device), torch.empty(count, device=x.device)
