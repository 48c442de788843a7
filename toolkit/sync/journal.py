"""What a run did, phase by phase, for its result and its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from toolkit.sync.server import Staleness


@dataclass
class Journal:
    """segments: {name, protocol, first (raw step), steps} in order. events: switches and their cost. points: test
    results with the work done (units) and the training time, s, at which they were reached."""

    segments: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    points: list[dict[str, float]] = field(default_factory=list)
    histogram: dict[int, int] = field(default_factory=dict)
    spread: int = 0

    def begin(self, protocol: str, first: int) -> None:
        """A phase begins at raw step `first`; one that goes on after a resume keeps its row."""
        if not self.segments or self.segments[-1]["protocol"] != protocol:
            self.segments.append({"name": protocol, "protocol": protocol, "first": first, "steps": 0})

    def count(self, raw: int) -> None:
        """So many raw steps are done in all."""
        self.segments[-1]["steps"] = raw - self.segments[-1]["first"]

    def see(self, staleness: list[Staleness]) -> None:
        """Add what the servers of a phase saw."""
        for seen in staleness:
            self.spread = max(self.spread, seen.spread)
            for value, count in seen.histogram.items():
                self.histogram[value] = self.histogram.get(value, 0) + count

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return dict(vars(self))

    def load(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        for name, value in state.items():
            setattr(self, name, value)

    def staleness(self) -> dict[str, Any]:
        """The histogram over all pushes to all shards, its mean and largest value."""
        total = sum(self.histogram.values())
        return {
            "histogram": {str(value): self.histogram[value] for value in sorted(self.histogram)},
            "mean": sum(value * count for value, count in self.histogram.items()) / max(1, total),
            "max": max(self.histogram, default=0),
            "clock_spread": self.spread,
        }
