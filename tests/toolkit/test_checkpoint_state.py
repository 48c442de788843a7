"""State on disk: what comes back is what went in, damage is refused, no pickle is involved."""

from __future__ import annotations

import math

import pytest
import torch

from toolkit.checkpoint.state import load_state, save_state
from toolkit.errors import UserError


def state() -> dict:
    parameter = torch.nn.Parameter(torch.randn(7, 3))
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    parameter.grad = torch.randn(7, 3)
    optimizer.step()
    return {
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
        "view": torch.arange(12).view(3, 4).t(),
        "half": torch.tensor([1.5], dtype=torch.float16),
        "losses": [0.1 + 0.2, math.inf, 1e-320],
        "nothing": None,
        "flag": True,
        5: "integer keys stay integers",
    }


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and a == b


def test_round_trip(tmp_path):
    before = state()
    digest = save_state(tmp_path / "state.safetensors", before)
    assert same(before, load_state(tmp_path / "state.safetensors", digest))


def test_any_flipped_bit_is_found(tmp_path):
    path = tmp_path / "state.safetensors"
    digest = save_state(path, state())
    content = path.read_bytes()
    for place in (0, len(content) // 3, len(content) - 1):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(UserError, match=r"state\.safetensors: damaged checkpoint"):
            load_state(path, digest)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.safetensors"):
        load_state(tmp_path / "gone.safetensors", "0" * 64)


def test_objects_are_refused_rather_than_pickled(tmp_path):
    with pytest.raises(TypeError, match="tensors and plain numbers"):
        save_state(tmp_path / "state.safetensors", {"object": object()})
