"""[optimizer]: the step that is taken, and its learning rate over time."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit import registry
from toolkit.keys import key

AGES = ("step", "element")


@dataclass(frozen=True)
class OptimizerSection:
    name: str = key("sgd", "optimizer", choices=registry.OPTIMIZERS)
    learning_rate: float = key(0.1, "step size", above=0.0)
    momentum: float = key(0.9, "momentum of sgd", low=0.0, high=1.0)
    nesterov: bool = key(False, "Nesterov's momentum")
    lazy_decay: bool = key(False, "sparse-sgd: momentum also decays for the steps in which a coordinate was not listed")
    beta1: float = key(0.9, "adam: decay of the mean of the gradient", low=0.0, high=0.999999)
    beta2: float = key(0.999, "adam: decay of the mean of its square", low=0.0, high=0.99999999)
    epsilon: float = key(1e-8, "adam: added to the root of the mean square", above=0.0)
    age: str = key("step", "sparse-adam: bias is corrected by steps or by a coordinate's updates", choices=AGES)
    weight_decay: float = key(0.0, "L2 penalty", low=0.0)
    milestones: tuple[float, ...] = key((), "epochs after which the learning rate is multiplied by gamma")
    gamma: float = key(0.1, "factor at each milestone", above=0.0)
    warmup_epochs: float = key(0.0, "epochs of linear learning-rate warm-up", low=0.0)
    clip_norm: float = key(0.0, "limit of the global gradient norm on each worker; 0 does not clip", low=0.0)
