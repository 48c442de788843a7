"""An asynchronous run is validated like any other; one of several phases is refused with a reason."""

import dataclasses

import pytest

from simulator import validate
from simulator.job import run_plan
from simulator.observe import load_run
from simulator.plan import build
from simulator.profile import NetworkFit
from simulator.run import save_trace
from toolkit.errors import UserError
from toolkit.experiment import dump


@pytest.fixture
def recorded(make_plan, tmp_path):
    """A simulated run on one host, written like a real one: (folder, the profile that it was made with)."""

    def record(**sync):
        cluster = {"workers": 4, "workers_per_host": 4, "cores_per_host": 4}
        plan = make_plan({"compute_cv": 0.1}, cluster=cluster, sync=sync, run={"steps": 60})
        network = NetworkFit(5e-6, 5e9, 1e-3, 0.0, 0.0)
        profile = dataclasses.replace(plan.profile, network=network, host={"cores": 4, "ranks": 4, "hosts": 1})
        plan = build(plan.experiment, profile, host_network=True)
        spans = []
        run_plan(plan, 7, sink=spans.append)
        save_trace(tmp_path, plan, spans)
        (tmp_path / "config.toml").write_text(dump(plan.experiment))
        return load_run(tmp_path), profile

    return record


@pytest.mark.parametrize("sync", [{"policy": "asp"}, {"policy": "ssp", "staleness": 1}])
def test_an_asynchronous_run_is_predicted_back(recorded, sync):
    run, profile = recorded(**sync)
    row = validate.compare(run, profile, False)
    assert abs(row.error) < 0.02
    assert row.bytes_predicted == pytest.approx(row.bytes_measured, rel=1e-6)
    assert row.label.endswith(sync["policy"])


def test_a_run_of_several_phases_is_refused(recorded):
    run, profile = recorded(policy="switch", switch_at=0.0)
    with pytest.raises(UserError, match="has several phases"):
        validate.compare(run, profile, False)
