"""[run]: how long, and with which seed."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.keys import key


@dataclass(frozen=True)
class RunSection:
    seed: int = key(1, "seed of weights, data order and random compressors", low=0, high=2**31 - 1)
    steps: int = key(0, "optimizer steps; 0 trains for `epochs`", low=0)
    epochs: int = key(1, "passes over the data, where steps = 0", low=1)
    evaluate_every: int = key(0, "steps between evaluations; 0 evaluates at the end only", low=0)
    compute: str = key(
        "real",
        "real, or paced: forward and backward take [cluster] device's time without computing (nothing is learned)",
        choices=("real", "paced"),
    )
