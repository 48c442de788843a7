"""[control]: the controller of batch size and compression rate."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ControlSection:
    """No key is known yet."""
