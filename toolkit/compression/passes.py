"""The passes over a vector that compressors are built of, by where the vector lies.

float32 on the CPU runs in the C kernels, on the tensors' own memory; CUDA tensors run the same passes in Triton, where
that is installed, and everything else in torch operations. Results are the same: exact selections agree entry by entry,
sums to rounding.
Every selection comes back as tensors of its own (indices int32 ascending, values): as long as one of them is held,
nothing else is written into its memory.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

import cext
from toolkit.compression.fits import Sums
from toolkit.compression.passes_torch import TorchPasses
from toolkit.compression.residual import stored_bits
from toolkit.compression.rooms import Rooms

Selection = tuple[torch.Tensor, torch.Tensor]
TRITON_LIMIT = 2**31 - 2**24  # elements: places behind a vector's end must be int32, too


@dataclass(frozen=True)
class Prediction:
    """What one pass shall collect: candidates above `low`, zeroed above `zero_above` >= low, and what lies in brackets.

    brackets: (low, high) around each further threshold that is likely to be asked for, disjoint. room, inside: most
    candidates and most bracketed entries. sums: which ones the pass shall make, cext.SUM_ABS and so on.
    """

    low: float
    zero_above: float
    room: int
    brackets: tuple[tuple[float, float], ...] = ()
    inside: int = 0
    sums: int = cext.SUM_ALL


@dataclass(frozen=True)
class Collection:
    """What one pass saw: the moments of the whole vector; the candidates above `floor`, of which those above
    `zeroed_above` are zero in the vector now; count, sum and sum of squares above each bracket's upper end; and the
    entries inside the brackets, in any order. inside: how many lay there; more than `between` holds if it had no room.
    """

    moments: Sums
    floor: float
    candidates: Selection
    zeroed_above: float
    brackets: tuple[tuple[float, float], ...]
    tails: tuple[tuple[int, float, float], ...]
    between: torch.Tensor
    inside: int


class Passes(Protocol):
    """x is float32 (n,), a residual may be bfloat16 for KernelPasses. `_feedback` passes first do residual += gradient,
    and zero in the residual what they take. sums: at least those are made, cext.SUM_ABS and so on.
    """

    def topk(self, x: torch.Tensor, k: int) -> Selection: ...
    def topk_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, k: int) -> Selection: ...
    def above(self, x: torch.Tensor, threshold: float) -> Selection: ...
    def above_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, threshold: float) -> Selection: ...
    def moments(self, x: torch.Tensor, sums: int = ...) -> Sums: ...
    def moments_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, sums: int = ...) -> Sums: ...
    def count_above(self, x: torch.Tensor, threshold: float) -> int: ...
    def tail_moments(self, x: torch.Tensor, threshold: float, limit: float = ...) -> tuple[int, float, float]: ...
    def largest(self, x: torch.Tensor) -> float: ...
    def zero_at(self, x: torch.Tensor, indices: torch.Tensor) -> None: ...
    def settle(
        self, residual: torch.Tensor, candidates: Selection, zeroed_above: float, threshold: float
    ) -> Selection: ...
    def settle_topk(self, residual: torch.Tensor, candidates: Selection, zeroed_above: float, k: int) -> Selection: ...


class KernelPasses:
    """The passes in C. Holds workspaces, idle room for payloads and the size of the last selection, no results.

    kernels: cext, or cext.reference, which has the same functions in NumPy, to check a whole compressor against.
    seed: of the roundings, to be set before a pass over a residual in bfloat16.
    """

    def __init__(self, threads: int, kernels: Any = cext) -> None:
        self.threads = threads
        self.kernels = kernels
        self._workspace: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._floats, self._indices = Rooms(np.float32), Rooms(np.int32)
        self._expected = 256
        self.seed = 0

    def topk(self, x: torch.Tensor, k: int) -> Selection:
        """Exactly the k largest |x|, ties by the lowest index; NaN > inf > finite."""
        indices, values = self._room(k)
        self.kernels.topk_select(x.numpy(), k, indices, values, self._work(x.numel(), k), self.threads)
        return _tensors(indices, values)

    def topk_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, k: int) -> Selection:
        indices, values = self._room(k)
        g, r, workspace = gradient.numpy(), _stored(residual), self._work(residual.numel(), k)
        found = self.kernels.topk_select_feedback(g, r, k, indices, values, workspace, self.threads, self.seed)
        if found < 0:  # the prediction missed: among the values as they are stored now
            taken = self.topk(residual.float(), k)
            self.zero_at(residual, taken[0])
            return taken
        return _tensors(indices, values)

    def above(self, x: torch.Tensor, threshold: float) -> Selection:
        """Every |x| > threshold, and every NaN."""
        indices, values = self._guess(x.numel())
        count = self.kernels.threshold_select(x.numpy(), threshold, indices, values, self.threads)
        if count > len(indices):  # the guess was short: the true count is known now
            indices, values = self._room(count)
            self.kernels.threshold_select(x.numpy(), threshold, indices, values, self.threads)
        return self._taken(count, indices, values)

    def above_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, threshold: float) -> Selection:
        every = residual.dtype != torch.float32  # what had no room would be rounded before it is chosen
        indices, values = self._room(residual.numel()) if every else self._guess(residual.numel())
        count = self.kernels.threshold_select_feedback(
            gradient.numpy(), _stored(residual), threshold, indices, values, self.threads, self.seed
        )
        if count > len(indices):
            return self._with_rest(residual, threshold, count, indices, values)
        return self._taken(count, indices, values)

    def moments(self, x: torch.Tensor, sums: int = cext.SUM_ALL) -> Sums:
        """Count, largest |x|, sums of x, |x|, x² and ln(|x| + 2.2e-16) in float64; NaN where they are not asked for."""
        found: Sums = self.kernels.moments(x.numpy(), self.threads, sums)
        return found

    def moments_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, sums: int = cext.SUM_ALL) -> Sums:
        found: Sums = self.kernels.moments_feedback(gradient.numpy(), residual.numpy(), self.threads, sums)
        return found

    def tail_moments(self, x: torch.Tensor, threshold: float, limit: float = math.inf) -> tuple[int, float, float]:
        """Count, sum and sum of squares of |x| − threshold where |x| > threshold, up to a limit."""
        count, total, squares = self.kernels.tail_moments(x.numpy(), threshold, self.threads, limit)
        return count, total, squares

    def count_above(self, x: torch.Tensor, threshold: float) -> int:
        """Entries with |x| > threshold."""
        count: int = self.kernels.count_above(x.numpy(), threshold, self.threads)
        return count

    def largest(self, x: torch.Tensor) -> float:
        """The largest |x|, NaN if there is one."""
        return float(self.kernels.max_abs(x.numpy(), self.threads))

    def zero_at(self, x: torch.Tensor, indices: torch.Tensor) -> None:
        if x.dtype == torch.float32:
            self.kernels.zero_at(x.numpy(), indices.numpy(), self.threads)
        else:
            _stored(x)[indices.numpy()] = 0

    def put_back(self, residual: torch.Tensor, taken: Selection) -> None:
        """Values that were zeroed in advance."""
        if residual.dtype == torch.float32:
            self.kernels.put(residual.numpy(), taken[0].numpy(), taken[1].numpy(), self.threads)
        else:
            self.kernels.put_bf16(_stored(residual), taken[0].numpy(), taken[1].numpy(), self.seed)

    def predict_stages(
        self, sample: torch.Tensor, groups: int, stages: Sequence[cext.StageFit], width: float, fewest: int
    ) -> cext.Predicted | None:
        """Brackets of `width` standard errors around the thresholds of stages, by a sample cut in groups."""
        told: cext.Predicted | None = self.kernels.predict_stages(sample.numpy(), groups, stages, width, fewest)
        return told

    def stages_above(
        self, gradient: torch.Tensor | None, x: torch.Tensor, stages: Sequence[cext.StageFit], sums: int
    ) -> tuple[Selection, float, float]:
        """x += gradient, if there is one; then what lies above the threshold that stages end at, which becomes zero
        then; the threshold, and the sum of |x|. By one thread: for vectors that caches hold.
        """
        indices, values = self._guess(x.numel())
        work = self._space(self.kernels.stages_workspace(x.numel()))
        added = None if gradient is None else gradient.numpy()
        count, threshold, total = self.kernels.select_stages(added, x.numpy(), stages, sums, indices, values, work)
        if count <= len(indices):
            return self._taken(count, indices, values), threshold, total
        if gradient is not None:
            return self._with_rest(x, threshold, count, indices, values), threshold, total
        self._expected = count
        return self.above(x, threshold), threshold, total

    def drawn(
        self, gradient: torch.Tensor | None, x: torch.Tensor | None, elements: int, ends: NDArray[np.int64], seed: int
    ) -> Selection:
        """x += gradient, if there is one; then what lies at places that a seed draws, which becomes zero then: of each
        block of cext.DRAW_BLOCK elements as many as `ends` goes up. Without x zeros.
        """
        indices, values = self._room(int(ends[-1]) if len(ends) else 0)
        added, vector = None if gradient is None else gradient.numpy(), None if x is None else x.numpy()
        self.kernels.select_drawn(added, vector, elements, ends, seed, indices, values, self.threads)
        return _tensors(indices, values)

    def sample(self, gradient: torch.Tensor, residual: torch.Tensor, grains: int, groups: int = 1) -> torch.Tensor:
        """At most `grains` jittered grains of 32 elements of gradient + residual, the same ones in every call, dealt
        out to groups that lie behind each other.
        """
        taken = self._floats.array(32 * grains)
        count = self.kernels.sample(gradient.numpy(), _stored(residual), taken, groups)
        return torch.from_numpy(taken[:count])

    def sample_strided(
        self, gradient: torch.Tensor | None, x: torch.Tensor, start: int, stride: int, size: int
    ) -> torch.Tensor:
        """x[start::stride], float32, at most `size` of it; or the same of gradient + x."""
        taken = self._floats.array(min(size, -(-(x.numel() - start) // stride)))
        added = None if gradient is None else gradient.numpy()
        self.kernels.sample_strided(added, _stored(x), start, stride, taken, self.threads)
        return torch.from_numpy(taken)

    def on_stride(self, entries: Selection, start: int, stride: int, size: int) -> torch.Tensor:
        """Of the entries the values of those that lie in x[start::stride][:size]."""
        room = self._floats.array(size)
        count = self.kernels.on_stride(entries[0].numpy(), entries[1].numpy(), start, stride, room, self.threads)
        return torch.from_numpy(room[:count])

    def collect_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, wanted: Prediction) -> Collection:
        """residual += gradient, its moments, the brackets' tails and the candidates of a prediction, in one pass.

        Nothing is lost where the room was short: then there are no candidates, or no brackets, and the residual is
        whole.
        """
        room = self._collecting(residual, wanted)
        given = (gradient.numpy(), _stored(residual), wanted.low, wanted.zero_above, *room, wanted.sums)
        return self._collected(self.kernels.collect_feedback(*given, self.threads, self.seed), residual, wanted, room)

    def collect_stages(
        self, gradient: torch.Tensor, residual: torch.Tensor, wanted: Prediction, stages: Sequence[cext.StageFit]
    ) -> tuple[Selection, tuple[float, ...], int] | Collection:
        """The same, and in the same call what lies above the threshold that stages end at, every stage's threshold, and
        how many elements lay in brackets; what was collected, where that does not tell them.
        """
        room = self._collecting(residual, wanted)
        given = (gradient.numpy(), _stored(residual), wanted.low, wanted.zero_above, *room, wanted.sums)
        seen, kept, thresholds, inside = self.kernels.collect_stages(*given, stages, self.threads, self.seed)
        if seen is None:
            return _tensors(room[0][:kept], room[1][:kept]), thresholds, inside
        return self._collected(seen, residual, wanted, room)

    def _collecting(self, residual: torch.Tensor, wanted: Prediction) -> tuple[NDArray[Any], ...]:
        """Indices, values, brackets, room for what lies in them, and workspace."""
        elements = residual.numel()
        brackets = np.array(wanted.brackets, np.float64).ravel()
        between = self._floats.array(min(elements, wanted.inside))
        room = self._room(min(elements, wanted.room))
        return *room, brackets, between, self._space(self.kernels.collect_workspace(elements))

    def _collected(
        self, seen: cext.Collected, residual: torch.Tensor, wanted: Prediction, room: tuple[NDArray[Any], ...]
    ) -> Collection:
        indices, values, _, between, _ = room
        candidates = _tensors(indices[: seen.candidates], values[: seen.candidates])
        floor, zeroed_above = wanted.low, wanted.zero_above
        if seen.candidates > len(indices):
            self.put_back(residual, candidates)
            candidates, floor, zeroed_above = _tensors(indices[:0], values[:0]), math.inf, math.inf
        known = wanted.brackets if seen.between <= len(between) else ()
        among = torch.from_numpy(between[: seen.between])
        return Collection(seen.moments, floor, candidates, zeroed_above, known, seen.tails, among, seen.between)

    def blocks_above(
        self, gradient: torch.Tensor | None, x: torch.Tensor, low: float, room: int
    ) -> tuple[int, Selection]:
        """x += gradient, if there is one; then the blocks of 16 whose sum of magnitudes is above `low`: how many, and
        numbers (int32) and sums of the first `room` of them. Sums are added up in halves; NaN is above everything.
        """
        blocks, scores = self._room(min(room, -(-x.numel() // 16)))
        added = None if gradient is None else gradient.numpy()
        count: int = self.kernels.select_blocks(added, x.numpy(), low, blocks, scores, self.threads)
        return count, _tensors(blocks[:count], scores[:count])

    def scan(
        self, scored: Selection, k: int, threshold: float, most: int, start: int
    ) -> tuple[torch.Tensor, int, float, float]:
        """The places (int32, ascending) of k of the scores: of those above the threshold in turn from place `start` on,
        if there are k to `most` of these and all are finite, otherwise of the largest. Then how many are above it, the
        lowest of the largest, where these are taken, and the largest.
        """
        places, scores = scored[0].numpy(), scored[1].numpy()
        out, most = self._indices.array(k), min(most, len(scores))
        work = self._space(self.kernels.scan_workspace(len(scores), k, most))
        told = self.kernels.scan_select(scores, places, threshold, most, start, out, work, self.threads)
        return torch.from_numpy(out), *told

    def take_blocks(self, x: torch.Tensor, blocks: torch.Tensor, zero: bool = True) -> Selection:
        """All entries of the listed blocks of 16 (int32, ascending), which become zero in x if `zero`."""
        indices, values = self._room(16 * blocks.numel())
        count = self.kernels.take_blocks(x.numpy(), blocks.numpy(), indices, values, self.threads, zero)
        return _tensors(indices[:count], values[:count])

    def settle(self, residual: torch.Tensor, candidates: Selection, zeroed_above: float, threshold: float) -> Selection:
        """Of the candidates those above `threshold`, in place; the residual is mended where the prediction was off."""
        return self._settled(self.kernels.settle, residual, candidates, zeroed_above, threshold)

    def settle_topk(self, residual: torch.Tensor, candidates: Selection, zeroed_above: float, k: int) -> Selection:
        """The same for the k largest of the candidates, ties by the lowest index."""
        return self._settled(self.kernels.settle_topk, residual, candidates, zeroed_above, k)

    def _settled(
        self, settle: Any, residual: torch.Tensor, candidates: Selection, zeroed_above: float, bound: float
    ) -> Selection:
        indices, values = candidates[0].numpy(), candidates[1].numpy()
        given = _stored(residual), indices, values, len(indices), zeroed_above, bound, self.threads, self.seed
        kept = settle(*given)
        return candidates[0][:kept], candidates[1][:kept]

    def _work(self, elements: int, k: int) -> NDArray[np.uint8]:
        return self._space(self.kernels.topk_workspace(elements, k))

    def _space(self, wanted: int) -> NDArray[np.uint8]:
        if len(self._workspace) < wanted:
            self._workspace = np.empty(wanted, np.uint8)
        return self._workspace

    def _room(self, count: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        return self._indices.array(count), self._floats.array(count)

    def _guess(self, elements: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        return self._room(min(elements, self._expected + self._expected // 4))

    def _with_rest(
        self, residual: torch.Tensor, threshold: float, count: int, indices: NDArray[Any], values: NDArray[Any]
    ) -> Selection:
        """What found no room is still in the residual, behind all that did: the rest of `count` entries."""
        behind, more = int(indices[-1]) + 1, self._room(count - len(indices))
        rest = residual.numpy()[behind:]
        self.kernels.threshold_select(rest, threshold, *more, self.threads)
        self.kernels.zero_at(rest, more[0])
        more[0][:] += behind
        return self._taken(count, np.concatenate((indices, more[0])), np.concatenate((values, more[1])))

    def _taken(self, count: int, indices: NDArray[Any], values: NDArray[Any]) -> Selection:
        self._expected = max(256, count)
        return _tensors(indices[:count], values[:count])


def kernels_read(vector: torch.Tensor) -> bool:
    """Whether the kernels read this float32 vector in its place."""
    return vector.dtype == torch.float32 and vector.is_cpu and vector.is_contiguous() and not vector.requires_grad


def passes_for(x: torch.Tensor, kernels: KernelPasses) -> Passes:
    """The kernels, in C or in Triton, where they can read the vector in place, torch operations elsewhere."""
    if x.dtype == torch.bfloat16 and x.is_contiguous() and x.device.type == "cpu":
        return kernels
    if kernels_read(x):
        return kernels
    if x.dtype == torch.float32 and x.is_contiguous() and x.device.type == "cuda" and x.numel() <= TRITON_LIMIT:
        return triton_passes() or TorchPasses()
    return TorchPasses()


@functools.cache
def triton_passes() -> Passes | None:
    """The passes in Triton; None where it is not installed. It is imported by the first CUDA tensor only."""
    if importlib.util.find_spec("triton") is None:
        return None
    from toolkit.compression.passes_triton import TritonPasses

    return TritonPasses()


def _stored(residual: torch.Tensor) -> NDArray[Any]:
    """What kernels take: float32, or the bits of bfloat16."""
    return residual.numpy() if residual.dtype == torch.float32 else stored_bits(residual)


def _tensors(indices: NDArray[np.int32], values: NDArray[np.float32]) -> Selection:
    return torch.from_numpy(indices), torch.from_numpy(values)


def entries_at(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """values[places], places int32. On the CPU in NumPy: torch's pool of threads would be awake and in the way of the
    kernels that follow.
    """
    if values.device.type == "cpu":
        return torch.from_numpy(values.numpy().take(places.numpy()))
    return torch.index_select(values, 0, places)
