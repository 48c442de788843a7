"""[offload]: which layers live on the device, and when they are fetched."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OffloadSection:
    """No key is known yet."""
