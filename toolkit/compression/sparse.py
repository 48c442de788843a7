"""What compressors with sparse payloads share: the kernels, the telemetry and the payload's making."""

from __future__ import annotations

import math
import zlib
from abc import abstractmethod

import numpy as np
import torch

from toolkit.compression.base import Compressor, Context, SparsePayload, wanted_count
from toolkit.compression.fits import Sums
from toolkit.compression.passes import KernelPasses, Passes, Prediction, Selection, passes_for
from toolkit.compression.tail import Tail, nth_largest
from toolkit.experiment import CompressionSection

PREDICT_FROM = 12_000_000  # elements, more than caches hold; below, further passes cost less than a prediction
LINES = 4096  # cache lines of a sample


class SparseCompressor(Compressor):
    """A compressor whose payload holds indices and values."""

    def __init__(self, section: CompressionSection, elements: int) -> None:
        super().__init__(section, elements)
        self._kernels = KernelPasses(section.threads)

    def passes(self, vector: torch.Tensor) -> Passes:
        """The passes that suit where the vector lies; refuses a vector of another size than the bucket's."""
        assert vector.shape == (self.elements,), f"a vector of {self.elements} elements, not {tuple(vector.shape)}"
        return passes_for(vector, self._kernels)

    def payload(self, selection: Selection, density: float, **also: float) -> SparsePayload:
        """Wrap a selection and note what was wanted, what was sent, and what else is worth knowing."""
        indices, values = selection
        told = {"elements": self.elements, "density": density, "selected": indices.numel(), **also}
        self.telemetry = {name: float(value) for name, value in told.items()}
        return SparsePayload(indices, values, self.elements)


class StatisticalCompressor(SparseCompressor):
    """A compressor that first gathers the moments of |g + r|, in the pass that adds g to r, and then chooses.

    For large vectors in the C kernels that pass also takes the entries that a sample says are likely to be asked for.
    """

    logs = False  # whether the choice needs the sum of logarithms
    reach = 2.0  # candidates are gathered down to about the reach·k-th largest

    def select(self, vector: torch.Tensor, context: Context) -> SparsePayload:
        passes = self.passes(vector)
        return self._choose(Tail(passes, vector), passes.moments(vector), context)

    def _select_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, context: Context) -> SparsePayload:
        passes = self.passes(residual)
        if isinstance(passes, KernelPasses) and self.elements >= PREDICT_FROM and context.density < 0.2:
            tail, sums = self._collect(passes, gradient, residual, context)
        else:
            tail, sums = Tail(passes, residual), passes.moments_feedback(gradient, residual)
        payload = self._choose(tail, sums, context)
        passes.zero_at(residual, payload.indices)
        return payload

    def _collect(
        self, passes: KernelPasses, gradient: torch.Tensor, residual: torch.Tensor, context: Context
    ) -> tuple[Tail, Sums]:
        """One pass that adds, sums up, and gathers candidates."""
        sample = passes.sample(gradient, residual, LINES)
        share = self.reach * context.density
        low = nth_largest(passes, sample, round(share * sample.numel()) + 4)
        if not math.isfinite(low):
            return Tail(passes, residual), passes.moments_feedback(gradient, residual)
        room = int(1.5 * share * self.elements) + 4096
        seen, candidates = passes.collect_feedback(gradient, residual, Prediction(low, math.inf, room, logs=self.logs))
        if not seen.complete:
            return Tail(passes, residual), seen.moments
        return Tail(passes, residual, low, candidates), seen.moments

    @abstractmethod
    def _choose(self, tail: Tail, sums: Sums, context: Context) -> SparsePayload:
        """Choose from `tail.vector`, whose sums these are; it is not changed."""


class ThresholdCompressor(StatisticalCompressor):
    """A compressor that looks for a threshold between two bounds of the count.

    What every such search shares: density 1 sends all that is not zero; a vector with NaN or infinity is cut by the
    exact top-k, which carries them; a search that ends with nothing above its threshold gives way to it as well.
    """

    exact_count = False  # whether payloads always hold exactly k entries, zeros included

    def _choose(self, tail: Tail, sums: Sums, context: Context) -> SparsePayload:
        k, passes, vector = wanted_count(self.elements, context.density), tail.passes, tail.vector
        whole = context.density >= 1.0 or sums.sum_abs == 0.0
        if not math.isfinite(sums.sum_squares) or (whole and self.exact_count):
            return self.payload(passes.topk(vector, k), context.density)
        if whole:
            return self.payload(passes.above(vector, 0.0), context.density, threshold=0.0)
        selection, threshold, estimated = self._search(tail, sums, k, context)
        if not selection[0].numel():
            selection = passes.topk(vector, k)
        told = {"threshold": float(np.float32(threshold)), "estimated": estimated / self.elements}
        return self.payload(selection, context.density, **told)

    @abstractmethod
    def _search(self, tail: Tail, sums: Sums, k: int, context: Context) -> tuple[Selection, float, float]:
        """The selection, its threshold, and the count that the first estimate alone would have given.

        `tail.vector` is finite and not all zero, 1 <= k <= n.
        """

    @staticmethod
    def seed(context: Context) -> list[int]:
        """What a draw of this call depends on: the run's seed, the bucket's name and the step."""
        return [context.seed, zlib.crc32(context.name.encode()), context.step]
