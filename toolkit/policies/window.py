"""The working window of offloaded training: the fewest layers on the device that hide what moves behind compute.

Source: Sun et al., STRONGHOLD, SC 2022, section III-D; the conditions are our reconstruction of it. A few warm-up
iterations measure the times. With t_c2g, t_g2c the transfers of a layer to and from the device:
- forward: w layers' forward >= t_c2g + t_g2c + t_async,
- backward: w layers' backward >= t_g2c + t_opt + t_c2g + t_async,
- rate: a layer's backward >= t_c2g, t_g2c and t_opt each; what falls short of it no window can mend.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True)
class LayerTimes:
    """Seconds of each layer, (layers,) each; `call` is what starting an asynchronous transfer or update takes."""

    forward: Sequence[float]
    backward: Sequence[float]
    to_device: Sequence[float]
    to_host: Sequence[float]
    update: Sequence[float]
    call: float = 0.0

    def __post_init__(self) -> None:
        sizes = {len(x) for x in (self.forward, self.backward, self.to_device, self.to_host, self.update)}
        if len(sizes) != 1 or not self.forward:
            raise ValueError(f"times of {sorted(sizes)} layers: the same number of layers everywhere, at least 1")


@dataclass(frozen=True)
class WindowChoice:
    """window: layers. unmet: conditions that it does not meet ("forward", "backward"), and rates that none would."""

    window: int
    unmet: tuple[str, ...] = ()

    @property
    def hidden(self) -> bool:
        """Whether everything that moves is hidden behind compute."""
        return not self.unmet


def choose_window(times: LayerTimes, fits: Callable[[int], bool]) -> WindowChoice:
    """The smallest window that hides latencies; the widest that fits where none does. ValueError where 1 does not fit.

    fits: whether a window's memory does; a wider one never needs less.
    """
    layers = len(times.forward)
    if not fits(1):
        raise ValueError("not even a window of one layer fits")
    widest = 1
    while widest < layers and fits(widest + 1):
        widest += 1
    rates = unmendable(times)
    for window in range(1, widest + 1):
        if not _short(times, window):
            return WindowChoice(window, () if window == layers else rates)
    return WindowChoice(widest, _short(times, widest) + rates)


def unmendable(times: LayerTimes) -> tuple[str, ...]:
    """Rates at which something moves or updates a layer more slowly than its backward computes it."""
    names = (("rate of fetching", times.to_device), ("rate of writing back", times.to_host))
    return tuple(
        name
        for name, seconds in (*names, ("rate of updating", times.update))
        if any(s > b for s, b in zip(seconds, times.backward, strict=True))
    )


def _short(times: LayerTimes, window: int) -> tuple[str, ...]:
    """The conditions on latency that a window does not meet; nothing moves where it holds all layers."""
    if window >= len(times.forward):
        return ()
    moved = max(a + b for a, b in zip(times.to_device, times.to_host, strict=True)) + times.call
    updated = max(a + b + c for a, b, c in zip(times.to_device, times.to_host, times.update, strict=True)) + times.call
    short = []
    if _least(times.forward, window) < moved:
        short.append("forward")
    if _least(times.backward, window) < updated:
        short.append("backward")
    return tuple(short)


def _least(seconds: Sequence[float], window: int) -> float:
    """The least time that `window` layers in a row take."""
    sums = [0.0, *accumulate(seconds)]
    return min(sums[i + window] - sums[i] for i in range(len(seconds) - window + 1))
