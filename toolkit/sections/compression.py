"""[compression]: what of a gradient is sent, and how it travels."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit import registry
from toolkit.keys import key


@dataclass(frozen=True)
class CompressionSection:
    name: str = key("none", "compressor", choices=registry.COMPRESSORS)
    density: float = key(0.01, "share of the gradient that is sent", above=0.0, high=1.0)
    granularity: str = key("merged", "what is compressed as one vector", choices=("layer", "merged", "model"))
    merge_elements: int = key(1_000_000, "merged: neighbouring tensors are joined up to this many elements", low=1)
    exchange: str = key("auto", "how payloads travel", choices=("auto", *registry.EXCHANGES))
    wire_indices: str = key("int32", "indices on the wire: whole, or gaps of a byte or two", choices=("int32", "delta"))
    wire_values: str = key(
        "fp32", "values on the wire; bf16's rounding stays in the residual", choices=("fp32", "bf16")
    )
    bypass: str = key("off", "auto sends a bucket whole where that is cheaper on [cluster]", choices=("off", "auto"))
    rank: int = key(4, "powersgd: rank of the factors", low=1)
    error_feedback: bool = key(True, "keep what was not sent and add it to the next gradient")
    residual: str = key("fp32", "how it is stored; bf16: half the memory, rounded at random", choices=("fp32", "bf16"))
    gradient_weight: float = key(1.0, "w_g: weight of gradient + residual in the new residual", low=0.0)
    memory_weight: float = key(0.0, "w_m: weight of the old residual in the new one", low=0.0)
    stages: int = key(0, "SIDCo: fixed number of fitting stages; 0 adapts it", low=0, high=32)
    first_ratio: float = key(0.25, "SIDCo: ratio of the first stage", above=0.0, high=1.0)
    adapt_every: int = key(5, "SIDCo: calls over which the achieved ratio is averaged", low=1)
    tolerance: float = key(0.2, "SIDCo: allowed relative error of the achieved ratio", above=0.0, high=1.0)
    threshold: float = key(1e-3, "threshold: entries with a magnitude above it are sent", low=0.0)
    dense_steps: int = key(0, "send everything for this many first steps", low=0)
    warmup_epochs: int = key(0, "DGC's warm-up: density^((e+1)/(E+1)) in epoch e of E", low=0)
    momentum: float = key(0.0, "DGC's momentum correction, in place of the optimizer's momentum", low=0.0, high=1.0)
    nesterov: bool = key(False, "Nesterov's form of the momentum correction")
    clip_norm: float = key(0.0, "DGC: limit of a bucket's norm, times sqrt(1/workers); 0 does not clip", low=0.0)
    threads: int = key(1, "threads a kernel may use", low=1, high=256)
