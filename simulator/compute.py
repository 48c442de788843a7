"""Profiles without a measurement: from a network's FLOPs and a device's rate, with every assumption in one place.

Forward and backward of a tensor are those of toolkit.policies.devices. Compression, merging and optimizing are bound by
memory: passes over the vector, and a cache line for each entry that is scattered.
"""

from __future__ import annotations

from pathlib import Path

from simulator.profile import Cost, Layer, Profile
from toolkit import registry
from toolkit.policies.devices import NETWORKS, Device, inputs_of, layer_times

LINE = 64.0  # bytes of a cache line, what a scattered access costs
WORD = 4.0  # bytes of a value

# Passes of 4 bytes over the vector, with error feedback (read the gradient, read and write the residual = 3).
COMPRESS_PASSES = {"none": 2.0, "fp16": 1.5, "topk": 10.0, "randomk": 3.0, "randomk-independent": 3.0, "threshold": 4.0}
SIDCO_PASSES = {"sidco-e": 5.0, "sidco-p": 5.0, "sidco-gp": 9.0}  # gp: a logarithm an element
OTHER_PASSES = 6.0
OPTIMIZE_PASSES = {"sgd": 5.0, "adam": 7.0, "adamw": 7.0}  # all others touch listed entries only
EXAMPLES = {"digits": 1438, "mnist": 60_000, "cifar10": 50_000, "imagefolder": 1_281_167}
TOKENS = {"ptb": 929_589, "pysource": 1_600_000}  # characters or words of the training part


def examples_of(data: str, sequence: int) -> int:
    """Training examples of a data set: pictures, or windows of `sequence` characters or words."""
    return EXAMPLES[data] if data in EXAMPLES else max(1, TOKENS[data] // sequence)


def memory_costs(device: Device) -> tuple[dict[str, Cost], dict[str, Cost], dict[str, Cost]]:
    """compress, merge and optimize costs of a device whose memory is the limit."""
    word, line = WORD / device.memory_bandwidth, LINE / device.memory_bandwidth
    passes = COMPRESS_PASSES | SIDCO_PASSES
    compress = {
        name: Cost(device.launch_s, passes.get(name, OTHER_PASSES) * word, 0.0 if entry.wire == "dense" else 2 * word)
        for name, entry in registry.COMPRESSORS.items()
    }
    merge = {"dense": Cost(device.launch_s, 2 * word, 0.0), "sparse": Cost(device.launch_s, word, line)}
    optimize = {
        name: Cost(device.launch_s, OPTIMIZE_PASSES.get(name, 0.0) * word, 0.0 if name in OPTIMIZE_PASSES else 2 * line)
        for name in registry.OPTIMIZERS
    }
    return compress, merge, optimize


def derive(
    model: str,
    batch_size: int,
    examples: int,
    device: Device,
    folder: Path = NETWORKS,
    times: float = 1.0,
    saturating: float = 0.0,
) -> Profile:
    """A profile from the network's layer table and the device's rate; `times` multiplies the table's FLOPs.

    saturating: examples below which the device is no faster.
    """
    rows = layer_times(model, max(batch_size, saturating), device, scale=times, folder=folder)
    layers = [Layer(row.name, row.elements, row.forward_s, row.backward_s, row.shape) for row in rows]
    compress, merge, optimize = memory_costs(device)
    return Profile(
        model,
        batch_size,
        "derived",
        examples,
        tuple(layers),
        saturating_batch=saturating,
        compress=compress,
        merge=merge,
        optimize=optimize,
        host={
            "device": device.name,
            "network": f"exp_configs/networks/{model}.csv",
            "data": inputs_of(model, folder)[0],
        },
    )
