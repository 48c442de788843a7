"""The bytes of a message from numbers alone are those of a real one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.exchange.wire import Wire
from toolkit.policies.wiresize import list_bytes


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 300), st.integers(0, 300), st.sampled_from(["fp32", "bf16"]))
def test_whole_indices_are_counted_exactly(entries, more, values):
    indices = np.arange(entries, dtype=np.int32)
    assert list_bytes(entries, entries + more, "int32", values) == Wire("int32", values).size(indices)


@pytest.mark.parametrize("density", [0.5, 0.1, 0.01, 0.003, 0.001, 0.0001, 1e-5])
@pytest.mark.parametrize("values", ["fp32", "bf16"])
def test_gaps_of_even_coordinates_are_expected_to_a_percent(density, values):
    elements = 2_000_000
    chance = np.random.default_rng(1)
    indices = np.sort(chance.choice(elements, int(elements * density), replace=False)).astype(np.int32)
    expected = list_bytes(indices.size, elements, "delta", values)
    assert expected == pytest.approx(Wire("delta", values).size(indices), rel=0.01)


def test_an_empty_list_and_a_full_one():
    for entries in (0, 1, 64):
        indices = np.arange(entries, dtype=np.int32)
        assert list_bytes(entries, 64, "delta", "fp32") <= Wire("delta", "fp32").size(indices) + 4
