"""`python -m simulator study NAME`: hold the simulator against a publication, or ask it for one cell."""

from __future__ import annotations

import argparse
import csv
import importlib
import io
import json
import time
from pathlib import Path

from simulator.output import write_json
from simulator.studies import STUDIES
from simulator.studies.base import Outcome, request, show
from simulator.terminal import console
from toolkit.errors import UserError
from toolkit.registry import check_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help=f"one of {', '.join(STUDIES)}")
    parser.add_argument("file", nargs="?", help="experiment file (default: exp_configs/studies/NAME.toml)")
    parser.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="section.key=value",
        help="ask for one cell, published or not",
    )
    parser.add_argument("--seed", type=int, help="seed of the simulations (default: [run] seed)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write cells and errors")
    parser.add_argument("--csv", type=Path, metavar="OUT", help="write the cells as a table")
    parser.add_argument("--plot", type=Path, metavar="OUT.png", help="draw predictions beside the paper's values")


def main(args: argparse.Namespace) -> int:
    check_name("study", args.name, STUDIES)
    module = importlib.import_module(STUDIES[args.name])
    if args.seed is not None and args.seed < 0:
        raise UserError(f"--seed {args.seed}: a whole number >= 0 is wanted")
    began = time.perf_counter()
    asked = request(module, args.name, args.set, args.seed, args.file)
    cells = module.asked(asked) if asked.given else module.published(asked)
    outcome = Outcome(args.name, cells, module.sections(asked) if hasattr(module, "sections") else {})
    if args.json:
        write_json(args.json, outcome.to_json())
    if args.csv:
        write_csv(args.csv, outcome)
    if args.plot:
        module.draw(cells, args.plot)
    if hasattr(module, "show"):
        module.show(outcome)
    else:
        show(module.TITLE, module.SOURCE, outcome)
    console().print(f"simulated in {time.perf_counter() - began:.1f} s")
    return 0


def write_csv(path: Path, outcome: Outcome) -> None:
    """A row a cell; the settings are one column of JSON. UserError where it cannot be written."""
    text = io.StringIO()
    rows = [{**cell.to_json(), "settings": json.dumps(cell.settings)} for cell in outcome.cells]
    names = ["group", "settings", "quantity", "observed", "predicted", "error", "role", "note"]
    table = csv.DictWriter(text, names, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    try:
        path.write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
