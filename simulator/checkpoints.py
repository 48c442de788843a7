"""Advice on checkpoints: how often to storage, how many copies in memory, and where (for `plan`).

Young's and Daly's intervals stand beside the best one that simulated failures find. Copies in memory travel in the idle
time of the network, so they cost no training time as long as they fit an iteration; what they cost is host memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from simulator.failures import DAY, Faults, Job, Tier, daly, young
from simulator.points import interval
from simulator.terminal import console, duration
from toolkit.experiment import Experiment
from toolkit.policies.placement import PLACEMENTS, Placement
from toolkit.policies.traffic import Link

STATE = 12  # bytes a parameter: fp32 weights and Adam's two moments
FAILURES = 400  # simulated for a ratio, with each of
SEEDS = 5
GRID = 2.0**0.5  # between two intervals that are tried
REACH = 6  # steps of the grid to either side of Young's
MOST_COPIES = 4
EFFICIENCY = 0.85  # of a link that checkpoint traffic reaches (GEMINI)
VERSIONS = 2  # kept of each shard: the older one until the newer is complete
ENOUGH = 0.003  # a smaller gain in the share of useful time is not worth another copy


@dataclass(frozen=True)
class Option:
    """A way to keep checkpoints. ratio: work over time, mean over seeds, and half its 95 % range.

    seconds: of one checkpoint. survival: probability that [faults] machines failures leave the memory's copies alive.
    memory: bytes of a host's memory.
    """

    name: str
    interval: float
    seconds: float
    ratio: float
    ci95: float
    survival: float | None = None
    memory: float = 0.0


@dataclass(frozen=True)
class Advice:
    """All options; `best` is the recommended one."""

    state: float
    iteration: float
    mean_time_between: float
    storage: tuple[Option, ...]
    memory: tuple[Option, ...]
    best: Option

    def to_json(self) -> dict[str, Any]:
        rows = {name: [vars(option) for option in getattr(self, name)] for name in ("storage", "memory")}
        plain = {"state_bytes": self.state, "iteration_s": self.iteration, "mtbf_s": self.mean_time_between}
        return plain | rows | {"recommended": vars(self.best)}


def advise(experiment: Experiment, parameters: int, iteration: float, seed: int) -> Advice:
    """What to do about failures of [faults] on the hosts of [cluster]; iteration: its time, s."""
    section, hosts = experiment.checkpoint, experiment.cluster.hosts
    state = float(STATE * parameters)
    written = state / section.storage_bandwidth
    between = DAY / experiment.faults.failures_per_day
    centre = max(iteration, young(written, between))
    intervals = sorted({max(iteration, centre * GRID**step) for step in range(-REACH, REACH + 1)})
    tried = [_storage(experiment, f"every {duration(w)}", w, written, seed) for w in intervals]
    best = max(tried, key=lambda option: option.ratio)
    named = [
        _storage(experiment, "Young", max(iteration, young(written, between)), written, seed),
        _storage(experiment, "Daly", max(iteration, daly(written, between)), written, seed),
        _replace(best, "best simulated"),
    ]
    memory = [
        option
        for m in range(2, min(MOST_COPIES, hosts) + 1)
        for option in _memory(experiment, m, state, iteration, best, seed)
    ]
    return Advice(state, iteration, between, tuple(named), tuple(memory), _recommended(named[-1], memory))


def _recommended(storage: Option, memory: list[Option]) -> Option:
    """The option with the least host memory whose ratio is as good as any, within ENOUGH."""
    options = [storage, *memory]
    top = max(option.ratio for option in options)
    good = [option for option in options if option.ratio >= top - ENOUGH]
    return min(good, key=lambda option: (option.memory, -option.ratio))


def _replace(option: Option, name: str) -> Option:
    return Option(**{**vars(option), "name": name})


def _storage(experiment: Experiment, name: str, every: float, written: float, seed: int) -> Option:
    """Training waits while a checkpoint is written, as Young's and Daly's formulas assume."""
    tier = Tier("storage", every, written, written, written, written)
    hosts = experiment.cluster.hosts
    ratios = _ratios(experiment, (tier,), Placement("ring", hosts, 1), seed)
    return Option(name, every, written, *ratios)


def _memory(
    experiment: Experiment, copies: int, state: float, iteration: float, storage: Option, seed: int
) -> list[Option]:
    """A checkpoint in memory as often as the network takes it, and the best storage interval below it."""
    hosts, section = experiment.cluster.hosts, experiment.checkpoint
    link = Link(0.0, experiment.cluster.bandwidth * EFFICIENCY)
    shard = state / hosts
    sent = link.seconds(int(shard * (copies - 1)))
    every = iteration * max(section.memory_every, -(-sent // iteration))
    options = []
    for kind in PLACEMENTS:
        if Placement.problem(kind, hosts, copies) or (kind == "mixed" and hosts % copies == 0):
            continue  # mixed is group there
        placement = Placement(kind, hosts, copies)
        fetch = shard / link.bandwidth
        tiers = (
            Tier("memory", every, 0.0, every, 0.0, fetch),
            Tier(
                "storage",
                max(storage.interval, every),
                storage.seconds,
                storage.seconds,
                storage.seconds,
                storage.seconds,
            ),
        )
        ratios = _ratios(experiment, tiers, placement, seed)
        survival = placement.recovery_probability(min(hosts, experiment.faults.machines))
        memory = VERSIONS * copies * shard
        options.append(Option(f"{copies} copies, {kind}", every, sent, *ratios, survival, memory))
    return options


def _ratios(experiment: Experiment, tiers: tuple[Tier, ...], placement: Placement, seed: int) -> tuple[float, float]:
    """Mean of the useful share of time over seeds, and half its 95 % range. The seeds are the same for every option."""
    found = experiment.faults
    rate = found.failures_per_day / DAY
    machines = min(found.machines, placement.machines)
    ways = Faults(rate, found.software_share, machines, found.detect, found.restart, found.replace, found.standbys)
    ratios = [Job(tiers, ways, placement, FAILURES / rate, seed + i).run().ratio for i in range(SEEDS)]
    return sum(ratios) / SEEDS, interval(ratios)


def show(experiment: Experiment, advice: Advice) -> None:
    """A table, and the recommendation in a sentence."""
    out, faults = console(), experiment.faults
    out.print(
        f"checkpoints: {advice.state / 1e9:.4g} GB of state on {experiment.cluster.hosts} hosts, iteration "
        f"{duration(advice.iteration)}, a failure every {duration(advice.mean_time_between)} that takes "
        f"{faults.machines} of them ({faults.software_share:.0%} software alone)"
    )
    table = Table(title="share of time that is useful", title_justify="left")
    for name in ("checkpoints", "interval", "one takes", "useful", "±, 95 %", "memory survives", "host memory"):
        table.add_column(name, justify="left" if name == "checkpoints" else "right", no_wrap=True)
    for where, options in (("storage", advice.storage), ("memory", advice.memory)):
        for option in options:
            survival = "-" if option.survival is None else f"{option.survival:.4f}"
            memory = f"{option.memory / 2**30:.2f} GiB" if option.memory else "-"
            row = (f"{where}: {option.name}", duration(option.interval), duration(option.seconds))
            table.add_row(*row, f"{option.ratio:.4f}", f"{option.ci95:.4f}", survival, memory)
    out.print(table)
    gain = advice.best.ratio / advice.storage[-1].ratio
    beside = "" if advice.best is advice.storage[-1] else f", x{gain:.3f} of the best that storage alone reaches"
    out.print(
        f"recommended: {advice.best.name} every {duration(advice.best.interval)}: {advice.best.ratio:.2%} of the time "
        f"is useful{beside}"
    )
