"""The sides of a benchmark: compressors of the registry, and what else does the same work, behind one interface.

A method is a compressor's name, "torch:NAME" or "triton:NAME" for the same compressor in torch operations or in
Triton, or "torch-topk" for torch.topk on magnitudes.
"""

from __future__ import annotations

import numpy as np
import torch

import cext
import cext.reference
from toolkit.compression import Compressor, Context, Payload, SparsePayload, create
from toolkit.compression.base import wanted_count
from toolkit.compression.passes import KernelPasses, Passes, triton_passes
from toolkit.compression.passes_torch import TorchPasses
from toolkit.compression.rooms import standing_zeros
from toolkit.compression.sparse import SparseCompressor
from toolkit.errors import UserError
from toolkit.experiment import CompressionSection
from toolkit.registry import COMPRESSORS, nearest

OURS = (
    "none",
    "fp16",
    "topk",
    "randomk",
    "thresholdv16",
    "dgc",
    "redsync",
    "gaussiank",
    "sidco-e",
    "sidco-p",
    "sidco-gp",
)
DEFAULT = (*OURS, "torch-topk", "torch:sidco-e")
CPU = torch.device("cpu")
CHECKED = 50_000  # elements on which a method is validated whose operations do not depend on the size
SETTLING = ("sidco-e", "sidco-p", "sidco-gp")
SETTLED_STAGES = 3  # about as many as SIDCo's search ends at
PARTS = 509  # of x that are taken in turn
WARM_UP = 64  # calls before the first timed one: SIDCo's stages settle, and then its predictions


class Method:
    """One compressor on one vector, with or without error feedback, called again and again as steps of a training.

    spare: elements by which x is longer than the vector: every call takes another part of x, a fresh gradient of the
    same law at no cost. Without it every call adds the same gradient, and residuals pile up below the threshold.
    These parts are cut beforehand: a call of torch that just woke up takes a tenth of a millisecond.
    """

    def __init__(
        self, name: str, x: torch.Tensor, density: float, threads: int, feedback: bool, spare: int = 0
    ) -> None:
        self.name = name
        self.x = x
        self.elements = x.numel() - spare
        self.density = density
        self.residual = standing_zeros(self.elements).to(x.device) if feedback else None
        self.step = 0
        lines = spare // 16
        starts = [16 * (number * 7919 % lines) for number in range(min(lines, PARTS))] or [0]
        self._parts = [x[start : start + self.elements] for start in starts]
        self.compressor = _compressor(name, x[: self.elements], density, threads)
        self.received = torch.zeros(0)
        self.threads = threads

    def gradient(self) -> torch.Tensor:
        """The vector of this step, float32 (n,), whole cache lines away from the one before."""
        return self._parts[self.step % len(self._parts)]

    def compress(self) -> Payload:
        context, vector = Context(self.name, self.step, self.density), self.gradient()
        self.step += 1
        if self.residual is None:
            return self.compressor.select(vector, context)
        return self.compressor.select_feedback(vector, self.residual, context)

    def go_on_from(self, other: Method) -> None:
        """Take residual, step and the compressor's state from another method of the same kind."""
        self.compressor.load_state_dict(other.compressor.state_dict())
        self.step = other.step
        if self.residual is not None and other.residual is not None:
            self.residual.copy_(other.residual)

    def decompress(self, payload: Payload) -> torch.Tensor:
        """The vector a receiver sees, float32 (n,), in the method's own buffer: cleared, then added to."""
        if not self.received.numel():
            self.received = torch.zeros(self.elements)
        if not isinstance(payload, SparsePayload):
            return self.received.copy_(payload.dense())
        self.received.zero_()
        if self.name.startswith("torch"):
            return self.received.index_add_(0, payload.indices.long(), payload.values)
        cext.scatter_add(self.received.numpy(), payload.indices.numpy(), payload.values.numpy(), 1.0, self.threads)
        return self.received


