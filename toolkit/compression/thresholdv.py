"""StellaTrain's threshold-v and thresholdv16: a threshold carried from step to step by a controller (SIGCOMM 2024).

Both send a fixed number of entries: those above the threshold in the order of the scan until there are enough, and if
there are not, the best of the others as well. The scan starts elsewhere in every call, so that low indices are not
favoured. A threshold that filled the output was too low and goes up by a step; one that did not goes down by ×0.99.

One thing is added to the original: the controller's steps are small, and while a residual grows a threshold that only
creeps after it lets through nearly random entries, with which training may diverge. A threshold that lets through more
than a quarter too many is therefore set anew, exactly, and that call sends the exact top-k.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import numpy as np
import torch

from toolkit.compression.base import Context, SparsePayload, wanted_count
from toolkit.compression.passes import Collection, KernelPasses, Passes, Prediction, Selection, entries_at
from toolkit.compression.predict import GRAINS, LARGEST_SHARE, with_room
from toolkit.compression.sparse import SparseCompressor
from toolkit.compression.tail import nth_largest, smallest
from toolkit.experiment import CompressionSection

DOWN, STEP = 0.99, 0.01
MUCH = 1.25
BLOCK = 16
MARGIN = 1 / 16  # below the threshold, within which the best of the others are looked for: a few steps' width
SPARSELY = 16  # of what was sent one in so many is looked at for the lowest
GOLDEN = 0.6180339887498949  # starts of consecutive scans lie far apart and cover the vector evenly


class _Controlled(SparseCompressor):
    """The controller: the threshold, its step, and where the next scan starts. A new count k sets it up anew."""

    def __init__(self, section: CompressionSection, elements: int) -> None:
        super().__init__(section, elements)
        self.threshold = 0.0
        self.rise = 0.0
        self.wanted = 0
        self.calls = 0

    def _below(self) -> float:
        """What reaches the threshold lies above this, in float32."""
        return float(np.nextafter(np.float32(self.threshold), np.float32(-1.0)))

    def _reached(self, passes: Passes, scores: torch.Tensor, k: int) -> torch.Tensor | None:
        """Which of the scores (m,), all finite, reach the threshold, int32 ascending; None where the k best are to be
        sent instead, since these are too few, or far too many. Moves the threshold.

        The scores are all of a vector's, or k of them at least, among them the k best and all that reach the threshold.
        """
        self.calls += 1
        below = self._below()
        if self.wanted != k or not self._moves(passes.count_above(scores, below), k):
            return None
        return passes.above(scores, below)[0]

    def _moves(self, count: int, k: int) -> bool:
        """Moves the threshold, which so many reach; whether these are enough, and not far too many."""
        if count > MUCH * k:
            self.wanted = 0
        elif count < k:
            self.threshold *= DOWN
        else:
            self.threshold += self.rise
        return k <= count <= MUCH * k

    def _start(self, length: int) -> int:
        """Where in a vector of `length` scores the scan of the next call starts."""
        return int(self.calls * GOLDEN % 1.0 * length)

    def _note_best(self, passes: Passes, best: torch.Tensor) -> None:
        """The k best scores are sent; the first threshold is the k-th."""
        if self.wanted != best.numel():
            threshold = smallest(best)
            self._set_up(best.numel(), threshold, self._scale(passes, threshold, best))

    def _set_up(self, k: int, threshold: float, scale: float) -> None:
        """Zeros alone teach nothing."""
        if scale > 0.0:
            self.wanted, self.threshold, self.rise = k, threshold, STEP * scale

    @abstractmethod
    def _scale(self, passes: Passes, threshold: float, best: torch.Tensor) -> float:
        """What a step of the threshold is one per cent of."""

    def state_dict(self) -> dict[str, Any]:
        return {"threshold": self.threshold, "rise": self.rise, "wanted": self.wanted, "calls": self.calls}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.threshold, self.rise = float(state["threshold"]), float(state["rise"])
        self.wanted, self.calls = int(state["wanted"]), int(state["calls"])


class ThresholdV(_Controlled):
    """Single entries; the step is one per cent of the largest magnitude of the first call.

    A vector with NaN or infinity is cut by the exact top-k, which carries them, and leaves the threshold alone.

    Large vectors take one pass: it collects what reaches the threshold or lies little below it. Where that is too
    little, or too much, further passes send the same.
    """

    predict_from = 200_000  # elements; below, further passes over what caches hold cost less than candidates

    def __init__(self, section: CompressionSection, elements: int) -> None:
        super().__init__(section, elements)
        self.lowest = 0.0  # about of what the last call sent,
        self.expected = 0  # and how many candidates are likely in the next one: neither changes what is sent

    def select(self, vector: torch.Tensor, context: Context) -> SparsePayload:
        passes = self.passes(vector)
        return self._select(passes, vector, passes.largest(vector), context)

    def _select_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, context: Context) -> SparsePayload:
        passes = self.passes(residual)
        prediction = self._predict(context) if isinstance(passes, KernelPasses) else None
        if prediction is None:
            self.expected //= 2
            largest = passes.moments_feedback(gradient, residual, 0).max_abs
        else:
            assert isinstance(passes, KernelPasses)
            seen = passes.collect_feedback(gradient, residual, prediction)
            largest = seen.moments.max_abs
            if math.isfinite(largest) and seen.candidates[0].numel() >= wanted_count(self.elements, context.density):
                return self._choose_collected(passes, residual, seen, context)
            self.expected *= 4 if math.isinf(seen.floor) else 1  # there was no room for them
            passes.put_back(residual, seen.candidates)
        payload = self._select(passes, residual, largest, context)
        passes.zero_at(residual, payload.indices)
        return payload

    def _predict(self, context: Context) -> Prediction | None:
        """What reaches the threshold, and what the last call would have sent, with a margin; None where that is not
        known, or so much that nothing would be saved.
        """
        low, k = (1.0 - MARGIN) * min(self._below(), self.lowest), wanted_count(self.elements, context.density)
        if self.elements < self.predict_from or self.wanted != k or low <= 0.0:
            return None
        self.expected = max(self.expected, 2 * k)
        if self.expected > LARGEST_SHARE * self.elements:
            return None
        return with_room(low, self._below(), self.expected, 0, self.elements, (), 0)

    def _choose_collected(
        self, passes: KernelPasses, residual: torch.Tensor, seen: Collection, context: Context
    ) -> SparsePayload:
        """Of candidates; those that are sent become zero in the residual, and no others."""
        k, threshold, zeroed_above = wanted_count(self.elements, context.density), self.threshold, seen.zeroed_above
        indices, values = seen.candidates
        self.expected, start = indices.numel(), self._start(self.elements)
        above = self._reached(passes, values, k)
        if above is None:
            best = passes.settle_topk(residual, seen.candidates, zeroed_above, k)
            self._note_best(passes, best[1])
            self.lowest = smallest(best[1][::SPARSELY])
            return self.payload(best, context.density, threshold=threshold)
        self.lowest = threshold
        first = _first_from(above, _first_from(indices, start))
        for left_out in _others(above, first, k):
            passes.put_back(residual, (indices[left_out], values[left_out]))
            values.numpy()[left_out] = 0.0
        taken = passes.settle(residual, (indices, values), zeroed_above, zeroed_above)
        return self.payload(taken, context.density, threshold=threshold)

    def _select(self, passes: Passes, vector: torch.Tensor, largest: float, context: Context) -> SparsePayload:
        k, threshold = wanted_count(self.elements, context.density), self.threshold
        if k == self.elements or not math.isfinite(largest):
            return self.payload(passes.topk(vector, k), context.density)
        start = self._start(self.elements)
        above = self._reached(passes, vector, k)
        if above is None:
            best = passes.topk(vector, k)
            self._note_best(passes, best[1])
            self.lowest = smallest(best[1])
            return self.payload(best, context.density, threshold=threshold)
        self.lowest = threshold
        chosen = _rotated(above, _first_from(above, start), k)
        return self.payload((chosen, entries_at(vector, chosen)), context.density, threshold=threshold)

    def _scale(self, passes: Passes, threshold: float, best: torch.Tensor) -> float:
        return passes.largest(best)


class ThresholdV16(_Controlled):
    """Whole blocks of 16 entries, 64 bytes, one cache line; a block's score is the sum of its magnitudes.

    Sends max(1, ⌊k/16⌋) blocks, the last of which may be shorter. The step is one per cent of the first threshold.
    Blocks with NaN or infinity score highest and are carried whole; they leave the threshold alone.
    """

    predict_from = 8_000_000  # elements; below, scanning all blocks costs less than a sample that names a few

    def __init__(self, section: CompressionSection, elements: int) -> None:
        super().__init__(section, elements)
        self.seen = 0  # candidates of the last call, where they were enough: the next one needs no sample

    def select(self, vector: torch.Tensor, context: Context) -> SparsePayload:
        threshold, passes = self.threshold, self.passes(vector)
        if isinstance(passes, KernelPasses):
            scored = passes.blocks_above(None, vector, -1.0, self._count())[1]
            taken = passes.take_blocks(vector, self._choose(passes, scored, context), zero=False)
            return self.payload(taken, context.density, threshold=threshold)
        scores = block_scores(vector)
        every = torch.arange(scores.numel(), dtype=torch.int32, device=vector.device)
        chosen = self._choose(passes, (every, scores), context)
        places = (chosen.long()[:, None] * BLOCK + torch.arange(BLOCK, device=vector.device)).flatten()
        places = places[places < self.elements]
        return self.payload((places.int(), vector[places]), context.density, threshold=threshold)

    def _select_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, context: Context) -> SparsePayload:
        passes = self.passes(residual)
        if not isinstance(passes, KernelPasses):
            return super()._select_feedback(gradient, residual, context)  # type: ignore[return-value]
        threshold = self.threshold
        chosen = self._choose(passes, self._candidates(passes, gradient, residual, context), context)
        return self.payload(passes.take_blocks(residual, chosen), context.density, threshold=threshold)

    def _candidates(
        self, passes: KernelPasses, gradient: torch.Tensor, residual: torch.Tensor, context: Context
    ) -> Selection:
        """residual += gradient; then the blocks that the scan needs, with their scores: down to little below the
        threshold as long as that serves, otherwise as far as a sample says, or all.
        """
        wanted, blocks = self._wanted(context), self._count()
        low, room, predicted = -1.0, blocks, self.elements >= self.predict_from and 4 * wanted < blocks
        if predicted and self.wanted == wanted and 0 < self.seen < blocks / 2:
            low, room = (1.0 - MARGIN) * self.threshold, int(1.5 * self.seen) + blocks // 8
        elif predicted:
            low, share = self._low(passes, passes.sample(gradient, residual, 2 * GRAINS), wanted)
            room = int(1.5 * share * blocks) + blocks // 256
        room = min(blocks, room)
        count, found = passes.blocks_above(gradient, residual, low, room)
        above = self.wanted != wanted or low < float(np.float32(self.threshold)) or count > MUCH * wanted
        self.seen = count if predicted else 0
        if count < wanted or count > room or not above:
            self.seen, found = 0, passes.blocks_above(None, residual, -1.0, blocks)[1]
        return found

    def _low(self, passes: KernelPasses, sample: torch.Tensor, wanted: int) -> tuple[float, float]:
        """A score above which the `wanted` best blocks lie, and all above the threshold if these are not far more; and
        the share of the blocks that lie above it. All of them where the sample holds a NaN.
        """
        scores = passes.blocks_above(None, sample, -1.0, sample.numel())[1][1]
        rank = wanted / self._count() * scores.numel()
        low, lowest = (nth_largest(passes, scores, math.ceil(r + 6.0 * math.sqrt(r)) + 6) for r in (rank, MUCH * rank))
        if not math.isfinite(low):
            return -1.0, 1.0
        if self.wanted == wanted:
            low = max(lowest, min(low, 0.9999 * self.threshold))
        return low, passes.count_above(scores, low) / scores.numel()

    def _choose(self, passes: Passes, candidates: Selection, context: Context) -> torch.Tensor:
        """The blocks to send, int32, ascending; moves the threshold."""
        wanted, start, (blocks, scores) = self._wanted(context), self._start(self._count()), candidates
        if wanted == self._count():
            return blocks
        if isinstance(passes, KernelPasses):
            return self._choose_in_one(passes, candidates, wanted, start)
        if not math.isfinite(passes.largest(scores)):
            return entries_at(blocks, passes.topk(scores, wanted)[0])
        above = self._reached(passes, scores, wanted)
        if above is None:
            numbers, best = passes.topk(scores, wanted)
            self._note_best(passes, best)
            return entries_at(blocks, numbers)
        first = _first_from(above, _first_from(blocks, start))
        return entries_at(blocks, _rotated(above, first, wanted))

    def _choose_in_one(self, passes: KernelPasses, candidates: Selection, wanted: int, start: int) -> torch.Tensor:
        """The same in one call of the kernels."""
        most = int(MUCH * wanted) if self.wanted == wanted else 0
        chosen, count, lowest, largest = passes.scan(candidates, wanted, self._below(), most, start)
        if math.isfinite(largest):
            self.calls += 1
            if self.wanted == wanted:
                self._moves(count, wanted)
            if self.wanted != wanted:
                self._set_up(wanted, lowest, lowest)
        return chosen

    def _count(self) -> int:
        return -(-self.elements // BLOCK)

    def _wanted(self, context: Context) -> int:
        """Blocks to send."""
        wanted = wanted_count(self.elements, context.density)
        return self._count() if wanted == self.elements else min(self._count(), max(1, wanted // BLOCK))

    def _scale(self, passes: Passes, threshold: float, best: torch.Tensor) -> float:
        return threshold


def _first_from(places: torch.Tensor, start: int) -> int:
    """How many of the places, int32 ascending, lie before `start`; in NumPy on the CPU, as `entries_at`."""
    if places.device.type == "cpu":
        return int(np.searchsorted(places.numpy(), np.int32(start)))
    return int(torch.searchsorted(places, start))


def _rotated(places: torch.Tensor, first: int, k: int) -> torch.Tensor:
    """k of the places from number `first` on, wrapping round; ascending."""
    wrapped = max(0, first + k - places.numel())
    rotated = places[first : first + k] if not wrapped else places.new_empty(k)
    if wrapped:
        rotated[:wrapped], rotated[wrapped:] = places[:wrapped], places[first:]
    return rotated


def _others(places: torch.Tensor, first: int, k: int) -> list[slice]:
    """Where among all numbers from 0 on the places lie that `_rotated` does not take, and none that it does."""
    end = first + k - places.numel()
    if end < 0:
        return [slice(0, int(places[first])), slice(int(places[first + k - 1]) + 1, None)]
    after = int(places[end - 1]) + 1 if end else 0
    return [slice(after, int(places[first]) if first < places.numel() else None)]


def block_scores(vector: torch.Tensor) -> torch.Tensor:
    """Sum of magnitudes of each block of 16, float32 (⌈n/16⌉,), added up in halves as the kernel does, bit for bit."""
    short = -vector.numel() % BLOCK
    lanes = torch.nn.functional.pad(vector, (0, short)).view(-1, BLOCK).abs()
    for half in (8, 4, 2, 1):
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes.flatten()
