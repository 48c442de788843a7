"""What the methods' releases cost on STRONGHOLD's test machine, derived from its logged 32-layer runs and no others.

Source: the released artifact of Sun et al., STRONGHOLD (SC 2022), runs of 2 July 2022: one V100 with 32 GB, 12 cores,
GPT with hidden 2048, 16 heads, sequence 1024, batch 4, vocabulary 50304, fp32, recomputation a layer. Each constant
below is one logged figure solved for it; how, stands beside it. The other layer counts and windows are predicted.
"""

from __future__ import annotations

from dataclasses import dataclass

from simulator.offload.transformer import Transformer

DEVICE = "v100-32g"
LAYERS, WINDOW = 32, 15
MODEL = Transformer(hidden=2048, layers=LAYERS, heads=16, vocabulary=50304, sequence=1024, batch=4)
HOST_BANDWIDTH = 60e9  # bytes/s of the test machine's host, as in machines.toml: other hosts are scaled by theirs
MIB = 2.0**20


@dataclass(frozen=True)
class Breakdown:
    """Logged seconds of an iteration, mean of ten."""

    forward: float
    backward: float
    step: float
    total: float


LOGGED = {
    "megatron-lm": Breakdown(1.312, 3.904, 0.097, 5.339),
    "zero-offload": Breakdown(1.193, 4.308, 5.241, 10.740),
    "zero-infinity": Breakdown(1.804, 5.093, 4.226, 11.108),
    "l2l": Breakdown(4.268, 15.704, 2.815, 22.823),  # warm: iterations 41 to 50
    "l2l, first ten": Breakdown(6.869, 16.241, 5.477, 28.715),
}
STRONGHOLD_S = 5.964  # an iteration of stronghold, 32 layers, window 15, iterations 41 to 50

# MiB that the frameworks logged after ten iterations of 32 layers: most allocated, and reserved
MEGATRON_ALLOCATED, MEGATRON_RESERVED = 29775.0, 29928.0
ZERO_OFFLOAD_ALLOCATED, ZERO_OFFLOAD_RESERVED = 10360.0, 20720.0
ZERO_INFINITY_ALLOCATED = 4972.0
L2L_ALLOCATED, L2L_RESERVED = 10786.0, 15412.0
STRONGHOLD_ALLOCATED = 23593.0


@dataclass(frozen=True)
class Copying:
    """Bytes/s of l2l's copies, out of pageable memory and in the way of the compute: forward, backward."""

    forward: float
    backward: float


@dataclass(frozen=True)
class Release:
    """What a method's release costs.

    speed: of its compute over Megatron-LM's. update_s: seconds of the whole CPU a parameter, on the test machine.
    logits: copies of the logits in its workspace. gap_s: seconds a layer's fetch in backward waits for its software.
    kept: bytes a byte of the layers' weights that its allocator holds on the device beside what is in use.
    """

    speed: float = 1.0
    update_s: float = 0.0
    logits: float = 0.0
    gap_s: float = 0.0
    copying: Copying | None = None
    kept: float = 0.0


P, BYTES = MODEL.parameters, float(4 * MODEL.parameters)


def compute_rate() -> float:
    """flop/s: Megatron-LM's forward and backward, which nothing else disturbs."""
    logged = LOGGED["megatron-lm"]
    return (MODEL.forward_flops + MODEL.backward_flops) / (logged.forward + logged.backward)


def device_update_s() -> float:
    """Seconds a parameter of Adam on the device, with all that is neither forward nor backward."""
    logged = LOGGED["megatron-lm"]
    return (logged.total - logged.forward - logged.backward) / P


def deepspeed_rate() -> float:
    """flop/s of the DeepSpeed fork's forward: ZeRO-Offload moves nothing in it."""
    return MODEL.forward_flops / LOGGED["zero-offload"].forward


def to_host_rate() -> float:
    """bytes/s to the host: what ZeRO-Offload's backward takes beyond its compute moves every gradient once."""
    return BYTES / (LOGGED["zero-offload"].backward - MODEL.backward_flops / deepspeed_rate())


