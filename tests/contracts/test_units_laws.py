"""Quantities: what is written reads back, every unit means what it says, and a number alone is refused."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit import units
from toolkit.errors import UserError

kinds = st.sampled_from(sorted(units.KINDS))
amounts = st.floats(min_value=0.0, max_value=1e300, allow_nan=False)


@settings(deadline=None, max_examples=300)
@given(kinds, amounts)
def test_what_is_rendered_reads_back_exactly(kind: str, value: float) -> None:
    assert units.parse(kind, units.render(kind, value)) == value


@settings(deadline=None, max_examples=100)
@given(kinds, st.integers(0, 10**9), st.data())
def test_a_unit_scales_its_number_to_the_nearest_float(kind: str, number: int, data: st.DataObject) -> None:
    unit = data.draw(st.sampled_from(sorted(units.KINDS[kind])))
    space = data.draw(st.sampled_from(["", " ", "  "]))
    exact = number * Fraction(repr(units.KINDS[kind][unit]))
    assert units.parse(kind, f"{number}{space}{unit}") == float(exact)


@settings(deadline=None, max_examples=50)
@given(kinds, st.floats(allow_nan=True, allow_infinity=True))
def test_rendering_never_fails_so_that_a_message_can_show_a_bad_value(kind: str, value: float) -> None:
    text = units.render(kind, value)
    if not (math.isfinite(value) and value >= 0):
        with pytest.raises(UserError):
            units.parse(kind, text)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("time", "50 us", 50e-6),
        ("time", "2 min", 120.0),
        ("time", "1.5 h", 5400.0),
        ("time", "1e-3s", 1e-3),
        ("time", ".5 s", 0.5),
        ("size", "128 MiB", 128 * 2**20),
        ("size", "1 kB", 1000.0),
        ("rate", "200 Mbit/s", 25e6),
        ("rate", "10 Gbit/s", 1.25e9),
        ("rate", "1 GiB/s", 2.0**30),
        ("rate", "8 bit/s", 1.0),
    ],
)
def test_known_quantities(kind: str, text: str, value: float) -> None:
    assert units.parse(kind, text) == value


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("rate", 25e6, "200 Mbit/s"),
        ("rate", 1.25e8, "1 Gbit/s"),
        ("time", 5e-5, "50 us"),
        ("size", 2e9, "2 GB"),
        ("time", 0.0, "0 s"),
        ("size", -0.0, "0 B"),
        ("time", np.float64(0.25), "250 ms"),
    ],
)
def test_rendering_takes_the_unit_that_people_write(kind: str, value: float, text: str) -> None:
    assert units.render(kind, value) == text


@pytest.mark.parametrize("kind", ["time", "size", "rate"])
@pytest.mark.parametrize(
    "bad", [5, 5.0, True, None, [], "5", "", "s", "-1 s", "-1 B", "+1 B/s", "1 parsec", "inf s", "nan B", "1 s s"]
)
def test_what_is_no_quantity_is_refused_with_an_example(kind: str, bad: object) -> None:
    with pytest.raises(UserError) as caught:
        units.parse(kind, bad, "exp.toml: [cluster] x")
    message = str(caught.value)
    assert message.startswith(f"exp.toml: [cluster] x = {bad!r}: a {kind} is written like")
    assert units.EXAMPLES[kind] in message
    assert all(unit in message for unit in units.KINDS[kind])


@pytest.mark.parametrize(
    ("kind", "bad"),
    [("time", "1 B"), ("size", "1 s"), ("rate", "1 GB"), ("size", "1 GB/s"), ("rate", "1 gbit/s"), ("time", "1 S")],
)
def test_units_of_another_kind_or_case_are_refused(kind: str, bad: str) -> None:
    with pytest.raises(UserError, match="units are"):
        units.parse(kind, bad)


@pytest.mark.parametrize(("kind", "bad"), [("time", "1e999 s"), ("time", "1e308 h"), ("rate", "1e308 TiB/s")])
def test_a_quantity_beyond_a_float_is_refused(kind: str, bad: str) -> None:
    with pytest.raises(UserError):
        units.parse(kind, bad)


def test_bits_and_bytes_differ_by_eight() -> None:
    for prefix in ("", "k", "M", "G", "T"):
        assert units.parse("rate", f"8 {prefix}bit/s") == units.parse("rate", f"1 {prefix}B/s")
