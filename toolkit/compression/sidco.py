"""SIDCo: a threshold estimated from statistical fits in a few linear passes (MLSys 2021, arXiv 2101.10761).

The first stage fits all magnitudes for the ratio δ₁, each later one fits the excesses over the last threshold. What is
sent is whatever lies above the last threshold, so the count floats around k; the number of stages follows the count.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from toolkit.compression import fits
from toolkit.compression.base import Context, SparsePayload, wanted_count
from toolkit.compression.fits import Shape, Sums
from toolkit.compression.passes import Passes
from toolkit.compression.sparse import StatisticalCompressor
from toolkit.compression.stages import StageSearch
from toolkit.compression.tail import Tail
from toolkit.experiment import CompressionSection

Fit = Callable[[Shape, float], float]
GATHER_FROM = 500_000  # elements; below, a pass over all costs less than the handling of candidates


class Sidco(StatisticalCompressor):
    """SIDCo for one tensor, with its own adaptation state.

    An estimate may be poor; what is sent is right nonetheless. Too many entries above the threshold are all sent. A
    threshold above everything (or one that is not a number, from NaN or infinity in the vector) sends nothing: then the
    call falls back to the exact top-k, so that small or degenerate tensors (one element, all equal) never starve. The
    adaptation sees what the threshold itself achieved, telemetry "estimated" (a share of the elements).
    """

    first: Fit
    later: Fit

    def __init__(self, section: CompressionSection, elements: int) -> None:
        super().__init__(section, elements)
        self.search = StageSearch(section.adapt_every, section.tolerance)

    def _choose(self, passes: Passes, vector: torch.Tensor, sums: Sums, context: Context) -> SparsePayload:
        stages = self._stages(context.density)
        tail = Tail(passes, vector)
        threshold = estimate(tail, sums, self._plan(context.density, stages))
        k = wanted_count(self.elements, context.density)
        estimated = 0
        if math.isfinite(threshold):
            selection = tail.above(threshold)
            estimated = selection[0].numel()
        if not estimated and sums.sum_abs != 0.0:
            selection = passes.topk(vector, k)
        self._adapt(estimated, k, threshold, context.density)
        return self.payload(
            selection,
            context.density,
            threshold=threshold,
            estimated=estimated / max(1, self.elements),
            stages=stages,
        )

    def _stages(self, density: float) -> int:
        if density >= self.section.first_ratio:
            return 1
        return self.section.stages or min(self.search.stages, fits.most_stages(density))

    def _plan(self, density: float, stages: int) -> list[tuple[Fit, float]]:
        ratios = fits.stage_ratios(density, stages, self.section.first_ratio)
        kind = type(self)
        return [(kind.later if number else kind.first, ratio) for number, ratio in enumerate(ratios)]

    def _adapt(self, estimated: int, k: int, threshold: float, density: float) -> None:
        """One stage is all there is at high densities, and a vector of zeros or with a NaN teaches nothing."""
        if self.section.stages or density >= self.section.first_ratio or not 0.0 < threshold < math.inf:
            return
        self.search.record(estimated / k, fits.most_stages(density))

    def state_dict(self) -> dict[str, Any]:
        return self.search.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.search.load_state_dict(state)


class SidcoE(Sidco):
    """Exponential at every stage."""

    first = staticmethod(fits.exponential)
    later = staticmethod(fits.exponential)


class SidcoP(Sidco):
    """Generalised Pareto at every stage."""

    first = staticmethod(fits.pareto)
    later = staticmethod(fits.pareto)


class SidcoGP(Sidco):
    """Gamma at the first stage, generalised Pareto at the later ones."""

    first = staticmethod(fits.gamma)
    later = staticmethod(fits.pareto)


def estimate(tail: Tail, sums: Sums, plan: list[tuple[Fit, float]]) -> float:
    """The last stage's threshold, rounded to float32 as the kernels compare it.

    sums: the first pass over |vector|. plan: (fit, ratio) of each stage. A stage that leaves no survivors is the last.
    NaN or infinity where the vector holds one. The second stage's survivors are many, so they are only summed up; of a
    large vector those of the third are gathered, and all that follows looks at them alone.
    """
    if not sums.count:
        return 0.0
    threshold = 0.0
    shape = Shape.of(sums)
    for number, (fit, ratio) in enumerate(plan):
        if number:
            if number == 2 and sums.count >= GATHER_FROM:
                tail.gather(threshold)
            count, total, squares = tail.moments(threshold)
            if not count:
                break
            shape = Shape.of_tail(count, total, squares)
        threshold = float(np.float32(threshold + fit(shape, ratio)))
        if not math.isfinite(threshold):
            break
    return threshold
