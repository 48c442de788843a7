"""Whole-vector payloads: float32 as it is, or rounded to 16 bits. They travel by allreduce."""

from __future__ import annotations

import torch

from toolkit.compression.base import Compressor, Context, DensePayload


class Dense(Compressor):
    """No compression: the payload is the vector itself, uncopied, and the residual stays zero."""

    def select(self, vector: torch.Tensor, context: Context) -> DensePayload:
        self._tell()
        return DensePayload(vector)

    def nothing(self, context: Context) -> DensePayload:
        return DensePayload(torch.zeros(self.elements))

    def _select_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, context: Context) -> DensePayload:
        self._tell()
        payload = DensePayload(residual + gradient)
        residual.zero_()
        return payload

    def _tell(self) -> None:
        self.telemetry = {"elements": float(self.elements), "density": 1.0, "selected": float(self.elements)}


class _Rounded(Compressor):
    """Every value rounded to a 16-bit format; the residual holds the rounding errors, exactly.

    Finite values beyond the format's range are cut to its largest finite one; the rest stays in the residual. Infinity
    and NaN travel as they are.
    """

    format: torch.dtype

    def nothing(self, context: Context) -> DensePayload:
        return DensePayload(torch.zeros(self.elements, dtype=self.format))

    def select(self, vector: torch.Tensor, context: Context) -> DensePayload:
        self.telemetry = {"elements": float(self.elements), "density": 1.0, "selected": float(self.elements)}
        rounded = vector.to(self.format)
        largest = torch.finfo(self.format).max
        if self.elements and not bool(vector.abs().max() <= largest):  # a NaN also takes the careful way
            cut = vector.clamp(-largest, largest).to(self.format)
            rounded = torch.where(vector.isfinite(), cut, rounded)
        return DensePayload(rounded)


class Half(_Rounded):
    """IEEE half precision: 11 significant bits, finite up to 65504."""

    format = torch.float16


class BFloat16(_Rounded):
    """bfloat16: 8 significant bits, the range of float32."""

    format = torch.bfloat16
