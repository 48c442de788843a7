"""Whole-vector payloads: float32 as it is, or rounded to 16 bits. They travel by allreduce."""

from __future__ import annotations

import numpy as np
import torch

import cext
from toolkit.compression.base import Compressor, Context, DensePayload, Payload
from toolkit.compression.passes import kernels_read
from toolkit.compression.rooms import Rooms
from toolkit.experiment import CompressionSection


class _Whole(Compressor):
    """All of the vector, where the payload is not the vector itself in memory that is used again."""

    memory: type[np.float32] | type[np.uint16]

    def __init__(self, section: CompressionSection, elements: int) -> None:
        super().__init__(section, elements)
        self._rooms = Rooms(self.memory)

    def _tell(self) -> None:
        self.telemetry = {"elements": float(self.elements), "density": 1.0, "selected": float(self.elements)}


class Dense(_Whole):
    """No compression: the payload is the vector itself, or its sum with the residual, which stays zero."""

    memory = np.float32

    def select(self, vector: torch.Tensor, context: Context) -> DensePayload:
        self._tell()
        return DensePayload(vector)

    def nothing(self, context: Context) -> DensePayload:
        return DensePayload(torch.zeros(self.elements))

    def _select_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, context: Context) -> DensePayload:
        self._tell()
        room = torch.from_numpy(self._rooms.array(self.elements)) if residual.is_cpu else None
        payload = DensePayload(torch.add(residual, gradient.detach(), out=room))
        residual.zero_()
        return payload


class _Rounded(_Whole):
    """Every value rounded to a 16-bit format; the residual holds the rounding errors, exactly below 2^29.

    Finite values beyond the format's range are cut to its largest finite one; the rest stays in the residual. Infinity
    and NaN travel as they are.
    """

    memory = np.uint16
    format: torch.dtype
    kind: int  # the kernels' name of it

    def nothing(self, context: Context) -> DensePayload:
        return DensePayload(torch.zeros(self.elements, dtype=self.format))

    def select(self, vector: torch.Tensor, context: Context) -> DensePayload:
        self._tell()
        if kernels_read(vector):
            return self._round(None, vector)
        rounded = vector.to(self.format)
        largest = torch.finfo(self.format).max
        if self.elements and not bool(vector.abs().max() <= largest):  # a NaN also takes the careful way
            cut = vector.clamp(-largest, largest).to(self.format)
            rounded = torch.where(vector.isfinite(), cut, rounded)
        return DensePayload(rounded)

    def _select_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, context: Context) -> Payload:
        if not (kernels_read(residual) and kernels_read(gradient)):
            return super()._select_feedback(gradient, residual, context)
        self._tell()
        return self._round(gradient, residual)

    def _round(self, gradient: torch.Tensor | None, vector: torch.Tensor) -> DensePayload:
        room, added = self._rooms.array(self.elements), None if gradient is None else gradient.numpy()
        cext.round_half(added, vector.numpy(), room, self.kind, self.section.threads)
        return DensePayload(torch.from_numpy(room).view(self.format))


class Half(_Rounded):
    """IEEE half precision: 11 significant bits, finite up to 65504."""

    format, kind = torch.float16, cext.HALF_FP16


class BFloat16(_Rounded):
    """bfloat16: 8 significant bits, the range of float32."""

    format, kind = torch.bfloat16, cext.HALF_BF16
