"""StellaTrain's threshold-v and thresholdv16: a threshold carried from step to step by a controller (SIGCOMM 2024).

Both send a fixed number of entries: those above the threshold in the order of the scan until there are enough, and if
there are not, the best of the others as well. The scan starts elsewhere in every call, so that low indices are not
favoured. A threshold that filled the output was too low and goes up by a step; one that did not goes down by ×0.99.

One thing is added to the original: the controller's steps are small, and while a residual grows a threshold that only
creeps after it lets through nearly random entries, with which training may diverge. A threshold that lets through more
than a quarter too many is therefore set anew, exactly, and that call sends the exact top-k.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch

from toolkit.compression.base import Context, SparsePayload, wanted_count
from toolkit.compression.passes import KernelPasses, Passes, Selection
from toolkit.compression.sparse import SparseCompressor
from toolkit.experiment import CompressionSection

DOWN, STEP = 0.99, 0.01
MUCH = 1.25
BLOCK = 16
GOLDEN = 0.6180339887498949  # starts of consecutive scans lie far apart and cover the vector evenly


class _Controlled(SparseCompressor):
    """The controller: the threshold, its step, and where the next scan starts. A new count k sets it up anew."""

    def __init__(self, section: CompressionSection, elements: int) -> None:
        super().__init__(section, elements)
        self.threshold = 0.0
        self.rise = 0.0
        self.wanted = 0
        self.calls = 0

    def _start(self, length: int) -> int:
        return int(self.calls * GOLDEN % 1.0 * length)

    def _scan(self, passes: Passes, scores: torch.Tensor, k: int) -> Selection:
        """Exactly k of the scores (n,), all finite, ascending; moves the threshold."""
        count, chosen = 0, None
        if self.wanted == k:
            threshold = np.float32(self.threshold)
            above = passes.above(scores, float(np.nextafter(threshold, np.float32(-1.0))))  # at least the threshold
            count = above[0].numel()
            if k <= count <= MUCH * k:
                chosen = self._from_start(above, k, scores.numel())
                self.threshold += self.rise
            elif count < k:
                self.threshold *= DOWN
        if chosen is None:
            chosen = passes.topk(scores, k)  # all above the threshold, and the best of the others
            if self.wanted != k or count > k:
                self._set_up(k, float(chosen[1].abs().min()), scores)
        self.calls += 1
        return chosen

    def _from_start(self, above: Selection, k: int, length: int) -> Selection:
        """The first k of these from where the scan starts, wrapping round; ascending."""
        indices, values = above
        first = int(torch.searchsorted(indices, self._start(length)))
        places = ((torch.arange(k, device=indices.device) + first) % indices.numel()).sort().values
        return indices[places], values[places]

    def _set_up(self, k: int, threshold: float, scores: torch.Tensor) -> None:
        """The first threshold is the k-th largest score; zeros alone teach nothing."""
        scale = self._scale(threshold, scores)
        if scale > 0.0:
            self.wanted, self.threshold, self.rise = k, threshold, STEP * scale

    @abstractmethod
    def _scale(self, threshold: float, scores: torch.Tensor) -> float:
        """What a step of the threshold is one per cent of."""

    def state_dict(self) -> dict[str, Any]:
        return {"threshold": self.threshold, "rise": self.rise, "wanted": self.wanted, "calls": self.calls}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.threshold, self.rise = float(state["threshold"]), float(state["rise"])
        self.wanted, self.calls = int(state["wanted"]), int(state["calls"])


class ThresholdV(_Controlled):
    """Single entries; the step is one per cent of the largest magnitude of the first call.

    A vector with NaN or infinity is cut by the exact top-k, which carries them, and leaves the threshold alone.
    """

    def select(self, vector: torch.Tensor, context: Context) -> SparsePayload:
        k = wanted_count(self.elements, context.density)
        passes = self.passes(vector)
        if k == self.elements or not bool(vector.abs().max().isfinite()):
            return self.payload(passes.topk(vector, k), context.density)
        threshold = self.threshold
        return self.payload(self._scan(passes, vector, k), context.density, threshold=threshold)

    def _scale(self, threshold: float, scores: torch.Tensor) -> float:
        return float(scores.abs().max())


class ThresholdV16(_Controlled):
    """Whole blocks of 16 entries, 64 bytes, one cache line; a block's score is the sum of its magnitudes.

    Sends max(1, ⌊k/16⌋) blocks, the last of which may be shorter. The step is one per cent of the first threshold.
    Blocks with NaN or infinity score highest and are carried whole; they leave the threshold alone.
    """

    def select(self, vector: torch.Tensor, context: Context) -> SparsePayload:
        threshold = self.threshold
        chosen = self._blocks(self.passes(vector), block_scores(vector), context)
        places = (chosen.long()[:, None] * BLOCK + torch.arange(BLOCK, device=vector.device)).flatten()
        places = places[places < self.elements]
        return self.payload((places.int(), vector[places]), context.density, threshold=threshold)

    def _select_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, context: Context) -> SparsePayload:
        passes = self.passes(residual)
        if not isinstance(passes, KernelPasses):
            return super()._select_feedback(gradient, residual, context)  # type: ignore[return-value]
        threshold = self.threshold
        chosen = self._blocks(passes, passes.block_scores_feedback(gradient, residual), context)
        return self.payload(passes.take_blocks(residual, chosen), context.density, threshold=threshold)

    def _blocks(self, passes: Passes, scores: torch.Tensor, context: Context) -> torch.Tensor:
        """The blocks to send, int32, ascending; moves the threshold."""
        wanted = wanted_count(self.elements, context.density)
        blocks = scores.numel() if wanted == self.elements else min(scores.numel(), max(1, wanted // BLOCK))
        if blocks == scores.numel() or not bool(scores.max().isfinite()):
            return passes.topk(scores, blocks)[0]
        return self._scan(passes, scores, blocks)[0]

    def _scale(self, threshold: float, scores: torch.Tensor) -> float:
        return threshold


def block_scores(vector: torch.Tensor) -> torch.Tensor:
    """Sum of magnitudes of each block of 16, float32 (⌈n/16⌉,), added up in halves as the kernel does, bit for bit."""
    short = -vector.numel() % BLOCK
    lanes = torch.nn.functional.pad(vector, (0, short)).view(-1, BLOCK).abs()
    for half in (8, 4, 2, 1):
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes.flatten()
