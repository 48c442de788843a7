"""Rounding to 16 bits: the reference's and torch's bits, and nothing of the sum is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import cext
from cext import reference

KINDS = {cext.HALF_FP16: torch.float16, cext.HALF_BF16: torch.bfloat16}
EDGES = [0.0, -0.0, 65504.0, 65519.996, 65520.0, 1e30, 3.4e38, 6e-8, 2.9802322e-08, 2.98e-8, 6.1e-5, 6.1035156e-05]
EDGES += [1e-40, 1.0009765, 1.00048828125, 1.00146484375, 1.00390625, 1.01171875, np.inf, np.nan, 2.0**-14, 2.0**-25]


def edges() -> NDArray[np.float32]:
    positive = np.array(EDGES, np.float32)
    return np.concatenate((positive, -positive))


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
@pytest.mark.parametrize("kind", KINDS)
def test_kernel_equals_reference(
    level: str, length: int, kinds: tuple[str, ...], make: Any, same: Any, kind: int
) -> None:
    for data in kinds:
        for gradient in (None, make(length, data, seed=1)):
            x, wanted = make(length, data, seed=2), make(length, data, seed=2)
            out, wanted_out = np.full(length, 7, np.uint16), np.full(length, 7, np.uint16)
            cext.round_half(gradient, x, out, kind)
            reference.round_half(gradient, wanted, wanted_out, kind)
            assert np.array_equal(out, wanted_out), data
            assert same(x, wanted), data


@pytest.mark.parametrize("kind", KINDS)
def test_finite_numbers_are_rounded_as_torch_rounds_them(level: str, kind: int) -> None:
    rng = np.random.default_rng(0)
    random = rng.integers(0, 2**32, 300_000, dtype=np.uint32).view(np.float32)
    near = (rng.standard_normal(100_000) * 10.0 ** rng.integers(-9, 6, 100_000)).astype(np.float32)
    x = np.concatenate((edges(), random, near))
    largest = torch.finfo(KINDS[kind]).max
    out = np.empty(len(x), np.uint16)
    cext.round_half(None, x, out, kind)
    finite = np.isfinite(x)
    cut = torch.from_numpy(x).clamp(-largest, largest).to(KINDS[kind]).view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(out[finite], cut[finite])
    back = torch.from_numpy(out.view(np.int16)).view(KINDS[kind]).float().numpy()
    assert np.array_equal(np.isnan(back), np.isnan(x))
    assert np.array_equal(np.isinf(back), np.isinf(x))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_rounded_away_stays_and_what_is_not_finite_leaves_nothing(level: str, kind: int) -> None:
    for threads in (1, 2, 3):
        x = np.tile(edges(), 40_000)
        gradient, before = np.zeros_like(x), x.copy()
        out = np.empty(len(x), np.uint16)
        cext.round_half(gradient, x, out, kind, threads)
        sent = torch.from_numpy(out.view(np.int16)).view(KINDS[kind]).float().numpy()
        finite = np.isfinite(before)
        assert not x[~finite].any()
        assert np.array_equal(sent[finite] + x[finite], before[finite])
        assert not gradient.any()


@pytest.mark.parametrize("kind", KINDS)
def test_not_numbers_have_one_pattern_whichever_operand_they_come_from(level: str, kind: int) -> None:
    for n in (7, 16, 100):
        x = np.full(n, np.float32(np.nan))
        gradient, out = -x, np.empty(n, np.uint16)
        gradient[::2] = 1.0
        cext.round_half(gradient, x, out, kind)
        assert set(out.tolist()) == {0x7E00 if kind == cext.HALF_FP16 else 0x7FC0}


def test_what_is_refused_changes_nothing() -> None:
    x, out = np.ones(8, np.float32), np.zeros(8, np.uint16)
    for arguments, error, message in (
        ((None, x, out[:7].copy(), 0), ValueError, "out has 7 elements, x has 8"),
        ((x[:7].copy(), x, out, 0), ValueError, "gradient has 7 elements, x has 8"),
        ((None, x, out, 2), ValueError, "kind = 2: allowed are 0 to 1"),
        ((None, x, x, 0), TypeError, "out must be"),
        ((x, x, out, 0), ValueError, "share memory"),
    ):
        with pytest.raises(error, match=message):
            cext.round_half(*arguments)  # type: ignore[arg-type]
    assert (x == 1.0).all()
    assert not out.any()
