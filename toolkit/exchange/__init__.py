"""How a payload travels between workers and how the received ones are merged, in rank order, into one gradient."""

from __future__ import annotations

from toolkit.comm import Communicator
from toolkit.exchange.base import Exchange
from toolkit.registry import EXCHANGES, resolve

__all__ = ["Exchange", "create"]


def create(name: str, comm: Communicator) -> Exchange:
    """The exchange that is registered under `name`."""
    exchange: Exchange = resolve(EXCHANGES[name])(comm)
    return exchange
