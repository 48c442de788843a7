"""Learning in simulated time against a real job: the same losses to float tolerance."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.parallel, pytest.mark.timeout(150)]


@pytest.mark.parametrize("overrides", [(), ("compression.name=topk", "cluster.bandwidth=1 Mbit/s")])
def test_a_real_bsp_run_has_the_losses_of_its_simulation(train, overrides):
    from simulator.learning.run import learn
    from simulator.plan import build
    from simulator.profile import Cost, Layer, Profile
    from toolkit.experiment import load

    real = train(3, *overrides, "run.steps=25")["training"]
    experiment = load("tests/parallel/small.toml", [*overrides, "cluster.workers=3", "run.steps=25"])
    sizes = (64 * 32, 32, 32 * 32, 32, 32 * 10, 10)
    layers = tuple(Layer(f"layer{i}", size, 1e-3, 2e-3) for i, size in enumerate(sizes))
    costs = {name: Cost(1e-5) for name in ("none", "topk", "dense", "sparse", "sgd")}
    profile = Profile("fcn5", 16, "measured", 1437, layers, compress=costs, merge=costs, optimize=costs)
    virtual = learn(experiment, build(experiment, profile))["training"]
    assert virtual["losses"] == pytest.approx(real["losses"], rel=1e-4)
    assert virtual["loss"] == pytest.approx(real["loss"], rel=1e-3)
