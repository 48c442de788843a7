"""SIDCo: a threshold estimated from statistical fits in a few linear passes (MLSys 2021, arXiv 2101.10761).

The first stage fits all magnitudes for the ratio δ₁, each later one fits the excesses over the last threshold. What is
sent is whatever lies above the last threshold, so the count floats around k; the number of stages follows the count.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch

import cext
from toolkit.compression import fits
from toolkit.compression.base import Context, SparsePayload, wanted_count
from toolkit.compression.fits import Fit, Sums
from toolkit.compression.passes import Collection, KernelPasses, Prediction, Selection
from toolkit.compression.predict import GRAINS, GROUPS, MOST_STAGES, Plan, predict_stages, stage_thresholds, stages_of
from toolkit.compression.stages import StageSearch
from toolkit.compression.statistical import StatisticalCompressor
from toolkit.compression.steady import Steady
from toolkit.compression.tail import NOTHING, Tail, TailSums
from toolkit.experiment import CompressionSection

MORE_FROM, MORE_GRAINS = 8_000_000, 4096  # elements from which twice the sample pays: real gradients are clustered
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
    predict_from = 1_200_000

    def __init__(self, section: CompressionSection, elements: int) -> None:
        super().__init__(section, elements)
        self.search = StageSearch(section.adapt_every, section.tolerance)
        self.steady = Steady()

    def _predict(
        self, passes: KernelPasses, gradient: torch.Tensor, residual: torch.Tensor, context: Context
    ) -> Prediction | None:
        """By the calls before, where their thresholds moved evenly; otherwise by a sample."""
        plan, stages = self._plan(context.density)
        if len(plan) > MOST_STAGES:
            return None
        known = self.steady.predict((context.density, len(plan)), self.elements, self.sums)
        if known is not None:
            return known
        grains = GRAINS if self.elements < MORE_FROM else MORE_GRAINS
        sample = passes.sample(gradient, residual, grains, GROUPS)
        return predict_stages(passes, sample, stages, self.elements, self.sums)

    def _collect(
        self,
        passes: KernelPasses,
        gradient: torch.Tensor,
        residual: torch.Tensor,
        prediction: Prediction,
        context: Context,
    ) -> SparsePayload:
        """All of it in one call of the kernels, as a rule."""
        plan, stages = self._plan(context.density)
        found = passes.collect_stages(gradient, residual, prediction, stages)
        if isinstance(found, Collection):
            return self._choose_collected(passes, residual, found, context)
        selection, thresholds, inside = found
        sent = selection[0].numel()
        self.steady.note((context.density, len(plan)), thresholds, sent, inside)
        tail = None if sent else Tail(passes, residual, True)
        return self._sent(selection, tail, thresholds[-1], len(plan), context)

    def select(self, vector: torch.Tensor, context: Context) -> SparsePayload:
        if self._is_small(vector):
            return self._choose_in_caches(None, vector, context)
        return super().select(vector, context)

    def _select_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, context: Context) -> SparsePayload:
        if self._is_small(residual):
            return self._choose_in_caches(gradient, residual, context)
        return super()._select_feedback(gradient, residual, context)

    def _is_small(self, vector: torch.Tensor) -> bool:
        return not self.predicts() and self.in_kernels(vector)

    def _choose_in_caches(self, gradient: torch.Tensor | None, vector: torch.Tensor, context: Context) -> SparsePayload:
        """All of it in one call of the kernels, whose stages look at what the ones before let through."""
        (plan, stages), kernels = self._plan(context.density), self._kernels
        selection, threshold, total = kernels.stages_above(gradient, vector, stages, self.sums)
        tail = Tail(kernels, vector, gradient is not None) if total != 0.0 else None
        return self._sent(selection, tail, threshold, len(plan), context)

    def _choose(self, tail: Tail, sums: Sums, context: Context) -> SparsePayload:
        plan, _ = self._plan(context.density)
        gather = sums.count >= GATHER_FROM

        def moments(number: int, threshold: float) -> TailSums:
            if number >= 2 and gather and not tail.knows(threshold):
                tail.gather(threshold)  # the second stage's survivors are many: these are only summed up
            return tail.moments(threshold)

        thresholds = stage_thresholds(sums, plan, moments) if sums.sum_abs != 0.0 else [0.0]
        threshold = thresholds[-1]
        selection = tail.take(threshold) if math.isfinite(threshold) else NOTHING
        inside = tail.seen.inside if tail.seen else None
        self.steady.note((context.density, len(plan)), thresholds, selection[0].numel(), inside)
        return self._sent(selection, tail if sums.sum_abs != 0.0 else None, threshold, len(plan), context)

    def _sent(
        self, selection: Selection, tail: Tail | None, threshold: float, stages: int, context: Context
    ) -> SparsePayload:
        """What lies above the threshold; where that is nothing, the largest of the tail, if there is one."""
        k, estimated = wanted_count(self.elements, context.density), selection[0].numel()
        if not estimated and tail is not None:
            selection = tail.take_topk(k)
        self._adapt(estimated, k, threshold, context.density)
        told = {"threshold": threshold, "estimated": estimated / max(1, self.elements), "stages": stages}
        return self.payload(selection, context.density, **told)

    def _stages(self, density: float) -> int:
        if density >= self.section.first_ratio:
            return 1
        return self.section.stages or min(self.search.stages, fits.most_stages(density))

    def _plan(self, density: float) -> tuple[Plan, Sequence[cext.StageFit]]:
        return _planned(type(self), density, self._stages(density), self.section.first_ratio)

    def _adapt(self, estimated: int, k: int, threshold: float, density: float) -> None:
        """One stage is all there is at high densities, and a vector of zeros or with a NaN teaches nothing."""
        if self.section.stages or density >= self.section.first_ratio or not 0.0 < threshold < math.inf:
            return
        self.search.record(estimated / k, fits.most_stages(density))

    def state_dict(self) -> dict[str, Any]:
        return {**self.search.state_dict(), "steady": self.steady.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.search.load_state_dict(state)
        self.steady.load_state_dict(state["steady"])


@functools.lru_cache(maxsize=256)  # a schedule may name a density a step
def _planned(kind: type[Sidco], density: float, count: int, first_ratio: float) -> tuple[Plan, Sequence[cext.StageFit]]:
    """Fit and ratio of every stage, for Python and for the kernels."""
    ratios = fits.stage_ratios(density, count, first_ratio)
    plan = tuple((kind.later if number else kind.first, ratio) for number, ratio in enumerate(ratios))
    return plan, tuple(stages_of(plan))


class SidcoE(Sidco):
    """Exponential at every stage."""

    sums = cext.SUM_ABS
    first = staticmethod(fits.exponential)
    later = staticmethod(fits.exponential)


class SidcoP(Sidco):
    """Generalised Pareto at every stage."""

    sums = cext.SUM_ABS + cext.SUM_SQUARES
    first = staticmethod(fits.pareto)
    later = staticmethod(fits.pareto)


class SidcoGP(Sidco):
    """Gamma at the first stage, generalised Pareto at the later ones."""

    first = staticmethod(fits.gamma)
    later = staticmethod(fits.pareto)
    sums = cext.SUM_ABS + cext.SUM_SQUARES + cext.SUM_LOGS
