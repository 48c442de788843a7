"""Max-min fair rates of flows over several bottlenecks.

Progressive filling (Bertsekas and Gallager, Data Networks, section 6.5.2): the most contended link fixes the rate of
its flows, then the rest is shared again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simulator.topology import Route


def max_min(routes: NDArray[np.int64], capacity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Max-min fair rates, bytes/s.

    routes: (flows, most links of one) link numbers, -1 where a flow has fewer; capacity: (links,) bytes/s.
    """
    rates = np.zeros(len(routes))
    left = np.append(capacity.astype(float), float("inf"))  # the last link, that of -1, is never full
    open_flows = np.ones(len(routes), dtype=bool)
    while open_flows.any():
        load = np.bincount(routes[open_flows].ravel() % len(left), minlength=len(left))
        share = np.full(len(left), float("inf"))
        np.divide(left, load, out=share, where=load > 0)
        level = share.min()
        fixed = open_flows & (share <= level * (1 + 1e-12))[routes].any(axis=1)
        rates[fixed] = level
        left -= level * np.bincount(routes[fixed].ravel() % len(left), minlength=len(left))
        open_flows &= ~fixed
    return rates


def few_max_min(routes: Sequence[Route], capacity: list[float]) -> list[float]:
    """The same as `max_min` for a few flows, without the cost of arrays."""
    load: dict[int, int] = {}
    for route in routes:
        for link in route:
            load[link] = load.get(link, 0) + 1
    left = {link: capacity[link] for link in load}
    rates, unfixed = [0.0] * len(routes), list(range(len(routes)))
    while unfixed:
        level = min(left[link] / number for link, number in load.items() if number)
        full = {link for link, number in load.items() if number and left[link] / number <= level * (1 + 1e-12)}
        fixed = [i for i in unfixed if not full.isdisjoint(routes[i])]
        for i in fixed:
            rates[i] = level
            for link in routes[i]:
                left[link] -= level
                load[link] -= 1
        unfixed = [i for i in unfixed if full.isdisjoint(routes[i])]
    return rates
