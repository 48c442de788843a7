"""Thresholds of stages that follow one another, and the samples they are predicted from; see cext.reference."""

from __future__ import annotations

from collections.abc import Sequence

from cext.levels import _kernels
from cext.moments_type import Predicted, StageFit
from cext.places import Vector


def sample(gradient: Vector | None, x: Vector, out: Vector, groups: int = 1) -> int:
    """Copies len(out) // 32 jittered grains of 32 elements of x, or of gradient + x; returns the elements copied."""
    count: int = _kernels.sample(gradient, x, out, groups)
    return count


def sample_strided(gradient: Vector | None, x: Vector, start: int, stride: int, out: Vector, threads: int = 1) -> None:
    """out[:] = x[start::stride][:len(out)], or the same of gradient + x."""
    _kernels.sample_strided(gradient, x, start, stride, out, threads)


def predict_stages(
    sample: Vector, groups: int, stages: Sequence[StageFit], width: float, fewest: int
) -> Predicted | None:
    """Brackets around the thresholds of stages that follow one another, as a sample of the vector tells them."""
    found = _kernels.predict_stages(sample, groups, stages, width, fewest)
    return None if found is None else Predicted(*found)


def stages_workspace(n: int) -> int:
    """Bytes (uint8 elements) of workspace that select_stages of n elements needs."""
    size: int = _kernels.stages_workspace(n)
    return size


def select_stages(
    gradient: Vector | None,
    x: Vector,
    stages: Sequence[StageFit],
    sums: int,
    indices: Vector,
    values: Vector,
    workspace: Vector,
) -> tuple[int, float, float]:
    """x += gradient, if there is one; then the entries above the last stage's threshold: how many, it, and sum |x|."""
    count, threshold, sum_abs = _kernels.select_stages(gradient, x, stages, sums, indices, values, workspace)
    return count, threshold, sum_abs
