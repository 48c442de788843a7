"""f(x) = min(beta x / alpha, beta): below alpha examples a device goes no faster (StellaTrain, SIGCOMM 2024)."""

import json

import pytest

from simulator.job import simulate
from simulator.plan import build
from simulator.profile import from_json
from toolkit.experiment import Experiment
from toolkit.policies.control import Worker

ALPHA = 32


def computing(batch, profile=None, alpha=ALPHA, **run):
    experiment = Experiment().replace(
        model={"name": "vgg16"}, data={"batch_size": batch}, cluster={"workers": 1, "saturating_batch": alpha}, run=run
    )
    plan = build(experiment, profile)
    return plan.forward_s + plan.backward_s


def test_a_derived_network_follows_the_law():
    full = computing(ALPHA)
    worker = Worker(ALPHA, ALPHA / full)
    for batch in (1, 8, 16, 31, 32, 64, 256):
        launch = computing(1, alpha=0) * 2 - computing(2, alpha=0)  # starting operators, whatever the batch
        assert computing(batch) - launch == pytest.approx(worker.seconds(batch) * (full - launch) / full, rel=1e-9)


@pytest.mark.parametrize("measured_at", [8, 32, 64])
def test_a_measured_profile_follows_the_law_from_wherever_it_was_measured(measured_at):
    experiment = Experiment().replace(model={"name": "lenet"}, data={"batch_size": measured_at})
    profile = build(experiment).profile
    times = {batch: computing_of(profile, batch) for batch in (4, 16, 32, 64, 128)}
    assert times[4] == times[16] == times[32]
    assert times[64] == pytest.approx(2 * times[32])
    assert times[128] == pytest.approx(4 * times[32])


def computing_of(profile, batch):
    keys = {"batch_size": batch}
    experiment = Experiment().replace(model={"name": "lenet"}, data=keys, cluster={"saturating_batch": ALPHA})
    plan = build(experiment, profile)
    return plan.forward_s + plan.backward_s


def test_without_the_key_every_example_costs_the_same():
    times = [computing(batch, alpha=0.0) for batch in (8, 16, 32)]
    assert times[2] - times[1] == pytest.approx(2 * (times[1] - times[0]))


def test_below_alpha_throughput_is_in_proportion_to_the_batch():
    def rate(batch):
        cluster = {"workers": 1, "saturating_batch": 64.0}
        experiment = Experiment().replace(data={"batch_size": batch}, cluster=cluster, run={"steps": 3})
        return simulate(experiment).samples_per_s

    assert rate(8) == pytest.approx(rate(64) / 8)


def test_the_law_stands_in_the_profiles_file():
    experiment = Experiment().replace(model={"name": "lenet"}, cluster={"saturating_batch": 7.0})
    profile = build(experiment).profile
    assert profile.saturating_batch == 7.0
    assert from_json(json.loads(json.dumps(profile.to_json())), "p") == profile
