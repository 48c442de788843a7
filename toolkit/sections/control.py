"""[control]: the controller of batch size and compression rate; simulated by `study stellatrain`."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.keys import key


@dataclass(frozen=True)
class ControlSection:
    name: str = key("none", "who adapts batches and rate to the network", choices=("none", "stellatrain"))
    every: int = key(100, "iterations between two decisions", low=1)
    delay: int = key(3, "iterations until a decision holds, at the earliest", low=0)
    cv_weight: float = key(0.1, "lambda: weight of the workers' unequal times in the objective", low=0.0)
    penalty: str = key("", "profile of the loss that compression and batch cost, as 'toolkit penalty' writes it")
