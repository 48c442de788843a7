"""`python -m toolkit penalty FILE --out PROFILE.json`: what compression and batch cost in loss, by short real runs.

Optuna's Gaussian-process sampler chooses density and batch of each run; a run trains under mpirun on as many samples as
the base run, which stands at the middle batch without compression; the learning rate is in proportion to the batch.
Each run is written at once, so that an interrupted profile goes on. The result is what the controller of StellaTrain
(SIGCOMM 2024) needs: see toolkit/policies/penalty.py.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from toolkit.errors import UserError
from toolkit.experiment import Experiment, dump, load
from toolkit.policies.penalty import LEAST_POINTS, Point, Profile, smoothed

ROOT = Path(__file__).resolve().parent.parent
SPREAD = 4.0  # the largest and the smallest batch are this factor from the middle
DENSITIES = (1e-3, 1.0)
WORST = 10.0  # times the base's loss: a run that diverges counts as this


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="experiment file (TOML); its batch size is the middle one")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override a key")
    parser.add_argument("--out", type=Path, required=True, metavar="PROFILE.json", help="the profile; taken up again")
    parser.add_argument("--trials", type=int, default=30, help="runs beside the base run (default: 30)")
    parser.add_argument("--samples", type=int, default=0, help="training examples of a run (default: half an epoch)")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m toolkit penalty", description=__doc__.splitlines()[0])
    add_arguments(parser)
    args = parser.parse_args(argv)
    if args.trials < LEAST_POINTS or args.samples < 0:
        raise UserError(f"--trials {args.trials} --samples {args.samples}: at least {LEAST_POINTS} trials are wanted")
    experiment = load(args.file, args.set)
    profile = record(experiment, args.out, args.trials, args.samples)
    least, worst = (choose(profile.points, key=lambda point: point.penalty) for choose in (min, max))
    ends = (f"{p.penalty:+.1%} (rate {p.rate:.4f}, batch x{p.batch:.2f})" for p in (least, worst))
    print(f"{len(profile.points)} runs: penalties from {' to '.join(ends)}; {args.out}")
    return 0


def record(experiment: Experiment, out: Path, trials: int, samples: int) -> Profile:
    """Run what is missing of a profile; points already in `out` are of the same experiment or refused."""
    source = {"experiment": dump(experiment), "samples": samples}
    points = _known(out, source)
    base: float | None = None
    errors = Console(stderr=True)
    with Progress(console=errors, disable=not errors.is_terminal) as progress:
        task = progress.add_task("runs", total=trials, completed=min(trials, len(points)))
        sampler = _Sampler(experiment.run.seed)
        for number in range(trials):
            rate, batch = sampler.ask()
            if number >= len(points):
                if base is None:
                    base = loss_of(experiment, 1.0, 1.0, samples)
                loss = loss_of(experiment, 1 - rate, batch, samples)
                points.append(Point(rate, batch, min(loss / base, WORST) - 1 if math.isfinite(loss) else WORST - 1))
                _write(out, Profile(tuple(points), source))
                progress.advance(task)
            sampler.tell(points[number])
    return Profile(tuple(points), source)


class _Sampler:
    """Optuna's, in the axes of the Gaussian process; replays what an earlier recording asked."""

    def __init__(self, seed: int) -> None:
        import optuna  # slow to import

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.GPSampler(seed=seed, n_startup_trials=10)
        self.study = optuna.create_study(sampler=sampler, direction="minimize")

    def ask(self) -> tuple[float, float]:
        self.trial = self.study.ask()
        density = self.trial.suggest_float("density", *DENSITIES, log=True)
        batch = self.trial.suggest_float("batch", 1 / SPREAD, SPREAD, log=True)
        return 1 - density, batch

    def tell(self, point: Point) -> None:
        """Time to accuracy where the network binds: loss penalty, times bytes a sample."""
        self.study.tell(self.trial, (1 + point.penalty) * (1 + (1 - point.rate) / point.batch))


def loss_of(experiment: Experiment, density: float, batch: float, samples: int) -> float:
    """The smoothed training loss of a run under mpirun. UserError with the run's own words where it fails."""
    each = max(1, round(experiment.data.batch_size * batch))
    workers = experiment.cluster.workers
    rate = experiment.optimizer.learning_rate * each / experiment.data.batch_size  # linear scaling
    changes = [f"data.batch_size={each}", f"optimizer.learning_rate={rate!r}", "checkpoint.every=0"]
    if density < 1:
        name = experiment.compression.name if experiment.compression.name != "none" else "topk"
        changes += [f"compression.name={name}", f"compression.density={density!r}"]
    else:
        changes += ["compression.name=none", "compression.exchange=auto"]
    if samples:
        changes.append(f"run.steps={max(1, math.ceil(samples / (each * workers)))}")
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "experiment.toml", Path(folder) / "run"
        file.write_text(dump(experiment), encoding="utf-8")
        command = [
            str(ROOT / "run_scripts" / "mpirun.sh"),
            "-np",
            str(workers),
            sys.executable,
            "-m",
            "toolkit",
            "train",
        ]
        sets = [part for change in changes for part in ("--set", change)]
        done = subprocess.run(
            [*command, str(file), *sets, "--out", str(out), "--quiet"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        if done.returncode:
            raise UserError(f"penalty: a run failed with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
        return smoothed(json.loads((out / "result.json").read_text(encoding="utf-8"))["training"]["losses"])


def _known(out: Path, source: dict[str, object]) -> list[Point]:
    if not out.exists():
        return []
    try:
        content = json.loads(out.read_text(encoding="utf-8"))
        points = [Point(row["rate"], row["batch"], row["penalty"]) for row in content["points"]]
        same = content["source"] == source
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"--out {out}: not a penalty profile; name another file") from None
    if not same:
        raise UserError(f"--out {out}: holds a profile of another experiment; name another file")
    return points


def _write(out: Path, profile: Profile) -> None:
    part = out.with_name(out.name + ".part")
    try:
        part.write_text(json.dumps(profile.to_json(), indent=1) + "\n", encoding="utf-8")
        os.replace(part, out)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written: {error.strerror}") from None