def to_device_rate() -> float:
    """bytes/s to the device: ZeRO-Infinity's forward beyond ZeRO-Offload's moves every weight once."""
    return BYTES / (LOGGED["zero-infinity"].forward - LOGGED["zero-offload"].forward)


def zero_offload() -> Release:
    """Its step updates on the CPU and copies the weights back."""
    update = (LOGGED["zero-offload"].step - BYTES / to_device_rate()) / P
    copies, kept = workspace(ZERO_OFFLOAD_ALLOCATED * MIB - BYTES), left(ZERO_OFFLOAD_RESERVED, ZERO_OFFLOAD_ALLOCATED)
    return Release(deepspeed_rate() / compute_rate(), update, copies, kept=kept)


def zero_infinity() -> Release:
    """Its backward fetches weights, computes, moves gradients to the host; what is left is the gap of each fetch."""
    logged = LOGGED["zero-infinity"]
    moved = BYTES / to_device_rate() + BYTES / to_host_rate()
    gap = (logged.backward - MODEL.backward_flops / deepspeed_rate() - moved) / (LAYERS + 1)
    held = 2 * MODEL.other_bytes + 2 * MODEL.layer_bytes  # the embedding and a layer, weights and gradients
    copies = workspace(ZERO_INFINITY_ALLOCATED * MIB - held)
    return Release(deepspeed_rate() / compute_rate(), logged.step / P, copies, gap)


def l2l(which: str = "l2l") -> Release:
    """Each pass copies every layer in and out; the step moves the gradients to the host and updates there."""
    logged, moved = LOGGED[which], 2 * LAYERS * MODEL.layer_bytes
    forward = moved / (logged.forward - MODEL.forward_flops / compute_rate())
    backward = moved / (logged.backward - MODEL.backward_flops / compute_rate())
    update = (logged.step - BYTES / to_host_rate()) / P
    held = BYTES + MODEL.layer_bytes + MODEL.other_bytes  # gradients, one layer, the embedding
    copies, kept = workspace(L2L_ALLOCATED * MIB - held), left(L2L_RESERVED, L2L_ALLOCATED)
    return Release(1.0, update, copies, copying=Copying(forward, backward), kept=kept)


def megatron_lm() -> Release:
    """16 bytes a parameter beside activations."""
    kept = left(MEGATRON_RESERVED, MEGATRON_ALLOCATED)
    return Release(logits=workspace(MEGATRON_ALLOCATED * MIB - 16 * P), kept=kept)


def stronghold() -> Release:
    """Its update is the one constant that needs the schedule: `fit_update` of case.py solves the logged run for it."""
    held = 16 * MODEL.other_parameters + 8 * MODEL.layer_parameters * (min(2 * WINDOW, LAYERS) + WINDOW)
    return Release(1.0, STRONGHOLD_UPDATE_S, workspace(STRONGHOLD_ALLOCATED * MIB - held))


STRONGHOLD_UPDATE_S = 4.442e-9  # seconds of the whole CPU a parameter


def workspace(size: float) -> float:
    """Copies of the logits in `size` bytes, which also hold the checkpoints and one layer's activations."""
    return (size - LAYERS * MODEL.checkpoint_bytes - MODEL.working_bytes) / MODEL.logits_bytes


def left(reserved: float, allocated: float) -> float:
    """What the allocator keeps of all layers' weights, from MiB reserved and most allocated.

    These releases build, move or flatten every layer's weights on the device before they train: blocks that no
    activation fits stay behind. So it grows with the layers; one run does not show that, a rule has to be chosen.
    """
    return (reserved - allocated) * MIB / (LAYERS * MODEL.layer_bytes)


RELEASES = {
    "megatron-lm": megatron_lm(),
    "l2l": l2l(),
    "zero-offload": zero_offload(),
    "zero-infinity": zero_infinity(),
    "stronghold": stronghold(),
}
FIRST_TEN = l2l("l2l, first ten")