def check_name(name: str) -> str:
    """Return the name if it is a method's; UserError otherwise."""
    bare = name.removeprefix("torch:")
    if name != "torch-topk" and (bare not in COMPRESSORS or (bare != name and COMPRESSORS[bare].wire == "dense")):
        allowed = [*COMPRESSORS, "torch-topk"]
        raise UserError(
            f"--methods {name}: allowed are {', '.join(allowed)}, and torch:NAME of those with sparse payloads"
            f"{nearest(bare, allowed)}"
        )
    return name


def validate(name: str, x: torch.Tensor, density: float, threads: int, device: torch.device = CPU) -> None:
    """Two steps with error feedback against the same algorithm on the NumPy reference; RuntimeError if they differ.
    SIDCo's have three stages, as if they had settled.
    device: where the method runs; x and the reference are on the CPU.

    Entries within a millionth of an estimated threshold may fall on either side: the sums behind it differ by rounding.
    """
    bare = name.rpartition(":")[2]
    stages = SETTLED_STAGES if bare in SETTLING else 0
    tested = _compressor(name, x, density, threads, stages)
    reference = _compressor(bare, x, density, 1, stages)
    if isinstance(reference, SparseCompressor):
        reference._kernels = KernelPasses(1, cext.reference)
    there, left, expected_left = x.to(device), torch.zeros_like(x, device=device), torch.zeros_like(x)
    for step in range(2):
        context = Context("validate", step, density)
        sent = tested.select_feedback(there, left, context).dense().cpu()
        expected = reference.select_feedback(x, expected_left, context).dense()
        differ = torch.nonzero(sent != expected).flatten()
        if differ.numel():
            threshold = reference.telemetry.get("threshold")
            size = torch.maximum(sent[differ].abs(), expected[differ].abs())
            if threshold is None or bool((size > threshold * (1 + 1e-6)).any()):
                raise RuntimeError(f"{name}: {differ.numel()} entries differ from the NumPy reference")
            return
        if not torch.equal(left.cpu(), expected_left):
            raise RuntimeError(f"{name}: the residual differs from the NumPy reference's")


class _TorchTopK(Compressor):
    """torch.topk as people call it: magnitudes, unsorted, gather. Neither ascending nor exact in its ties."""

    def select(self, vector: torch.Tensor, context: Context) -> SparsePayload:
        k = wanted_count(self.elements, context.density)
        indices = torch.topk(vector.abs(), k, sorted=False).indices
        self.telemetry = {"elements": float(self.elements), "density": context.density, "selected": float(k)}
        return SparsePayload(indices.int(), vector[indices], self.elements)


class _On:
    """A compressor's passes replaced by those in torch operations or in Triton, wherever its vector lies."""

    def __init__(self, where: str) -> None:
        passes = TorchPasses() if where == "torch" else triton_passes()
        assert passes is not None, f"no passes: {where}"
        self.passes: Passes = passes

    def __call__(self, vector: torch.Tensor) -> Passes:
        return self.passes


def _compressor(name: str, x: torch.Tensor, density: float, threads: int, stages: int = 0) -> Compressor:
    if name == "torch-topk":
        return _TorchTopK(CompressionSection(density=density), x.numel())
    # A fixed threshold is given the exact one, so that it sends what was asked for.
    where, _, bare = name.rpartition(":")
    threshold = _quantile(x, density) if bare == "threshold" else 1e-3
    section = CompressionSection(name=bare, density=density, threads=threads, threshold=threshold, stages=stages)
    compressor = create(section, x.numel())
    if where:
        compressor.passes = _On(where)  # type: ignore[attr-defined]
    return compressor


def _quantile(x: torch.Tensor, density: float) -> float:
    n = x.numel()
    magnitudes = np.abs(x.numpy())
    place = max(0, n - 1 - wanted_count(n, density))
    return float(np.partition(magnitudes, place)[place])
