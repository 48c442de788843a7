"""`python -m toolkit testbed [options] -- EXPERIMENT [train arguments]`: train on an emulated cluster.

The cluster is that of the experiment's own file: [cluster] workers, workers_per_host, bandwidth, allreduce, allgather,
and [faults] slow_link. Options override the file's keys, for the run as for the links, so that the run folder says what
was there.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from toolkit import units
from toolkit.errors import UserError
from toolkit.experiment import Experiment, load
from toolkit.testbed.hosts import Link, Refused, Testbed
from toolkit.testbed.launch import mpirun_command

REFUSED = 3  # exit code where the system does not let us
TIMED_OUT = 124
PR_SET_CHILD_SUBREAPER = 36
INTERRUPTED = 128
NOT_EMULATED = ("slow_cpu", "added_latency", "link_trace", "traffic", "failures_per_day")
SCRIPTS = Path(__file__).resolve().parents[2] / "run_scripts"


class Ended(BaseException):
    """A signal that ends this process, after everything is removed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="testbed.sh",
        usage="%(prog)s [options] -- EXPERIMENT [train arguments]",
        description="Train on an emulated cluster: network namespaces with shaped links, real mpirun over TCP. "
        "Needs root and iproute2; without them it ends with 3.",
    )
    parser.add_argument("--hosts", type=int, metavar="N", help="hosts (default: as many as the file's workers need)")
    parser.add_argument("--workers-per-host", type=int, metavar="W", help="default: the file's, usually 1")
    parser.add_argument("--rate", metavar="R", help='rate of every link, "200 Mbit/s" (default: the file\'s bandwidth)')
    parser.add_argument("--latency", metavar="L", help='one-way latency to add, "5 ms"; wants the kernel\'s netem')
    parser.add_argument(
        "--timeout", metavar="T", help='end a run that takes longer, "5 min"; the exit code is then 124'
    )
    parser.add_argument("file", metavar="EXPERIMENT", help="experiment file (TOML)")
    parser.add_argument("train", nargs=argparse.REMAINDER, help="arguments of 'python -m toolkit train'")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Build the cluster, train on it, remove it: mpirun's exit code, 3 where the system refuses, 124 too late."""
    args = arguments(argv)
    overrides = cluster_overrides(args)
    experiment = load(args.file, [*overrides, *given_overrides(args.train)])
    check_emulated(experiment, args.file)
    added = units.parse("time", args.latency, "--latency") if args.latency else 0.0
    try:
        check_rights()
        return on_testbed(args, experiment, links_of(experiment, added), overrides)
    except Refused as reason:
        print(f"testbed: {reason}", file=sys.stderr)
        return REFUSED
    except Ended as end:
        return INTERRUPTED + end.number


def check_emulated(experiment: Experiment, source: str) -> None:
    """UserError for what goes wrong in the file and cannot go wrong here."""
    for name in NOT_EMULATED:
        if getattr(experiment.faults, name):
            raise UserError(f"{source}: [faults] {name}: the testbed emulates slow_link, slow_worker and straggler")


def cluster_overrides(args: argparse.Namespace) -> list[str]:
    """The options as "section.key=value", for the links as for the run."""
    chosen = []
    per_host = args.workers_per_host
    for name, value in (("--hosts", args.hosts), ("--workers-per-host", per_host)):
        if value is not None and value < 1:
            raise UserError(f"{name} {value}: a whole number >= 1 is wanted")
    if per_host is not None:
        chosen.append(f"cluster.workers_per_host={per_host}")
    if args.hosts is not None:
        each = per_host or load(args.file, given_overrides(args.train)).cluster.workers_per_host
        chosen.append(f"cluster.workers={args.hosts * each}")
    if args.rate is not None:
        units.parse("rate", args.rate, "--rate")
        chosen.append(f"cluster.bandwidth={args.rate}")
    if args.latency is not None:
        units.parse("time", args.latency, "--latency")
        chosen.append(f"cluster.latency={args.latency}")
    return chosen


def given_overrides(train: Sequence[str]) -> list[str]:
    """What follows --set in the arguments of train, which come last and so win."""
    found = [after for word, after in itertools.pairwise(train) if word == "--set"]
    return found + [word.removeprefix("--set=") for word in train if word.startswith("--set=")]


def links_of(experiment: Experiment, latency: float) -> list[Link]:
    """The link of each host; latency: s to add to each."""
    cluster = experiment.cluster
    hosts = -(-cluster.workers // min(cluster.workers, cluster.workers_per_host))
    return [Link(rate, latency) for rate in experiment.faults.link_rates(hosts, cluster.bandwidth)]


def check_rights() -> None:
    """Refused without root or iproute2, before anything is made."""
    if os.geteuid() != 0:
        raise Refused("network namespaces need root")
    missing = [tool for tool in ("ip", "tc", "unshare") if not shutil.which(tool)]
    if missing:
        raise Refused(f"{', '.join(missing)} not found: iproute2 and util-linux are wanted")


def on_testbed(
    args: argparse.Namespace, experiment: Experiment, links: Sequence[Link], overrides: Sequence[str]
) -> int:
    """Train on freshly made hosts; whatever happens, they are gone afterwards."""
    limit = units.parse("time", args.timeout, "--timeout") if args.timeout else None
    settings = [word for override in overrides for word in ("--set", override)]
    train = [sys.executable, "-m", "toolkit", "train", args.file, *settings, *args.train]
    catch_signals()
    adopt_orphans()
    # MPI's sockets and segments go with the folder; the path of a socket may have 107 characters
    with TemporaryDirectory(prefix="st", ignore_cleanup_errors=True) as scratch, Testbed(links) as testbed:
        command = mpirun_command(testbed, experiment.cluster)
        environment = {**os.environ, "TMPDIR": scratch, "SANDTABLE_TESTBED": testbed.switch.rpartition("-")[0]}
        inside = ["ip", "netns", "exec", testbed.switch, str(SCRIPTS / "mpirun.sh"), *command]
        process = subprocess.Popen([*inside, *train], env=environment, start_new_session=True)
        try:
            status = process.wait(limit)
            reap()
            return status
        except subprocess.TimeoutExpired:
            print(f"testbed: ended after {args.timeout}", file=sys.stderr)
            end(process)
            return TIMED_OUT
        except BaseException:
            end(process)
            raise


def end(process: subprocess.Popen[bytes], patience_s: float = 5.0) -> None:
    """Let mpirun end its ranks; the testbed's removal ends what is left."""
    process.terminate()
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()


def adopt_orphans() -> None:
    """Let processes whose parents end before them become children of this one, so that their time counts as its own."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap(patience_s: float = 2.0) -> None:
    """Wait for adopted processes that are about to end: daemons of mpirun outlive it by a moment."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.02)
        except ChildProcessError:
            return


def catch_signals() -> None:
    """The first signal ends the run by way of everybody's clean-up, those after it are ignored meanwhile."""
    ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(number: int, _: FrameType | None) -> None:
        for each in ending:
            signal.signal(each, signal.SIG_IGN)
        raise Ended(number)

    for each in ending:
        signal.signal(each, stop)
