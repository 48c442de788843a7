"""What the C passes add to the kernels: guessed room for what is selected, and more where the guess was short."""

from __future__ import annotations

import pytest
import torch

from toolkit.compression.passes import KernelPasses
from toolkit.compression.passes_torch import TorchPasses


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.1])
def test_nothing_is_lost_where_the_guessed_room_was_short(threshold: float) -> None:
    """A negative threshold takes zeros too, also those that this very call has left behind."""
    generator = torch.Generator().manual_seed(4)
    gradient, residual = torch.randn(3000, generator=generator), torch.randn(3000, generator=generator)
    expected = residual.clone()
    indices, values = KernelPasses(1).above_feedback(gradient, residual, threshold)
    right = TorchPasses().above_feedback(gradient, expected, threshold)
    assert torch.equal(indices, right[0])
    assert torch.equal(values, right[1])
    assert torch.equal(residual, expected)
