"""The machine and the links that a measured run had, as an experiment and a profile to simulate it with.

Software costs of a profile are those of ranks that have a core each; here they are brought to the run's own crowding.
"""

from __future__ import annotations

import dataclasses

from simulator.observe import Run
from simulator.paced import on_device
from simulator.profile import Cost, LinkFit, NetworkFit, Profile
from toolkit.experiment import Experiment


def where_it_ran(run: Run, profile: Profile) -> tuple[Experiment, Profile]:
    """The run's experiment and the profile, both as on the machine that it was measured on."""
    if run.paced:
        profile = on_device(run.experiment, profile, str(run.folder / "config.toml"))
    if run.hosts == 1:
        return run.experiment, on_host_of(run, profile)
    assert profile.links is not None
    return on_links(run, profile.links), between_hosts(run, profile, profile.links)


def on_host_of(run: Run, profile: Profile) -> Profile:
    """The profile with software costs of exchanges as they are when this run's ranks share the cores."""
    network = profile.network
    if network is None:
        return profile
    shared = dataclasses.replace(
        network,
        latency_s=network.latency_s * run.stretch,
        bandwidth=network.bandwidth / run.stretch,
        call_s=network.call_s * run.stretch,
        coordinate_s=network.coordinate_s * run.stretch,
    )
    return dataclasses.replace(profile, network=shared)


def on_links(run: Run, links: LinkFit) -> Experiment:
    """The run's experiment with the rates that payloads really get, and the latency that messages really have."""
    experiment = run.experiment
    slow = [
        {"host": row.host, "bandwidth": _payload_rate(row.bandwidth, links, run.stretch)}
        for row in experiment.faults.slow_link
    ]
    cluster = {
        "bandwidth": _payload_rate(experiment.cluster.bandwidth, links, run.stretch),
        "latency": links.latency_s * run.stretch,
    }
    return experiment.replace(cluster=cluster, faults={"slow_link": slow})


def _payload_rate(rate: float, links: LinkFit, stretch: float) -> float:
    return 1.0 / (1.0 / (rate * links.efficiency) + links.byte_s * stretch)


def between_hosts(run: Run, profile: Profile, links: LinkFit) -> Profile:
    """The profile with its costs as they are when this run's ranks share the machine's cores.

    A host of an emulated cluster has no cores of its own, so the crowding is that of the machine, not of [cluster].
    """
    crowd = run.stretch / max(1.0, float(profile.host.get("ranks", 1)) / float(profile.host.get("cores", 1) or 1))
    software = (links.call_s * run.stretch, links.coordinate_s * run.stretch)
    network = NetworkFit(links.latency_s, run.link_rate, links.cycle_s, *software)
    compute = 1.0 if run.paced else crowd
    layers = tuple(
        dataclasses.replace(layer, forward_s=layer.forward_s * compute, backward_s=layer.backward_s * compute)
        for layer in profile.layers
    )
    return dataclasses.replace(
        profile,
        layers=layers,
        data_s=profile.data_s * compute,
        compress=_times(profile.compress, crowd),
        merge=_times(profile.merge, crowd),
        optimize=_times(profile.optimize, crowd),
        step_s=profile.step_s * crowd,
        network=network,
        host={**profile.host, "ranks": 1, "cores": 1},
    )


def _times(costs: dict[str, Cost], factor: float) -> dict[str, Cost]:
    return {
        name: Cost(cost.call_s * factor, cost.element_s * factor, cost.entry_s * factor) for name, cost in costs.items()
    }
