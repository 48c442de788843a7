"""A setting that the simulator charges as something else is named in the result."""

from __future__ import annotations

import pytest

from simulator.unmodelled import unmodelled
from toolkit.experiment import Experiment, parse
from toolkit.registry import EXCHANGES


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"name": "topk", "exchange": "gtopk"}, "gtopk"),
        ({"name": "topk", "exchange": "oktopk"}, "oktopk"),
        ({"name": "topk", "wire_indices": "delta"}, "packed"),
        ({"name": "topk", "wire_values": "bf16"}, "rounded"),
        ({"name": "topk", "bypass": "auto"}, "bypass"),
        ({"name": "bf16"}, "bf16"),
        ({"name": "randomk", "wire_values": "bf16"}, "rounded"),
        ({"name": "powersgd"}, "two rounds"),
    ],
)
def test_each_is_named(settings, word):
    (note,) = unmodelled(parse({"compression": settings}, "test"))
    assert word in note


def test_what_is_modelled_needs_no_note():
    assert unmodelled(Experiment()) == []
    assert unmodelled(parse({"compression": {"name": "randomk"}}, "test")) == []
    assert set(EXCHANGES) == {"dense", "linear", "allgather", "gtopk", "oktopk"}  # a new exchange: model it, or name it
