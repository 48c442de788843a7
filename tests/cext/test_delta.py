"""Delta coding: what goes in comes out, as the reference codes it; what no encoder wrote is refused."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import cext
from cext import reference

FEW = settings(deadline=None, max_examples=80)
gaps = st.one_of(
    st.integers(0, 3),
    st.integers(0, 700),
    st.sampled_from([254, 255, 256, 509, 510, 511, 65534, 65535, 65536, 131069, 131070, 131071, 10**7]),
)
lists = st.lists(gaps, max_size=90).map(lambda g: (np.cumsum(np.array(g, np.int64) + 1) - 1).astype(np.int32))
MODULES = (cext, reference)


def check(indices):
    sizes = [module.delta_size(indices) for module in MODULES]
    assert sizes[0] == sizes[1]
    for width in (1, 2):
        written = [np.full(sizes[0][width - 1] * width, 77, np.uint8) for _ in MODULES]
        for module, codes in zip(MODULES, written, strict=True):
            module.delta_encode(indices, width, codes)
        assert np.array_equal(*written)
        for module in MODULES:
            read = np.full(len(indices), -7, np.int32)
            module.delta_decode(written[0], width, read)
            assert np.array_equal(read, indices)


@pytest.mark.parametrize("name", cext.capabilities())
@FEW
@given(indices=lists)
def test_small_lists(name, indices):
    cext.use(name)
    check(indices)


@pytest.mark.parametrize("density", [1.0, 0.3, 0.02, 0.004, 0.0005])
def test_long_lists(level, density):
    check(np.flatnonzero(np.random.default_rng(1).random(200_000) < density).astype(np.int32))


def test_the_last_index_there_is(level):
    check(np.array([0, 2**31 - 2, 2**31 - 1], np.int32))


def outcome(module, codes, width, count):
    indices = np.zeros(count, np.int32)
    try:
        module.delta_decode(codes, width, indices)
    except ValueError:
        return None
    return indices.tolist()


few_codes = st.one_of(st.binary(max_size=40), st.lists(st.sampled_from([0, 1, 255]), max_size=700).map(bytes))


@pytest.mark.parametrize("name", cext.capabilities())
@FEW
@given(data=few_codes, width=st.sampled_from([1, 2]), less=st.integers(-2, 3))
def test_whatever_arrives_is_read_as_the_reference_does_or_refused(name, data, width, less):
    cext.use(name)
    codes = np.frombuffer(data[: len(data) // width * width], np.uint8)
    kind = np.uint8 if width == 1 else np.uint16
    count = max(0, int((codes.view(kind) != np.iinfo(kind).max).sum()) - less)
    assert outcome(cext, codes, width, count) == outcome(reference, codes, width, count)


def test_indices_beyond_the_last_are_refused(level):
    codes = np.full(2 * (2**31 // 65535 + 2), 255, np.uint8)
    codes[-2:] = 0
    for module in MODULES:
        assert outcome(module, codes, 2, 1) is None


@pytest.mark.parametrize("indices", [[-1], [3, 3], [5, 4], [*range(300), 7], [*range(600), 2**31 - 1, 0]])
def test_indices_that_do_not_ascend_are_refused(level, indices):
    indices = np.array(indices, np.int32)
    for module in MODULES:
        with pytest.raises(ValueError, match="must ascend strictly from 0 or more"):
            module.delta_size(indices)
    with pytest.raises(ValueError, match="must ascend strictly from 0 or more"):
        cext.delta_encode(indices, 1, np.zeros(9, np.uint8))


@pytest.mark.parametrize(
    ("width", "codes", "message"),
    [
        (1, np.zeros(2, np.uint8), "out codes has 2 elements, what indices need has 3"),
        (3, np.zeros(3, np.uint8), "width = 3: allowed are 1 to 2"),
        (2, np.zeros(7, np.uint8), "whole and aligned to their 2 bytes"),
        (2, np.zeros(8, np.uint8)[1:7], "whole and aligned to their 2 bytes"),
    ],
)
def test_room_of_another_size_is_refused(width, codes, message):
    with pytest.raises(ValueError, match=message):
        cext.delta_encode(np.array([0, 1, 5], np.int32), width, codes)
    assert not codes.any()
