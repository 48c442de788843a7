"""The wire formats: what is encoded comes back, in exactly the bytes that were announced."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.exchange.wire import Wire

WORD_BYTES = 4
FORMATS = [Wire(indices, values) for indices in ("int32", "delta") for values in ("fp32", "bf16")]
gaps = st.one_of(st.integers(0, 3), st.integers(0, 600), st.sampled_from([254, 255, 256, 65534, 65535, 65536, 10**6]))
lists = st.lists(gaps, max_size=60).map(lambda g: (np.cumsum(np.array(g, np.int64) + 1) - 1).astype(np.int32))


def values_for(indices: np.ndarray, wire: Wire) -> np.ndarray:
    values = np.random.default_rng(indices.size).standard_normal(indices.size).astype(np.float32)
    return wire.rounded(torch.from_numpy(values))[0].numpy()


def check(wire: Wire, *parts: np.ndarray) -> None:
    values = [values_for(indices, wire) for indices in parts]
    messages = [wire.encode(indices, own) for indices, own in zip(parts, values, strict=True)]
    for indices, message in zip(parts, messages, strict=True):
        assert message.dtype == np.uint8
        assert message.size == wire.size(indices)
        assert message.size % 4 == 0
    decoded = wire.decode(np.concatenate(messages))
    assert len(decoded) == len(parts)
    for (index, value), indices, own in zip(decoded, parts, values, strict=True):
        assert index.dtype == np.int32
        assert value.dtype == np.float32
        assert np.array_equal(index, indices)
        assert np.array_equal(value.view(np.int32), own.view(np.int32))


@pytest.mark.parametrize("wire", FORMATS, ids=str)
@settings(deadline=None, max_examples=60)
@given(parts=st.lists(lists, min_size=1, max_size=4))
def test_what_goes_in_comes_out_whatever_the_gaps(wire: Wire, parts: list[np.ndarray]) -> None:
    check(wire, *parts)


@pytest.mark.parametrize("wire", FORMATS, ids=str)
def test_empty_full_and_the_last_index_there_is(wire: Wire) -> None:
    empty, full = np.empty(0, np.int32), np.arange(70_000, dtype=np.int32)
    check(wire, empty)
    check(wire, full, empty, full[1::2], np.array([2**31 - 1], np.int32))


def test_whole_indices_and_float32_are_a_count_then_eight_bytes_an_entry() -> None:
    message = Wire().encode(np.array([3, 9], np.int32), np.array([1.5, -2.0], np.float32))
    assert message.view(np.int32)[:3].tolist() == [2, 3, 9]
    assert message.view(np.float32)[3:].tolist() == [1.5, -2.0]


@pytest.mark.parametrize(("density", "limit"), [(0.1, 1.01), (0.01, 1.15), (0.001, 2.01)])
def test_a_delta_coded_index_takes_two_bytes_at_most(density: float, limit: float) -> None:
    indices = np.flatnonzero(np.random.default_rng(0).random(2_000_000) < density).astype(np.int32)
    coded = Wire("delta").size(indices) - 8 - 4 * indices.size
    assert coded <= limit * indices.size + 4


numbers = st.floats(width=32, allow_nan=False)


@settings(deadline=None, max_examples=200)
@given(st.lists(numbers, max_size=20))
def test_bfloat16_and_its_error_are_the_value_exactly(given_values: list[float]) -> None:
    values = torch.tensor(given_values, dtype=torch.float32)
    sent, error = Wire(values="bf16").rounded(values)
    assert error is not None
    finite = values.isfinite()
    assert torch.equal((sent.double() + error.double())[finite], values.double()[finite])
    assert torch.equal(sent[~finite], values[~finite])
    assert bool((error[~finite] == 0).all())
    assert torch.equal(sent.bfloat16().float(), sent)
    ordinary = finite & (values.abs() < 3e38) & (values.abs() > 1e-30)
    assert bool((error.abs() <= values.abs() / 256)[ordinary].all())


def test_a_nan_is_carried() -> None:
    sent, error = Wire(values="bf16").rounded(torch.tensor([float("nan"), 1.0]))
    assert sent[0].isnan()
    assert error is not None
    assert error.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("wire", FORMATS, ids=str)
def test_a_damaged_message_is_refused(wire: Wire) -> None:
    indices = np.array([1, 300, 70_000], np.int32)
    message = wire.encode(indices, np.ones(3, np.float32))
    with pytest.raises(RuntimeError, match="damaged message"):
        wire.decode(message[:-4])
    message.view(np.int32)[0] = -1
    with pytest.raises(RuntimeError, match="damaged message"):
        wire.decode(message)


@pytest.mark.parametrize("wire", FORMATS, ids=str)
@settings(deadline=None, max_examples=150)
@given(data=st.binary(max_size=120).map(lambda b: b[: len(b) // 4 * 4]), head=st.integers(-2, 12), more=st.booleans())
def test_whatever_arrives_is_refused_or_a_list_that_fits_it(wire: Wire, data: bytes, head: int, more: bool) -> None:
    message = np.frombuffer(bytearray(np.array([head], np.int32).tobytes() * (1 + more) + data), np.uint8)
    parts = []
    with contextlib.suppress(RuntimeError):
        parts = wire.decode(message)
    assert sum(2 * WORD_BYTES if wire.indices == "delta" else WORD_BYTES for _ in parts) <= message.size
    for indices, values in parts:
        assert indices.size == values.size
        if wire.indices == "delta":
            assert (np.diff(indices) > 0).all()
            assert (indices[:1] >= 0).all()


@pytest.mark.parametrize("indices", [[3, 3], [5, 4], [-1, 4]])
def test_indices_that_gaps_cannot_tell_are_refused(indices: list[int]) -> None:
    with pytest.raises(ValueError, match="must ascend strictly"):
        Wire("delta").encode(np.array(indices, np.int32), np.ones(2, np.float32))
