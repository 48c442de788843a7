"""`python -m toolkit COMMAND`: one line of the table a command."""

from __future__ import annotations

import sys
import traceback

from toolkit.errors import UserError
from toolkit.launcher import launched_rank
from toolkit.registry import nearest, resolve

COMMANDS = {
    "train": ("toolkit.train:main", "train an experiment file, alone or under mpirun"),
    "doctor": ("toolkit.doctor:doctor", "say what is installed and working, by doing it"),
    "describe": ("toolkit.models.describe:main", "tensors, sizes and FLOPs of a network"),
    "capture": ("toolkit.gradients.capture:main", "save the gradients of a real run into grads/"),
    "gradstats": ("toolkit.gradients.gradstats:main", "fit and plot the distributions of saved gradients"),
    "microbench": ("toolkit.gradients.microbench:main", "time compressors on saved or synthetic gradients"),
}


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
        if launched_rank() == 0:  # all ranks of a job raise the same error; one line is enough
            print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception:
        traceback.print_exc()
        print(f"rank {launched_rank()} ends the job", file=sys.stderr, flush=True)
        _abort_job()
        return 1


def _abort_job() -> None:
    """A rank that dies silently leaves the others waiting for ever: take the job down, if MPI is up at all."""
    if "toolkit.comm" in sys.modules:
        sys.modules["toolkit.comm"].abort_job()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
