"""Sync-Switch's command line as an experiment: `run_scripts/syncswitch.sh --switch-order 10 --train-steps 500,3500 …`.

Source of the names: the run scripts of Sync-Switch's public artifact (ICDCS 2021). Prints the file and overrides for
`python -m toolkit train`, a line each.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from toolkit.errors import UserError
from toolkit.experiment import load

DEFAULT = Path(__file__).resolve().parents[1] / "exp_configs" / "sync" / "digits.toml"
LISTS = {
    "train_steps": "phase_steps",
    "ckpt_frequency": "phase_checkpoint_every",
    "learning_rate": "phase_learning_rate",
    "momentum": "phase_momentum",
}
PLAIN = {"num_workers": "cluster.workers", "batch_size": "data.batch_size", "seed": "run.seed"}


def parser() -> argparse.ArgumentParser:
    build = argparse.ArgumentParser(prog="run_scripts/syncswitch.sh", description=__doc__.splitlines()[0])
    build.add_argument("--experiment", type=Path, default=DEFAULT, help="experiment file to start from")
    build.add_argument("--switch-order", default="10", help="a letter a phase: 1 is BSP, 0 is ASP")
    build.add_argument("--train-steps", help="steps of each phase, as 500,3500; an ASP step is one worker's update")
    build.add_argument("--ckpt-frequency", help="steps of each phase between checkpoints, as 250,2000")
    build.add_argument("--learning-rate", help="one for BSP, or one a phase")
    build.add_argument("--momentum", help="one, or one a phase")
    build.add_argument("--batch-size", help="examples a worker and step")
    build.add_argument("--num-workers", help="ranks to start (default: the experiment's)")
    build.add_argument("--online-policy", help="none, baseline, greedy or elastic")
    build.add_argument("--seed", help="seed of the run")
    return build


def overrides(argv: list[str]) -> tuple[Path, list[str], list[str]]:
    """The experiment file, what the options say as overrides, and what `toolkit train` is to be given as it is."""
    args, rest = parser().parse_known_args(argv)
    settings = ["sync.policy=switch", f"sync.order={args.switch_order}"]
    for name, key in LISTS.items():
        settings += _list(getattr(args, name), name, key)
    settings += [f"{key}={value}" for name, key in PLAIN.items() if (value := getattr(args, name)) is not None]
    if args.online_policy:
        settings.append(f"sync.online={args.online_policy}")
    if args.train_steps:
        settings.append("run.steps=0")  # the phases say how long the run is
    return args.experiment, settings, rest


def _list(text: str | None, name: str, key: str) -> list[str]:
    """A comma list of numbers as a [sync] key; a single rate or momentum is the optimizer's own."""
    if text is None:
        return []
    if "," not in text and not key.startswith(("phase_steps", "phase_checkpoint")):
        return [f"optimizer.{name}={text}"]
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        option = name.replace("_", "-")
        raise UserError(f"--{option} {text}: numbers with commas between them are wanted, as in 500,3500") from None
    return [f"sync.{key}={numbers}"]


def main() -> int:
    try:
        file, settings, rest = overrides(sys.argv[1:])
        workers = load(file, settings).cluster.workers
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join([str(workers), str(file), *(part for s in settings for part in ("--set", s)), *rest]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
