"""One iteration's work as a schedule sees it: seconds and bytes of a layer, and the settings of the method."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.offload.calibration import HOST_BANDWIDTH, Release, device_update_s
from simulator.offload.machine import Machine
from simulator.offload.transformer import MOMENTS, Transformer

FUSED_BYTES = 28.0  # a parameter in fp32: reads weight, gradient and both moments, writes weight and moments


@dataclass(frozen=True)
class Settings:
    """What [offload] says. window 0: not chosen yet. threads: of the pool.

    clipped: gradients are clipped to a global norm, which is known only when all of them are. counted: memory holds
    what can be counted, nothing that was settled by the largest published models (memory.py).
    """

    method: str
    window: int = 0
    threads: int = 12
    fused: bool = False
    disk: bool = False
    clipped: bool = False
    counted: bool = False


@dataclass(frozen=True)
class Job:
    """Work of one iteration. Layers are numbered from 0; number `layers` stands for all that is no layer."""

    model: Transformer
    settings: Settings
    release: Release
    forward_s: float  # of one layer
    head_s: float  # forward of the output layer
    update_s: float  # of the whole CPU, a parameter
    device_update_s: float  # a parameter

    @classmethod
    def of(cls, model: Transformer, machine: Machine, settings: Settings, release: Release) -> Job:
        rate = (machine.half_flops if model.value_bytes == 2 else machine.flops) * release.speed
        slower = HOST_BANDWIDTH / machine.host_memory_bandwidth
        update = FUSED_BYTES / machine.host_memory_bandwidth if settings.fused else release.update_s * slower
        on_device = device_update_s()  # little beside the compute: the test machine's, whatever the device
        return cls(model, settings, release, model.layer_flops / rate, model.head_flops / rate, update, on_device)

    @property
    def layers(self) -> int:
        return self.model.layers

    @property
    def window(self) -> int:
        return min(self.settings.window, self.layers)

    def parameters_of(self, unit: int) -> int:
        return self.model.layer_parameters if unit < self.layers else self.model.other_parameters

    def bytes_of(self, unit: int) -> float:
        """Of a unit's weights, or of its gradients."""
        return float(self.model.value_bytes * self.parameters_of(unit))

    def cpu_s(self, unit: int) -> float:
        return self.update_s * self.parameters_of(unit)

    def device_s(self, unit: int) -> float:
        return self.device_update_s * self.parameters_of(unit)

    def moments_of(self, unit: int) -> float:
        """Bytes of Adam's moments, and of the fp32 weights beside bf16 ones."""
        return float((MOMENTS + (4 if self.model.value_bytes == 2 else 0)) * self.parameters_of(unit))
