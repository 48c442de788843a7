"""How a payload travels between workers and how the received ones are merged, in rank order, into one gradient."""

from __future__ import annotations

from toolkit.comm import Communicator
from toolkit.exchange.base import Exchange, Pending
from toolkit.exchange.wire import Wire
from toolkit.registry import EXCHANGES, resolve

__all__ = ["Exchange", "Pending", "Wire", "create"]


def create(name: str, comm: Communicator, wire: Wire | None = None) -> Exchange:
    """The exchange that is registered under `name`; dense ones take no notice of `wire`."""
    exchange: Exchange = resolve(EXCHANGES[name].target)(comm, wire or Wire())
    return exchange
