"""Runs whose compute was paced: their layer times are the device's own, all else is of the machine that ran them."""

from __future__ import annotations

import dataclasses

from simulator.compute import examples_of
from simulator.profile import Layer, Profile
from toolkit.experiment import Experiment
from toolkit.policies.devices import layer_times, load_device, table_scale


def device_layers(experiment: Experiment, source: str) -> tuple[Layer, ...]:
    """The layers that paced compute takes for an experiment; UserError where the device or network is unknown."""
    model, data = experiment.model, experiment.data
    device = load_device(experiment.cluster.device, f"{source}: [cluster] device")
    batch = max(data.batch_size, experiment.cluster.saturating_batch)
    rows = layer_times(model.name, batch, device, scale=table_scale(model, data, source))
    return tuple(Layer(row.name, row.elements, row.forward_s, row.backward_s) for row in rows)


def on_device(experiment: Experiment, profile: Profile, source: str) -> Profile:
    """A measured profile with the layers that paced compute takes for this experiment; it need not be of its network.

    Workers sleep, so nothing is known of how much their compute times would differ.
    """
    model, data = experiment.model.name, experiment.data
    layers = device_layers(experiment, source)
    return dataclasses.replace(
        profile,
        model=model,
        batch_size=data.batch_size,
        examples=profile.examples if profile.model == model else examples_of(data.name, data.sequence),
        layers=layers,
        data_s=0.0,
        step_s=profile.step_s + profile.step_element_s * sum(layer.elements for layer in layers),
        step_element_s=0.0,
        compute_cv=0.0,
        slice_s=0.0,
        fixed_share=0.0,
        saturating_batch=experiment.cluster.saturating_batch,
    )
