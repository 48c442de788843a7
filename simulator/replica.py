"""The machine and the links that a measured run had, as an experiment and a profile to simulate it with.

Software costs of a profile are those of ranks that have a core each; here they are brought to the run's own crowding.
"""

from __future__ import annotations

import dataclasses

from simulator.observe import Run
from simulator.paced import on_device
from simulator.profile import Cost, LinkFit, Profile
from toolkit.experiment import Experiment


def where_it_ran(run: Run, profile: Profile) -> tuple[Experiment, Profile]:
    """The run's experiment and the profile, both as on the machine that it was measured on."""
    if run.paced:
        profile = on_device(run.experiment, profile, str(run.folder / "config.toml"))
    if run.hosts == 1 or profile.links is None:
        return run.experiment, on_host_of(run, profile)
    links = crowded(profile.links, run.stretch)
    experiment = run.experiment.replace(cluster={"latency": links.latency_s})
    return experiment, between_hosts(run, dataclasses.replace(profile, links=links))


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


def crowded(links: LinkFit, stretch: float) -> LinkFit:
    """Links whose software runs on cores that ranks share."""
    return dataclasses.replace(
        links,
        latency_s=links.latency_s * stretch,
        call_s=links.call_s * stretch,
        coordinate_s=links.coordinate_s * stretch,
        byte_s=links.byte_s * stretch,
    )


def between_hosts(run: Run, profile: Profile) -> Profile:
    """The profile with its costs as they are when this run's ranks share the machine's cores.

    A host of an emulated cluster has no cores of its own, so the crowding is that of the machine, not of [cluster].
    """
    crowd = run.stretch / max(1.0, float(profile.host.get("ranks", 1)) / float(profile.host.get("cores", 1) or 1))
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
        host={**profile.host, "ranks": 1, "cores": 1},
    )


def _times(costs: dict[str, Cost], factor: float) -> dict[str, Cost]:
    return {
        name: Cost(cost.call_s * factor, cost.element_s * factor, cost.entry_s * factor) for name, cost in costs.items()
    }
