"""Training-time changes of picture batches, every draw taken from the caller's generator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pad_crop_flip(pixels: Tensor, generator: torch.Generator, pad: int = 4) -> Tensor:
    """Pad by `pad` zeros, crop back at a random place, mirror half of the pictures.

    pixels: (batch, channels, height, width), already standardised. Source: He et al., CVPR 2016, section 4.2.
    """
    count, _, height, width = pixels.shape
    top = torch.randint(0, 2 * pad + 1, (count,), generator=generator)
    left = torch.randint(0, 2 * pad + 1, (count,), generator=generator)
    mirrored = torch.randint(0, 2, (count,), generator=generator).bool()
    rows = top[:, None] + torch.arange(height)
    columns = left[:, None] + torch.arange(width)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    padded = F.pad(pixels, (pad, pad, pad, pad))
    picture = torch.arange(count)[:, None, None]
    # indexing with three tensors around a slice puts the channels last
    return padded[picture, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
