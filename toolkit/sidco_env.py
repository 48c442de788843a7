"""SIDCo's environment variables as an experiment: `dnn=resnet20 nworkers=4 compressor=topk ./run_scripts/train.sh`.

Source of the names: the run scripts of SIDCo's public artifact (MLSys 2021). Prints the file and overrides for
`python -m toolkit train`, a line each.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from toolkit.errors import UserError
from toolkit.experiment import LANGUAGE_DATA, load
from toolkit.registry import MODELS, check_name

CONFIGS = Path(__file__).resolve().parents[1] / "exp_configs"
VARIABLES = {
    "nworkers": "cluster.workers",
    "density": "compression.density",
    "stages": "compression.stages",
    "iratio": "compression.first_ratio",
    "ecgradw": "compression.gradient_weight",
    "ecmemw": "compression.memory_weight",
    "dataset": "data.name",
    "data_dir": "data.root",
    "batch_size": "data.batch_size",
    "lr": "optimizer.learning_rate",
    "nstepsupdate": "pipeline.accumulation",
    "max_epochs": "run.epochs",
    "max_steps": "run.steps",
    "seed": "run.seed",
}
COMPRESSORS = {"sidcoexp": "sidco-e", "sidcogp": "sidco-gp", "sidcop": "sidco-p"}


def overrides(environment: Mapping[str, str]) -> tuple[Path, list[str]]:
    """The experiment file of `dnn` and the overrides that the other variables stand for. Raises UserError."""
    network = check_name("dnn", environment.get("dnn", "resnet20"), MODELS)
    settings = [f"{key}={_toml(environment[name])}" for name, key in VARIABLES.items() if environment.get(name)]
    compressor = environment.get("compressor", "topk").lower()
    settings.append(f"compression.name={COMPRESSORS.get(compressor, compressor.replace('_', '-'))}")
    if environment.get("optimizer"):
        settings.append(f"optimizer.name={environment['optimizer'].lower()}")
    settings += _granularity(environment.get("threshold", "-1"))
    return CONFIGS / f"{network}.toml", settings


def _toml(text: str) -> str:
    """TOML wants a digit before the point of `density=.001`, which these users write."""
    return f"0{text}" if text.startswith(".") else text


def _granularity(threshold: str) -> list[str]:
    """-1: the whole model as one vector; 0: a vector a tensor; N: neighbours merged up to N elements."""
    try:
        number = int(threshold)
    except ValueError:
        number = -2
    if number < -1:
        raise UserError(f"threshold = '{threshold}': -1 (whole model), 0 (per layer) or N > 0 (merge up to N elements)")
    if number <= 0:
        return [f"compression.granularity={'model' if number else 'layer'}"]
    return ["compression.granularity=merged", f"compression.merge_elements={number}"]


def with_data(file: Path, settings: list[str]) -> tuple[list[str], str]:
    """Fall back to data that is in every install where the network's own is absent and none was asked for."""
    from toolkit.data import load_task

    experiment = load(file, settings)
    if any(setting.startswith("data.name=") for setting in settings):
        return settings, ""
    try:
        load_task(experiment.data, experiment.run.seed)
    except UserError as error:
        stand_in = "pysource" if experiment.data.name in LANGUAGE_DATA else "digits"
        note = f"{error}\n-> training on '{stand_in}' instead; set dataset={experiment.data.name} to insist"
        return [*settings, f"data.name={stand_in}"], note
    return settings, ""


def main() -> int:
    try:
        file, settings = overrides(os.environ)
        settings, note = with_data(file, settings)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if note:
        print(f"note: {note}", file=sys.stderr)
    print("\n".join([str(file), *(part for setting in settings for part in ("--set", setting))]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
