"""SIDCo's variables map onto experiments, and every shipped experiment file is valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.errors import UserError
from toolkit.experiment import load
from toolkit.registry import MODELS
from toolkit.sidco_env import CONFIGS, overrides, with_data


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_experiments_are_valid(path: Path):
    load(path)


def test_every_network_has_its_experiment():
    assert {path.stem for path in CONFIGS.glob("*.toml")} >= set(MODELS)


def test_all_variables_arrive():
    environment = {
        "dnn": "vgg16",
        "nworkers": "8",
        "density": ".001",
        "compressor": "sidcoexp",
        "stages": "3",
        "iratio": "0.3",
        "optimizer": "SGD",
        "ecgradw": "0.9",
        "ecmemw": "0.1",
        "threshold": "8192",
        "dataset": "digits",
        "lr": "0.2",
        "batch_size": "7",
        "nstepsupdate": "2",
        "max_epochs": "3",
    }
    file, settings = overrides(environment)
    experiment = load(file, settings)
    compression = experiment.compression
    assert (experiment.model.name, experiment.cluster.workers, experiment.data.batch_size) == ("vgg16", 8, 7)
    assert (compression.name, compression.density, compression.stages) == ("sidco-e", 0.001, 3)
    assert (compression.first_ratio, compression.gradient_weight, compression.memory_weight) == (0.3, 0.9, 0.1)
    assert (compression.granularity, compression.merge_elements) == ("merged", 8192)
    assert (experiment.optimizer.learning_rate, experiment.pipeline.accumulation, experiment.run.epochs) == (0.2, 2, 3)


@pytest.mark.parametrize(("threshold", "granularity"), [("-1", "model"), ("0", "layer"), ("5", "merged")])
def test_threshold_is_granularity(threshold: str, granularity: str):
    file, settings = overrides({"threshold": threshold})
    assert load(file, settings).compression.granularity == granularity


def test_a_density_without_leading_zero_is_a_number():
    file, settings = overrides({"density": ".001"})
    assert load(file, settings).compression.density == 0.001


@pytest.mark.parametrize("environment", [{"dnn": "resnet21"}, {"threshold": "-5"}, {"threshold": "many"}])
def test_bad_variables_name_what_is_allowed(environment: dict[str, str]):
    with pytest.raises(UserError, match=r"dnn = 'resnet21': allowed are|threshold = .*whole model"):
        overrides(environment)


def test_missing_data_is_said_and_replaced_unless_asked_for():
    file, settings = overrides({"dnn": "resnet20", "data_dir": "/nowhere"})
    changed, note = with_data(file, settings)
    assert changed[-1] == "data.name=digits"
    assert "/nowhere" in note
    asked = [*settings, "data.name=cifar10"]
    assert with_data(file, asked) == (asked, "")
