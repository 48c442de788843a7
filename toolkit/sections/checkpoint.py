"""[checkpoint]: what is saved, how often, where."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.keys import key


@dataclass(frozen=True)
class CheckpointSection:
    every: int = key(0, "steps between checkpoints; 0 writes none", low=0)
    keep: int = key(2, "checkpoints kept on disk", low=1)
