"""What tests of compressors watch."""

from __future__ import annotations

from typing import Any

import pytest

from toolkit.compression.passes import KernelPasses


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether SIDCo's one call told its threshold, call by call."""
    calls: list[bool] = []
    honest = KernelPasses.collect_stages

    def watched(self: KernelPasses, *given: Any) -> Any:
        found = honest(self, *given)
        calls.append(isinstance(found, tuple))
        return found

    monkeypatch.setattr(KernelPasses, "collect_stages", watched)
    return calls
