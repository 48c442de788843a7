"""`python -m toolkit capture FILE`: train an experiment for real and save its gradients, alone or under mpirun.

What is saved is each chosen rank's own gradient of the whole model at the chosen steps, before error feedback,
compression and averaging. The run itself goes on as it would without capture, compression included.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from toolkit.errors import UserError
from toolkit.gradients.store import GradientFile, save


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit capture", description="Train for real and save gradients at chosen steps."
    )
    parser.add_argument("file", help="experiment file (TOML)")
    parser.add_argument("--steps", default="0,10,100", help="steps to save, counted from 0: 0,10,100 or 0:50:5")
    parser.add_argument("--ranks", default="0", help="ranks whose gradients are saved: 0,1 (default 0)")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override a key")
    parser.add_argument("--out", type=Path, default=Path("grads"), help="folder for the gradients (default grads)")
    parser.add_argument("--run", type=Path, help="run folder (default: runs/capture-<file>)")
    return parser.parse_args(argv)


def parse_numbers(option: str, text: str) -> list[int]:
    """ "0,10,20" or "start:stop:step" (stop excluded) as ascending numbers >= 0; UserError names the option."""
    numbers: set[int] = set()
    try:
        for part in text.split(","):
            pieces = [int(piece) for piece in part.split(":")]
            numbers |= set(pieces) if len(pieces) == 1 else set(range(*pieces))
    except (ValueError, TypeError):
        raise UserError(f"{option} {text}: numbers like 0,10,100 or a range like 0:50:5 are wanted") from None
    if not numbers or min(numbers) < 0:
        raise UserError(f"{option} {text}: at least one number is wanted, and none below 0")
    return sorted(numbers)


class Capture:
    """The trainer's observer: saves the gradients of chosen ranks at chosen steps."""

    def __init__(self, dataset: str, dnn: str, steps: Sequence[int], ranks: Sequence[int], folder: Path) -> None:
        self.dataset = dataset
        self.dnn = dnn
        self.steps = frozenset(steps)
        self.ranks = frozenset(ranks)
        self.folder = folder
        self.saved: list[Path] = []

    def __call__(self, step: int, rank: int, flat_gradient: torch.Tensor) -> None:
        if step in self.steps and rank in self.ranks:
            file = GradientFile(self.dataset, self.dnn, rank, step, self.folder)
            save(file, flat_gradient.detach().float().cpu().numpy())
            self.saved.append(file.path)


def main(argv: list[str]) -> int:
    from toolkit.comm import Communicator
    from toolkit.train import load_for_ranks, train
    from toolkit.trainer import Hooks

    args = arguments(argv)
    steps, ranks = parse_numbers("--steps", args.steps), parse_numbers("--ranks", args.ranks)
    experiment = load_for_ranks(args.file, [*args.set, f"run.steps={steps[-1] + 1}"])
    workers = experiment.cluster.workers
    if ranks[-1] >= workers:
        raise UserError(f"--ranks {args.ranks}: this run has {workers} workers, ranks 0 to {workers - 1}")
    capture = Capture(experiment.data.name, experiment.model.name, steps, ranks, args.out)
    comm = Communicator(experiment.cluster.cycle_time)
    train(experiment, args.run or Path("runs") / f"capture-{Path(args.file).stem}", comm, hooks=Hooks(gradient=capture))
    for path in capture.saved:
        print(path, flush=True)
    comm.close()
    return 0
