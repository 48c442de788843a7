"""`python -m simulator tune FILE --over sync.switch_at=search`: Sync-Switch's binary search, in simulated time.

The search of `python -m toolkit search` (toolkit/policies/timing.py), on runs that learn here instead of on a cluster.
"""

from __future__ import annotations

import argparse
from typing import Any

from simulator.learning.profile import profile_of
from simulator.learning.run import learn
from simulator.output import write_json
from simulator.plan import build
from simulator.points import Base
from simulator.scenario import under
from simulator.terminal import console
from toolkit.errors import UserError
from toolkit.policies.timing import SwitchSearch


def main(args: argparse.Namespace) -> int:
    """The arguments are tune's: --runs, --settings and --tolerance are for this search."""
    base = Base.of(args)
    try:
        search = SwitchSearch(runs=args.runs, settings=args.settings, tolerance=args.tolerance)
    except ValueError as error:
        raise UserError(f"--runs --settings --tolerance: {error}") from None
    out = console()
    while (request := search.request) is not None:
        result = run(base, request.share, request.run)
        search.record(result["training"]["accuracy"], result["total_time_s"])
        out.print(f"switch_at = {request.share:g}, run {request.run + 1} of {search.runs}", highlight=False)
    out.print(search.summary("accuracy"), highlight=False, markup=False)
    if args.json:
        write_json(args.json, {"schema": "sandtable-search/1", "state": search.to_json(), "found": search.found()})
    return 0


def run(base: Base, share: float, number: int) -> dict[str, Any]:
    """One run that learns, with the seed that run `number` of every setting has."""
    point = {"sync.policy": "switch", "sync.switch_at": str(share)}
    experiment = under(base.experiment(point), base.how["scenario"])
    if experiment.sync.order != "10" or experiment.sync.phase_steps:
        raise UserError(f"{base.file}: [sync] order, phase_steps: a search sets switch_at of order = '10'")
    experiment = experiment.replace(run={"seed": base.seeds_of(experiment).start + number})
    profile = base.profile or profile_of(experiment, base.file)
    return learn(experiment, build(experiment, profile, source=base.file), base.file)
