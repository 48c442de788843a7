"""How error feedback stores what was not sent: float32, or bfloat16 in half the memory.

Rounding to nearest would stop a residual from growing: 256 times a steady gradient, it swallows every further one. Here
a value is rounded up or down at random, in proportion to how near either is, so that the error of a step is below 2^-7
of the value and zero on average: what a coordinate receives over many steps arrives. Numbers that bfloat16 holds stay
as they are, zeros at sent coordinates among them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from toolkit.compression.base import Context

KINDS = {"fp32": torch.float32, "bf16": torch.bfloat16}
LARGEST = torch.finfo(torch.bfloat16).max
LOW_BITS = 1 << 16  # of float32, those that bfloat16 has not


@contextmanager
def opened(
    residual: torch.Tensor | None, context: Context, use: str, needed: bool = True
) -> Iterator[torch.Tensor | None]:
    """The residual (n,) as float32, to be read and written, None where there is none or it is not needed; what was
    written is stored at the end.

    The draws of a rounding depend on (seed, name, step, rank, use) alone, so a resumed run repeats them.
    """
    if residual is None or not needed or residual.dtype == torch.float32:
        yield residual if needed else None
        return
    values = residual.float()
    yield values
    key = f"{context.seed} {context.name} {context.step} {context.rank} {use}"
    generator = torch.Generator(residual.device).manual_seed(zlib.crc32(key.encode()))
    residual.copy_(rounded(values, generator))


def rounded(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Float32 values as bfloat16, each rounded up or down at random, without bias; finite ones stay finite."""
    noise = torch.randint(LOW_BITS, values.shape, generator=generator, dtype=torch.int32, device=values.device)
    cut = torch.where(values.isinf(), values, values.clamp(-LARGEST, LARGEST))
    bits = cut.view(torch.int32).add_(noise).bitwise_and_(-LOW_BITS)
    return bits.view(torch.float32).bfloat16()
