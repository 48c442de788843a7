"""Runs between hosts: their constants are found again, and paced runs of one network predict those of another."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json

import numpy as np
import pytest

from simulator import validate
from simulator.calibrate import calibrate
from simulator.exchanged import Exchanged
from simulator.job import run_plan
from simulator.linkfit import EFFICIENCY, fit_links
from simulator.netfit import messages_and_bytes
from simulator.observe import load_run
from simulator.paced import on_device
from simulator.plan import build
from simulator.profile import Cost, LinkFit, Profile, from_json
from simulator.replica import where_it_ran
from simulator.run import save_trace
from toolkit.errors import UserError
from toolkit.experiment import Experiment, dump

LINKS = LinkFit(1.2e-4, EFFICIENCY, 1e-3, call_s=2e-4, coordinate_s=6e-4, byte_s=1.5e-10)


def exchanges(links: LinkFit, factor: float) -> list[Exchanged]:
    """Exchanges that take exactly what the law says, of ranks that share cores `1 / factor` to one."""
    found = []
    for workers in (2, 3, 4):
        for rate in (6.25e6, 25e6, 125e6):
            for size in (20_000, 400_000, 5_000_000):
                for wire in ("dense", "sparse"):
                    for queued in (False, True):
                        e = Exchanged(wire, workers, (size,) * workers, 1.0, queued, True, rate)
                        messages, moved = messages_and_bytes(e)
                        software = links.call_s + messages * links.latency_s + moved * links.byte_s
                        software += 0.0 if queued else links.coordinate_s
                        seconds = software / factor + moved / (rate * EFFICIENCY)
                        found.append(dataclasses.replace(e, seconds=seconds + (0.0 if queued else 5e-4)))
    return found


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_links_are_found_again_however_crowded_the_cores(factor):
    seen = exchanges(LINKS, factor)
    links, note = fit_links(seen, [factor] * len(seen), 1e-3)
    assert links is not None
    for name in ("call_s", "coordinate_s", "latency_s", "byte_s"):
        assert getattr(links, name) == pytest.approx(getattr(LINKS, name), rel=0.02), name
    assert note["relative_residual"] < 0.01


def test_exchanges_on_one_host_say_nothing_of_links():
    near = [dataclasses.replace(e, rate=0.0) for e in exchanges(LINKS, 1.0)]
    assert fit_links(near, [1.0] * len(near), 1e-3) == (None, {})


TRUTH = Profile(
    model="lenet",
    batch_size=8,
    source="measured",
    examples=1437,
    layers=(),
    step_s=3e-4,
    step_element_s=4e-10,
    compress={"none": Cost(2e-6, 1e-11), "topk": Cost(5e-5, 3e-10), "sidco-e": Cost(8e-5, 3e-10)},
    merge={"dense": Cost(1e-5, 2e-10), "sparse": Cost(4e-5, 2e-10, 2e-9)},
    optimize={"sgd": Cost(1e-5, 5e-10)},
    links=LINKS,
    host={"ranks": 2, "cores": 2},
)


@pytest.fixture
def paced_run(tmp_path):
    """paced_run(name, model, workers, bandwidth, compressor, density, **faults): a run folder that TRUTH wrote."""

    def write(name, model="lenet", workers=4, bandwidth=25e6, compression=("none", 0.01), **faults):
        experiment = Experiment().replace(
            model={"name": model},
            data={"batch_size": 8},
            cluster={
                "workers": workers,
                "bandwidth": bandwidth,
                "latency": LINKS.latency_s,
                "cores_per_host": 2,
                "allreduce": "ring",
                "allgather": "ring",
            },
            compression=dict(zip(("name", "density", "granularity"), compression, strict=False)),
            run={"compute": "paced", "steps": 30},
            faults=faults,
        )
        spans = []
        plan = build(experiment, on_device(experiment, TRUTH, "x"))
        run_plan(plan, 1, engine="events", sink=spans.append)
        folder = tmp_path / name
        save_trace(folder, plan, spans)
        (folder / "config.toml").write_text(dump(experiment))
        (folder / "environment.json").write_text(json.dumps({"cores": 2}))
        return load_run(folder)

    return write


def test_paced_runs_of_small_networks_predict_those_of_others(paced_run):
    fitted = [
        paced_run("a"),
        paced_run("b", workers=2, compression=("topk", 0.1)),
        paced_run("c", "resnet20", bandwidth=125e6, compression=("topk", 0.01)),
        paced_run("d", "resnet20", workers=3),
        paced_run("e", "fcn5", bandwidth=125e6, compression=("none", 0.01, "layer")),
    ]
    profile = calibrate(fitted)
    assert profile.links is not None
    assert profile.network is None
    for run in (
        paced_run("f", "resnet20", bandwidth=6.25e6),
        paced_run("g", "resnet20", compression=("topk", 0.001)),
        paced_run("h", slow_worker=[{"worker": 1, "factor": 2.0}]),
        paced_run("i", slow_link=[{"host": 2, "bandwidth": 6.25e6}]),
    ):
        row = validate.compare(run, profile, False)
        assert abs(row.error) < 0.03, row
        assert row.bytes_predicted == row.bytes_measured


def test_crowded_cores_cost_software_and_not_the_wire(paced_run):
    run = paced_run("a")
    run.header["core_sharers"] = 4
    experiment, there = where_it_ran(run, TRUTH)
    assert run.stretch == 2.0
    assert there.compress["topk"].call_s == 2 * TRUTH.compress["topk"].call_s
    assert there.links is not None
    assert there.links.call_s == 2 * LINKS.call_s
    assert there.links.efficiency == LINKS.efficiency
    assert experiment.cluster.latency == pytest.approx(2 * LINKS.latency_s)
    plan = build(experiment, there)
    derived = build(experiment, None)
    assert plan.forward_s == pytest.approx(derived.forward_s)  # who sleeps needs no core


def test_a_profile_without_links_cannot_say_anything_of_several_hosts(paced_run):
    run = paced_run("a")
    with pytest.raises(UserError, match="no links between hosts"):
        validate.compare(run, dataclasses.replace(calibrate([run]), links=None), False)


def test_links_stand_in_the_profiles_file(paced_run, tmp_path):
    profile = calibrate([paced_run("a"), paced_run("b", workers=2)])
    profile.save(tmp_path / "p.json")
    assert Profile.load(tmp_path / "p.json") == profile
    document = json.loads((tmp_path / "p.json").read_text())
    document["links"]["efficiency"] = 0
    with pytest.raises(UserError, match=r"links\.efficiency = 0: a finite number > 0"):
        from_json(document, "p")
    assert np.isclose(profile.links.efficiency, EFFICIENCY)


def test_files_of_a_validation(paced_run, tmp_path):
    fitted, held_out = paced_run("a"), paced_run("b", workers=2)
    words = [str(held_out.folder), "--fit", str(fitted.folder)]
    words += ["--csv", str(tmp_path / "o.csv"), "--markdown", str(tmp_path / "o.md")]
    parser = argparse.ArgumentParser()
    validate.add_arguments(parser)
    assert validate.main(parser.parse_args(words)) == 0
    rows = list(csv.DictReader((tmp_path / "o.csv").open()))
    assert [(row["group"], row["run"]) for row in rows] == [("fitted", "a"), ("held out", "b")]
    for row in rows:
        error = float(row["predicted_s"]) / float(row["measured_s"]) - 1
        assert float(row["error"]) == pytest.approx(error, abs=1e-3)
    text = (tmp_path / "o.md").read_text()
    assert "**held out**, 1 runs" in text
    assert "| `b` | held out |" in text


def test_the_achieved_density_depends_on_the_wanted_one(write_run, truth):
    runs = []
    for density, ratio in ((0.1, 1.0), (0.001, 0.5)):
        truth.achieved["sidco-e"] = ratio
        folder = write_run(truth, f"s{density}", compression={"name": "sidco-e", "density": density})
        runs.append(load_run(folder))
    profile = calibrate(runs)
    assert profile.achieved_at("sidco-e", 0.1) == pytest.approx(1.0, abs=0.05)
    assert profile.achieved_at("sidco-e", 0.01) == pytest.approx(0.75, abs=0.1)
    assert profile.achieved_at("sidco-e", 1e-5) == profile.achieved_at("sidco-e", 0.001)
    assert profile.achieved_at("topk", 0.1) == 1.0
    document = json.loads(json.dumps(profile.to_json()))
    assert from_json(document, "p") == profile
    document["achieved_by"] = {"sidco-e": [[0.1, 1.0], [0.01, 1.0]]}
    with pytest.raises(UserError, match=r"densities .* must rise"):
        from_json(document, "p")
