"""A setting that is simulated in part, or as it is expected to be, is named in the result."""

from __future__ import annotations

import pytest

from simulator.unmodelled import unmodelled
from toolkit.experiment import Experiment, parse


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"name": "topk", "exchange": "oktopk"}, "Ok-Topk"),
        ({"name": "topk", "wire_indices": "delta"}, "delta"),
        ({"name": "powersgd"}, "between its rounds"),
    ],
)
def test_each_is_named(settings, word):
    (note,) = unmodelled(parse({"compression": settings}, "test"))
    assert word in note


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"name": "topk", "exchange": "gtopk", "wire_values": "bf16"},
        {"name": "bf16"},
        {"name": "topk", "bypass": "auto"},
    ],
)
def test_what_is_modelled_needs_no_note(settings):
    assert unmodelled(parse({"compression": settings}, "test")) == []
    assert unmodelled(Experiment()) == []


def test_offloading_is_simulated_by_other_commands():
    (note,) = unmodelled(parse({"offload": {"method": "l2l"}}, "test"))
    assert "'plan' simulates it" in note
