"""`python -m toolkit train FILE`: one process a rank, started by mpirun or alone as a single worker."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from toolkit.comm import Communicator
from toolkit.errors import UserError
from toolkit.experiment import Experiment, load
from toolkit.launcher import launched_size
from toolkit.sections.simulated import refuse_in_training


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m toolkit train", description="Train an experiment file for real.")
    parser.add_argument("file", help="experiment file (TOML)")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override a key")
    parser.add_argument("--out", type=Path, help="run folder (default: runs/<file>-<compressor>)")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint in --out, if there is one"
    )
    parser.add_argument(
        "--until-switch",
        action="store_true",
        help="end at the next switch of [sync] order, after its checkpoint; --resume goes on from there",
    )
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    args = arguments(argv)
    experiment = load_for_ranks(args.file, args.set)
    out = args.out or Path("runs") / f"{Path(args.file).stem}-{experiment.compression.name}"
    comm = Communicator(experiment.cluster.cycle_time)
    result = train(experiment, out, comm, resume=args.resume, until_switch=args.until_switch, quiet=args.quiet)
    if comm.rank == 0 and not args.quiet:
        print(summary(result, out) if result else f"stopped at the switch; --resume --out {out} goes on")
    comm.close()
    return 0


def load_for_ranks(file: str, overrides: list[str]) -> Experiment:
    """Load an experiment whose number of workers must be what the launcher started; alone it runs as one worker."""
    size = launched_size()
    experiment = load(file, overrides if size else [*overrides, "cluster.workers=1"])
    refuse_in_training(experiment, file)
    if size and experiment.cluster.workers != size:
        raise UserError(
            f"{file}: [cluster] workers = {experiment.cluster.workers}, but mpirun started {size} ranks: use "
            f"-np {experiment.cluster.workers} or --set cluster.workers={size}"
        )
    return experiment


def train(
    experiment: Experiment,
    out: Path,
    comm: Communicator,
    *,
    resume: bool = False,
    until_switch: bool = False,
    quiet: bool = True,
    hooks: Any = None,
) -> dict[str, Any]:
    """Prepare the run folder and train; returns the result on every rank, an empty one where the run ended at a switch.

    UserErrors are raised on all ranks alike.
    """
    from toolkit.runfolder import RunFolder
    from toolkit.trainer import Hooks, Trainer

    hooks = hooks or Hooks()
    problem: UserError | None = None
    if comm.rank == 0:
        try:
            RunFolder(out, experiment, 0).prepare(resume)
        except UserError as error:
            problem = error
    comm.agree(problem)
    comm.agree(None if (out / "trace").is_dir() else unseen(out, comm))
    if not quiet and comm.rank == 0:
        hooks.progress = Progress()
    return Trainer(experiment, out, comm, hooks).run(resume, until_switch)


def unseen(out: Path, comm: Communicator) -> UserError:
    host = comm.hosts[comm.rank]
    return UserError(
        f"--out {out}: host {host} (rank {comm.rank}) does not see it; a folder shared by all hosts is wanted"
    )


class Progress:
    """A line a second on a terminal, a line every ten per cent elsewhere."""

    def __init__(self) -> None:
        self.shown = 0.0
        self.tenth = 0

    def __call__(self, step: int, steps: int, loss: float) -> None:
        text = f"step {step}/{steps}  loss {loss:.4f} (rank 0)"
        if sys.stderr.isatty():
            if time.monotonic() - self.shown > 1 or step == steps:
                self.shown = time.monotonic()
                print(f"\r{text}  ", end="\n" if step == steps else "", file=sys.stderr, flush=True)
        elif step * 10 // steps > self.tenth:
            self.tenth = step * 10 // steps
            print(text, file=sys.stderr, flush=True)


def summary(result: dict[str, Any], out: Path) -> str:
    share = result["time_share"]
    training, learned = result.get("training"), "compute was paced: nothing was learned"
    if training:
        learned = f"test loss {training['loss']:.4f}, accuracy {training['accuracy']:.4f}"
    shares = ", ".join(f"{name} {share[name]:.0%}" for name in share)
    return (
        f"{result['workers']} workers, {result['steps']} steps in {result['total_time_s']:.2f} s "
        f"({result['samples_per_s']:.0f} samples/s): {learned}; "
        f"{result['bytes_sent_per_worker'] / 1e6:.3f} MB sent a worker at density "
        f"{result['compression']['achieved_density']:.4g}\ntime: {shares}\nrun folder: {out}"
    )
