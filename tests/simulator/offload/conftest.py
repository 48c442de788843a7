"""Cases on the calibrated machine, or on small ones whose times can be worked out on paper."""

from collections.abc import Callable
from typing import Any

import pytest

from simulator.offload import calibration
from simulator.offload.case import Case
from simulator.offload.job import Settings
from simulator.offload.machine import load_machine


@pytest.fixture
def make_case() -> Callable[..., Case]:
    """make_case("stronghold", layers, window, threads=…, disk=…): the published width on the published machine."""

    def make(method: str, layers: int = 32, window: int = 0, **settings: Any) -> Case:
        machine = load_machine(calibration.DEVICE)
        return Case(calibration.MODEL.deep(layers), machine, Settings(method, window, **settings))

    return make
