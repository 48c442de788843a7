"""The passes of `passes.py` in torch operations, for tensors on any device."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

import cext
from toolkit.compression.fits import LOG_EPSILON

Selection = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class TorchSums:
    """Sums of one pass over |x|, in float64; what cext.Moments holds."""

    count: int
    nonzero: int
    sum: float
    sum_abs: float
    sum_squares: float
    sum_log: float
    max_abs: float


class TorchPasses:
    """Same passes, same rules: strict thresholds, ties by the lowest index, NaN > inf > finite."""

    def topk(self, x: torch.Tensor, k: int) -> Selection:
        keys = _keys(x)
        last = torch.topk(keys, k, sorted=False).values.min() if k else keys.new_zeros(())
        above = keys > last
        room = k - int(above.sum())
        ties = torch.nonzero(keys == last).flatten()[:room]
        above[ties] = True
        return _take(x, above) if k else _take(x, torch.zeros_like(above))

    def topk_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, k: int) -> Selection:
        residual.add_(gradient)
        return self._remove(residual, self.topk(residual, k))

    def above(self, x: torch.Tensor, threshold: float) -> Selection:
        return _take(x, ~(x.abs() <= threshold))

    def above_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, threshold: float) -> Selection:
        residual.add_(gradient)
        return self._remove(residual, self.above(residual, threshold))

    def moments(self, x: torch.Tensor, sums: int = cext.SUM_ALL) -> TorchSums:
        """Those that are asked for; the others are NaN, and non-zeros are counted beside all sums only."""
        magnitudes = x.abs().double() if sums & ~cext.SUM_X else x.abs()

        def asked(bit: int, total: Callable[[], torch.Tensor]) -> float:
            return float(total()) if sums & bit else math.nan

        return TorchSums(
            count=x.numel(),
            nonzero=int(torch.count_nonzero(x)) if sums == cext.SUM_ALL else -1,
            sum=asked(cext.SUM_X, lambda: x.double().sum()),
            sum_abs=asked(cext.SUM_ABS, magnitudes.sum),
            sum_squares=asked(cext.SUM_SQUARES, lambda: magnitudes.square().sum()),
            sum_log=asked(cext.SUM_LOGS, lambda: (magnitudes + LOG_EPSILON).log().sum()),
            max_abs=float(magnitudes.max()) if x.numel() else 0.0,
        )

    def moments_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, sums: int = cext.SUM_ALL) -> TorchSums:
        residual.add_(gradient)
        return self.moments(residual, sums)

    def tail_moments(self, x: torch.Tensor, threshold: float, limit: float = math.inf) -> tuple[int, float, float]:
        excess = x.abs().double() - threshold
        excess = excess[~(excess <= 0)]
        excess = excess if math.isinf(limit) else excess[excess <= limit - threshold]
        return excess.numel(), float(excess.sum()), float(excess.square().sum())

    def count_above(self, x: torch.Tensor, threshold: float) -> int:
        return int(torch.count_nonzero(~(x.abs() <= threshold)))

    def largest(self, x: torch.Tensor) -> float:
        return float(x.abs().max()) if x.numel() else 0.0

    def zero_at(self, x: torch.Tensor, indices: torch.Tensor) -> None:
        x[indices.long()] = 0.0

    def settle(self, residual: torch.Tensor, candidates: Selection, zeroed_above: float, threshold: float) -> Selection:
        """Of the candidates, none of which is zeroed yet, those above `threshold`; the residual becomes 0 there."""
        places, values = self.above(candidates[1], threshold)
        return self._remove(residual, (candidates[0][places.long()], values))

    def settle_topk(self, residual: torch.Tensor, candidates: Selection, zeroed_above: float, k: int) -> Selection:
        """The same for the k largest of the candidates, ties by the lowest index."""
        places, values = self.topk(candidates[1], k)
        return self._remove(residual, (candidates[0][places.long()], values))

    def _remove(self, residual: torch.Tensor, selection: Selection) -> Selection:
        self.zero_at(residual, selection[0])
        return selection


def _keys(x: torch.Tensor) -> torch.Tensor:
    """The bits of |x| as integers: they order as the magnitudes do, with NaN above infinity."""
    return x.abs().contiguous().view(torch.int32)


def _take(x: torch.Tensor, mask: torch.Tensor) -> Selection:
    places = torch.nonzero(mask).flatten()
    return places.int(), x[places]
