"""The methods: their schedule and what they keep where. A new one is a file, a footprint and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simulator.offload import in_memory, l2l, memory, stronghold, zero
from simulator.offload.job import Job
from simulator.offload.tiers import Tiers, Work
from toolkit.sections.offload import METHODS as NAMES


@dataclass(frozen=True)
class Method:
    """iteration: the schedule of one iteration. footprint: bytes on each tier. windowed: it has a working window."""

    iteration: Callable[[Job, Tiers], Work]
    footprint: Callable[[Job], memory.Footprint]
    windowed: bool = False


METHODS = {
    "megatron-lm": Method(in_memory.iteration, memory.in_memory),
    "l2l": Method(l2l.iteration, memory.l2l),
    "zero-offload": Method(zero.offload, memory.zero_offload),
    "zero-infinity": Method(zero.infinity, memory.zero_infinity),
    "stronghold": Method(stronghold.iteration, memory.stronghold, windowed=True),
}
assert tuple(METHODS) == NAMES
