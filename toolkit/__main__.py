"""`python -m toolkit COMMAND`: one line of the table a command."""

from __future__ import annotations

import sys
import time
import traceback

from toolkit.errors import AgreedError, UserError
from toolkit.launcher import launched_rank, launched_size
from toolkit.registry import nearest, resolve

COMMANDS = {
    "train": ("toolkit.train:main", "train an experiment file, alone or under mpirun"),
    "bench": ("toolkit.bench.main:main", "speed goals of kernels and compressors against measured ratios"),
    "testbed": ("toolkit.testbed.main:main", "train on an emulated cluster (needs root)"),
    "testbed-runs": ("toolkit.testbed.batch:main", "a list of runs on emulated clusters"),
    "exchanges": ("toolkit.bench.exchanges:main", "under mpirun: bytes and milliseconds a step of each exchange"),
    "search": ("toolkit.search:main", "under mpirun: search the switch from BSP to ASP on real runs"),
    "penalty": ("toolkit.penalty:main", "what compression and batch size cost in loss, by short real runs"),
    "timeline": ("toolkit.trace.timeline:main", "a run's trace for Perfetto: workers, devices, links"),
    "compare": ("toolkit.compare:main", "finished runs side by side"),
    "doctor": ("toolkit.doctor:doctor", "say what is installed and working, by doing it"),
    "describe": ("toolkit.models.describe:main", "tensors, sizes and FLOPs of a network"),
    "capture": ("toolkit.gradients.capture:main", "save the gradients of a real run into grads/"),
    "gradstats": ("toolkit.gradients.gradstats:main", "fit and plot the distributions of saved gradients"),
    "quality": ("toolkit.gradients.quality:main", "how well SIDCo's thresholds hit the count"),
    "convergence": ("toolkit.studies.convergence:main", "under mpirun: loss of compressed over dense training"),
    "syncswitch": ("toolkit.studies.syncswitch:main", "under mpirun: accuracy and time of BSP, ASP and switches"),
    "microbench": ("toolkit.gradients.microbench:main", "time compressors on saved or synthetic gradients"),
}
STARTING_S = 5.0  # by which ranks may lie apart until they first meet


def usage() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items())
    return f"usage: python -m toolkit COMMAND …\n{rows}"


def main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    name, *rest = argv
    try:
        if name not in COMMANDS:
            raise UserError(f"'{name}' is no command: allowed are {', '.join(COMMANDS)}{nearest(name, COMMANDS)}")
        return int(resolve(COMMANDS[name][0])(rest))
    except UserError as error:
        return _refuse(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception:
        traceback.print_exc()
        print(f"rank {launched_rank()} ends the job", file=sys.stderr, flush=True)
        _abort_job(1)
        return 1


def _refuse(error: UserError) -> int:
    """Print one line, as a rule from one rank, and return 2; end the job where the other ranks may not have raised."""
    if not isinstance(error, AgreedError) and launched_rank() != 0:
        # If all ranks raised this, rank 0 prints it and ends the job meanwhile; if others did, the first of them.
        time.sleep((0.5 if _job_is_up() else STARTING_S) + 0.3 * (launched_rank() - 1))
        print(f"error: rank {launched_rank()}: {error}", file=sys.stderr, flush=True)
    elif launched_rank() == 0:
        print(f"error: {error}", file=sys.stderr, flush=True)
    if not isinstance(error, AgreedError):
        _abort_job(2)
    return 2


def _job_is_up() -> bool:
    return "mpi4py.MPI" in sys.modules and (launched_size() or 1) > 1


def _abort_job(code: int) -> None:
    """A rank that dies silently leaves the others waiting for ever: take the job down, if MPI is up at all."""
    if "toolkit.comm" in sys.modules:
        sys.modules["toolkit.comm"].abort_job(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
