"""NumPy references of the sparse optimizers: the arithmetic, one listed place at a time in the order of the list."""

from __future__ import annotations

import math

import numpy as np

from cext.places import Vector, check_places


def sparse_sgd(
    parameters: Vector,
    momentum_buffer: Vector | None,
    last_touched: Vector | None,
    indices: Vector | None,
    values: Vector,
    step: int,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    lazy_decay: bool = False,
    threads: int = 1,
) -> None:
    """SGD on the listed places (all of them without indices), in float32, in torch.optim.SGD's order.

    (StellaTrain, SIGCOMM 2024, CPU sparse optimizers.)

    g += weight_decay * p; b = g at the first touch (last_touched = -1), else b = momentum^a * b + (1 - dampening) * g
    with a = 1, or, with lazy_decay, the steps since that place was last touched; g = g + momentum * b with nesterov,
    else g = b; p -= lr * g; last_touched = step. Without last_touched every place counts as touched in the step before.
    ValueError before any write: an index outside [0, n), a step before a place's last touch, momentum without a buffer.
    """
    places = np.arange(len(parameters), dtype=np.int32) if indices is None else indices
    check_places(places, len(parameters))
    if momentum > 0 and momentum_buffer is None:
        raise ValueError("momentum needs momentum_buffer")
    if lazy_decay and last_touched is None:
        raise ValueError("lazy_decay needs last_touched")
    f32 = np.float32
    for i, v in zip(places.tolist(), values, strict=True):
        g = v
        if f32(weight_decay) != 0:
            g = g + f32(weight_decay) * parameters[i]
        if momentum > 0 and momentum_buffer is not None:
            b = g
            if last_touched is None or last_touched[i] != -1:
                age = step - int(last_touched[i]) if lazy_decay and last_touched is not None else 1
                b = f32(momentum**age) * momentum_buffer[i] + f32(1.0 - dampening) * g
            momentum_buffer[i] = b
            g = g + f32(momentum) * b if nesterov else b
        if last_touched is not None:
            last_touched[i] = step
        parameters[i] = parameters[i] - f32(lr) * g


def sparse_adam(
    parameters: Vector,
    moments: Vector,
    updates: Vector | None,
    indices: Vector | None,
    values: Vector,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    threads: int = 1,
) -> None:
    """Adam on the listed places (all of them without indices), in float32 (StellaTrain, SIGCOMM 2024).

    moments float32 (2n,): mean m and mean square v of a place beside each other. Per place:
    g += weight_decay * p, or with decoupled p *= 1 - lr * weight_decay (AdamW); m += (1 - beta1) * (g - m);
    v = beta2 * v + (1 - beta2) * g²; p -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon), with t the
    step, or, with updates int32 (n,), the number of updates of that place, which is counted up first.
    ValueError before any write: an index outside [0, n), step < 1, a beta outside [0, 1).
    """
    places = np.arange(len(parameters), dtype=np.int32) if indices is None else indices
    check_places(places, len(parameters))
    f32 = np.float32
    for i, g in zip(places.tolist(), values, strict=True):
        age = step
        if updates is not None:
            updates[i] += 1
            age = int(updates[i])
        rate, root = f32(lr / (1.0 - beta1**age)), f32(1.0 / math.sqrt(1.0 - beta2**age))
        p, m, v = parameters[i], moments[2 * i], moments[2 * i + 1]
        if f32(weight_decay) != 0 and not decoupled:
            g = g + f32(weight_decay) * p
        m = m + f32(1.0 - beta1) * (g - m)
        v = f32(beta2) * v + f32(1.0 - beta2) * (g * g)
        moments[2 * i], moments[2 * i + 1] = m, v
        shrink = f32(1.0 - lr * weight_decay) if decoupled else f32(1.0)
        parameters[i] = shrink * p - rate * (m / (np.sqrt(v) * root + f32(epsilon)))
