"""[sync] and [pipeline]: who waits for whom, and what overlaps."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.keys import key


@dataclass(frozen=True)
class SyncSection:
    policy: str = key("bsp", "synchronisation", choices=("bsp",))


@dataclass(frozen=True)
class PipelineSection:
    overlap: bool = key(True, "start a bucket's exchange while backward goes on")
    accumulation: int = key(1, "micro-batches whose gradients are summed before one exchange", low=1)
