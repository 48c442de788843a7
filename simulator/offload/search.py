"""Searches over cases: the fastest window of a model, the largest model of a method."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from simulator.offload.case import MOST_LAYERS, Case
from toolkit.policies.window import LayerTimes, WindowChoice, choose_window

MOST = 40  # windows that are tried
SAME = 1e-9  # relative: times that differ by rounding only


def windows(case: Case) -> list[int]:
    """The windows that fit, or [0] for a method that has none but fits; at most MOST of them, evenly spread.

    The device's need rises with the window and the host's falls: what fits lies between two bounds.
    """
    if not case.method.windowed:
        return [] if case.over else [0]
    fitting = [w for w in range(1, case.model.layers + 1) if not case.replace(window=w).over]
    if len(fitting) <= MOST:
        return fitting
    return [fitting[round(i * (len(fitting) - 1) / (MOST - 1))] for i in range(MOST)]


@lru_cache(maxsize=256)
def fastest(case: Case) -> Case | None:
    """The case with the window whose iteration is shortest, the smallest of equals; None where none fits."""
    best: tuple[float, Case] | None = None
    for window in windows(case):
        candidate = case.replace(window=window)
        seconds = candidate.run().seconds
        if best is None or seconds < best[0] * (1 - SAME):
            best = (seconds, candidate)
    return best[1] if best else None


def chosen(case: Case) -> Case:
    """The case with a window: its own, or the fastest where it says 0; a method without one as it is.

    Where none fits it is a window of 1, which needs the least of the device: `run` says what stands in the way.
    """
    if case.settings.window or not case.method.windowed:
        return case
    return fastest(case) or case.replace(window=1)


def largest(case: Case) -> int:
    """Layers of the deepest model that fits with the case's window, or with any where it has none; 0: not even one."""

    def fits(layers: int) -> bool:
        deep = case.replace(layers=layers)
        if case.method.windowed and not case.settings.window:
            return _any_window(deep)
        return not deep.over

    return _last(fits, MOST_LAYERS)


def _any_window(case: Case) -> bool:
    """Whether some window fits. Device memory rises with the window and the host's falls: the widest decides."""
    budget = case.budget

    def on_device(window: int) -> bool:
        return case.replace(window=window).footprint.total("device") <= budget["device"]

    window = _last(on_device, case.model.layers)
    return window > 0 and not case.replace(window=window).over


def _last(fits: Callable[[int], bool], most: int) -> int:
    """The largest number in 1..most that fits, 0 where 1 does not; what does not fit never fits again above it."""
    low, high = 0, most + 1
    step = 1
    while low + step < high and fits(low + step):
        low, step = low + step, 2 * step
    high = min(high, low + step)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def by_policy(case: Case) -> WindowChoice | None:
    """What the published rule would choose from the machine's rates; None where no window fits."""
    job, layers = case.job, case.model.layers

    def each(seconds: float) -> list[float]:
        return [seconds] * layers

    times = LayerTimes(
        forward=each(job.forward_s),
        backward=each(3 * job.forward_s),
        to_device=each(job.bytes_of(0) / case.machine.to_device),
        to_host=each(job.bytes_of(0) / case.machine.to_host),
        update=each(job.cpu_s(0)),
    )

    def fits(window: int) -> bool:
        return not case.replace(window=window).over

    first = next((w for w in range(1, layers + 1) if fits(w)), 0)
    if not first:
        return None
    choice = choose_window(times, lambda w: w < first or fits(w))
    return WindowChoice(max(choice.window, first), choice.unmet)
