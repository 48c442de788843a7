"""What compressors with sparse payloads share: the kernels, the telemetry and the payload's making."""

from __future__ import annotations

import torch

from toolkit.compression.base import Compressor, SparsePayload
from toolkit.compression.passes import KernelPasses, Passes, Selection, passes_for
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

    def payload(self, selection: Selection, density: float, **also: float) -> SparsePayload:
        """Wrap a selection and note what was wanted, what was sent, and what else is worth knowing."""
        indices, values = selection
        told = {"elements": self.elements, "density": density, "selected": indices.numel(), **also}
        self.telemetry = {name: float(value) for name, value in told.items()}
        return SparsePayload(indices, values, self.elements)
