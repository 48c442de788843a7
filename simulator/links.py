"""What a link's rate in the experiment file comes to for payloads, where links were measured."""

from __future__ import annotations

import dataclasses

from simulator.profile import LinkFit
from simulator.topology import Topology


def payload_rates(topology: Topology, links: LinkFit) -> Topology:
    """The topology with rates at which payloads pass: headers take their share, software its seconds a byte."""
    return dataclasses.replace(
        topology,
        bandwidth=payload_rate(topology.bandwidth, links),
        host_bandwidths=tuple(payload_rate(rate, links) for rate in topology.host_bandwidths),
    )


def payload_rate(rate: float, links: LinkFit) -> float:
    """bytes/s of payload on a link of `rate` bytes/s."""
    return 1.0 / (1.0 / (rate * links.efficiency) + links.byte_s)
