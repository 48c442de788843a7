"""`study ablate`: each mechanism that is on is turned off alone, against the same random numbers."""

import json
from pathlib import Path

import pytest

from simulator.cli import main
from simulator.job import simulate
from simulator.studies.mechanisms import MECHANISMS
from toolkit.experiment import Experiment, dump, load

ROOT = Path(__file__).resolve().parents[3]

FILE = """
[model]
name = "vgg16"
[cluster]
workers = 4
bandwidth = "100 Mbit/s"
[compression]
name = "topk"
[checkpoint]
every = 2
[run]
steps = 5
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "exp.toml"
    path.write_text(FILE)
    return path


def ablate(file, *overrides):
    out = file.with_name("out.json")
    sets = [part for override in overrides for part in ("--set", override)]
    assert main(["study", "ablate", str(file), *sets, "--json", str(out)]) == 0
    return json.loads(out.read_text())


def test_a_factor_is_the_ratio_of_two_simulations(file):
    found = {row["mechanism"]: row for row in ablate(file)["effects"]}
    base = simulate(load(file)).samples_per_s
    for name, change in (
        ("compression", "compression.name=none"),
        ("overlap", "pipeline.overlap=false"),
        ("checkpoints on disk", "checkpoint.every=0"),
    ):
        assert found[name]["factor"] == pytest.approx(simulate(load(file, [change])).samples_per_s / base, rel=1e-9)
    assert found["compression"]["factor"] < 0.9
    assert found["checkpoints on disk"]["factor"] > 1
    found = {row["mechanism"]: row for row in ablate(file, "checkpoint.every=0")["effects"]}  # residuals are saved
    assert found["error feedback"]["note"] == "acts on what is learned, not on time"


def test_effects_are_sorted_and_only_what_is_on_is_turned_off(file):
    rows = ablate(file)["effects"]
    sizes = [abs(row["factor"] - 1) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert {"bypass", "accumulation", "staleness", "working window"}.isdisjoint(row["mechanism"] for row in rows)
    assert [row["mechanism"] for row in ablate(file, "study.only=overlap")["effects"]] == ["overlap"]


def test_offloaded_iterations_and_checkpoints_in_memory_have_their_own(tmp_path):
    file = tmp_path / "gpt.toml"
    shipped = load(ROOT / "exp_configs" / "gpt_1.7b.toml", ["offload.method=stronghold", "offload.window=8"])
    file.write_text(dump(shipped))
    rows = ablate(file, "cluster.device=v100-32g")["effects"]
    assert [row["mechanism"] for row in rows] == ["working window", "concurrent updates"]
    assert all(row["factor"] < 1 for row in rows)


def test_every_mechanism_is_off_once_it_is_turned_off():
    everything = Experiment().replace(
        compression={"name": "topk", "exchange": "gtopk", "bypass": "auto", "dense_steps": 3},
        optimizer={"name": "sparse-sgd"},
        pipeline={"accumulation": 2},
        checkpoint={"every": 2},
        faults={"slow_worker": [{"worker": 1, "factor": 2.0}]},
    )
    packed = everything.replace(compression={"exchange": "allgather", "wire_indices": "delta", "momentum": 0.0})
    sync = Experiment().replace(sync={"policy": "switch", "online": "elastic"})
    seen = set()
    for experiment in (everything, packed, sync):
        for mechanism in MECHANISMS:
            if mechanism.on(experiment):
                seen.add(mechanism.name)
                assert not mechanism.on(experiment.replace(**mechanism.off(experiment))), mechanism.name
    assert len(seen) >= 12


def test_what_is_not_on_cannot_be_asked_for(file, capsys):
    assert main(["study", "ablate", str(file), "--set", "study.only=bypass"]) == 2
    assert "--set study.only = 'bypass': allowed are compression" in capsys.readouterr().err


def test_the_quickstart_is_the_default_and_its_tornado_is_drawn(tmp_path, capsys):
    plot = tmp_path / "tornado.png"
    assert main(["study", "ablate", "--set", "study.seeds=1", "--set", "run.steps=5", "--plot", str(plot)]) == 0
    assert plot.stat().st_size > 10_000
    assert "one mechanism off at a time" in capsys.readouterr().out


def test_stellatrains_mechanisms_are_its_studys():
    rows = {row["mechanism"]: row["factor"] for row in ablate_of(ROOT / "exp_configs" / "studies" / "stellatrain.toml")}
    assert rows["cache-aware selection"] == pytest.approx(0.887, rel=0.03)
    assert rows["sparse optimizer on the CPU"] == pytest.approx(0.827, rel=0.03)
    assert rows["adaptation to the network"] == pytest.approx(1.0, abs=0.05)


def ablate_of(file):
    from simulator.studies import ablate as module
    from simulator.studies.base import request

    return [vars(effect) for effect in module.ablate(request(module, "ablate", [], None, str(file)))[1]]
