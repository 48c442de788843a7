"""What compressors with sparse payloads share: the kernels, the telemetry and the payload's making."""

from __future__ import annotations

import torch

from toolkit.compression.base import COMPRESS, Compressor, Context, Payload, SparsePayload
from toolkit.compression.passes import KernelPasses, Passes, Selection, kernels_read, passes_for
from toolkit.compression.residual import seed_of
from toolkit.experiment import CompressionSection


class SparseCompressor(Compressor):
    """A compressor whose payload holds indices and values."""

    def __init__(self, section: CompressionSection, elements: int) -> None:
        super().__init__(section, elements)
        self._kernels = KernelPasses(section.threads)

    def passes(self, vector: torch.Tensor) -> Passes:
        """The passes that suit where the vector lies; refuses a vector of another size than the bucket's."""
        assert vector.shape == (self.elements,), f"a vector of {self.elements} elements, not {tuple(vector.shape)}"
        return passes_for(vector, self._kernels)

    def select_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, context: Context) -> Payload:
        if residual.is_cpu and not kernels_read(gradient):
            gradient = gradient.detach().float().contiguous()
        if residual.dtype == torch.bfloat16:
            self._kernels.seed = seed_of(context, COMPRESS)
        return super().select_feedback(gradient, residual, context)

    def in_kernels(self, vector: torch.Tensor) -> bool:
        """Whether the kernels read this vector, of either kind, in its place."""
        return isinstance(self.passes(vector), KernelPasses)

    def payload(self, selection: Selection, density: float, **also: float) -> SparsePayload:
        """Wrap a selection and note what was wanted, what was sent, and what else is worth knowing."""
        indices, values = selection
        told = {"elements": self.elements, "density": density, "selected": indices.numel(), **also}
        self.telemetry = {name: float(value) for name, value in told.items()}
        return SparsePayload(indices, values, self.elements)
