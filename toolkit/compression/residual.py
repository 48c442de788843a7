"""How error feedback stores what was not sent: float32, or bfloat16 in half the memory.

Rounding to nearest would stop a residual from growing: 256 times a steady gradient, it swallows every further one. Here
a value is rounded up or down at random, in proportion to how near either is, so that the error of a step is below 2^-7
of the value and zero on average: what a coordinate receives over many steps arrives. Numbers that bfloat16 holds stay
as they are, zeros at sent coordinates among them.

Where a compressor's one pass works on it in place (`Compressor.works_in_bfloat16`), what is sent and what is left are
the same bits as with an opened one, unless the pass's prediction misses: then it chooses among the stored values.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

import cext

if TYPE_CHECKING:
    from toolkit.compression.base import Context

KINDS = {"fp32": torch.float32, "bf16": torch.bfloat16}
INFINITY = 0x7F800000


@contextmanager
def opened(
    residual: torch.Tensor | None, context: Context, use: str, needed: bool = True
) -> Iterator[torch.Tensor | None]:
    """The residual (n,) as float32, to be read and written, None where there is none or it is not needed; what was
    written is stored at the end.
    """
    if residual is None or not needed or residual.dtype == torch.float32:
        yield residual if needed else None
        return
    values = residual.float()
    yield values
    store(values, residual, seed_of(context, use))


def seed_of(context: Context, use: str) -> int:
    """What the draws of a rounding depend on: (seed, name, step, rank, use) alone, so a resumed run repeats them."""
    return zlib.crc32(f"{context.seed} {context.name} {context.step} {context.rank} {use}".encode())


def store(values: torch.Tensor, residual: torch.Tensor, seed: int) -> None:
    """Float32 values (n,) into a bfloat16 residual, each rounded up or down at random, without bias; finite ones stay
    finite. The same bits from the kernel and from torch.
    """
    if residual.device.type == "cpu":
        cext.round_bf16(values.numpy(), stored_bits(residual), torch.get_num_threads(), seed)
        return
    places = torch.arange(values.numel(), device=values.device)
    residual.view(torch.int16).copy_(_rounded(values, places, seed))


def add_at(residual: torch.Tensor, indices: torch.Tensor, values: torch.Tensor, context: Context, use: str) -> None:
    """residual[indices] += values (float32), in a residual of either kind; indices int32, each once."""
    places = indices.long()
    if residual.dtype == torch.float32:
        residual[places] += values
        return
    sums, seed = residual[places].float() + values, seed_of(context, use)
    if residual.device.type == "cpu":
        cext.put_bf16(stored_bits(residual), indices.numpy(), sums.numpy(), seed)
    else:
        residual.view(torch.int16)[places] = _rounded(sums, places, seed)


def stored_bits(residual: torch.Tensor) -> NDArray[np.uint16]:
    """A bfloat16 tensor's own memory, as the kernels take it."""
    bits: NDArray[np.uint16] = residual.view(torch.uint16).numpy()
    return bits


def _rounded(values: torch.Tensor, places: torch.Tensor, seed: int) -> torch.Tensor:
    """`cext.round_bf16` in torch operations: bfloat16 as int16."""

    def times(h: torch.Tensor, factor: int) -> torch.Tensor:
        return h * factor & 0xFFFFFFFF

    h = times((places >> 4 << 3) | (places & 7), 0x9E3779B1) + seed & 0xFFFFFFFF
    h = times(h ^ h >> 15, 0x85EBCA6B)
    h = times(h ^ h >> 13, 0xC2B2AE35)
    h = h ^ h >> 16
    noise = torch.where((places & 8).bool(), h & 0xFFFF, h >> 16)
    bits = values.view(torch.int32).long()
    magnitude = bits & 0x7FFFFFFF
    finite = (magnitude + noise).clamp(max=0x7F7FFFFF)
    other = torch.where(magnitude > INFINITY, magnitude | 0x400000, magnitude)  # a NaN may have its bits lower down
    upper = torch.where(magnitude < INFINITY, finite, other) >> 16
    return torch.where(bits < 0, upper - 0x8000, upper).short()
