"""The simulator's command line: a table of commands, each a module with `add_arguments(parser)` and `main(args)`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from toolkit.errors import UserError

COMMANDS = {
    "run": ("simulator.run", "simulate an experiment file"),
    "sweep": ("simulator.sweep", "simulate an experiment file over a grid of its keys"),
    "bench": ("simulator.bench", "how fast the simulator itself is on this machine"),
    "calibrate": ("simulator.calibrate", "fit a profile to traces of real runs"),
    "validate": ("simulator.validate", "hold simulations against the measured runs"),
    "map": ("simulator.map", "where compression pays: workers x bandwidths x compressors"),
    "tune": ("simulator.tune", "search for the best setting of an experiment file"),
    "report": ("simulator.report.main", "one self-contained HTML page of a run or a sweep"),
    "plan": ("simulator.planner", "will a model fit a machine, by which offloading method, how fast"),
    "learn": ("simulator.learning.run", "train for real in simulated time: accuracy of any policy on any cluster"),
    "study": ("simulator.study", "hold the simulator against a publication, or ask for one of its cells"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; a UserError becomes one line on stderr and exit code 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 141


def _dispatch(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m simulator", description="Simulate training on clusters you don't have."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = next((word for word in arguments if not word.startswith("-")), None)
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == wanted:  # only the wanted command's module is imported
            importlib.import_module(module).add_arguments(command)
    args = parser.parse_args(arguments)
    status: int = importlib.import_module(COMMANDS[args.command][0]).main(args)
    return status
