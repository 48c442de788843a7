"""What GEMINI's study predicts: each function takes an experiment and the study's keys and returns one number.

Nothing is fitted to a figure but three constants of Figure 14, each from one published number: `tiers` says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

from simulator.failures import DAY, Faults, Job, Report, Tier
from simulator.zero3 import Iteration, Machines, Model, simulate
from toolkit.errors import UserError
from toolkit.experiment import Experiment
from toolkit.keys import key
from toolkit.policies.placement import Placement, contiguous_racks, published_bound, spread_racks
from toolkit.policies.traffic import Link, Schedule, idle_spans, schedule

MODELS = {  # layers, hidden width: the published artifact's settings
    "100B": Model(300, 5120),
    "40B": Model(120, 5120),
    "20B": Model(60, 5120),
    "10B": Model(45, 2560),
    "5B": Model(14, 5120),
}
SYSTEMS = ("strawman", "highfreq", "gemini")
QUANTITIES = (
    *("recovery_probability", "checkpoint_reduction", "iteration_time_s", "effective_ratio", "effective_ratio_linear"),
)
EFFICIENCY = 0.85  # of the network's rate, published
STATE = 12  # bytes a parameter: fp32 weights and Adam's two moments
MINUTE = 60.0
MOST_SETS = 1_000_000  # of failed racks, to enumerate


@dataclass(frozen=True)
class Keys:
    quantity: str = key("auto", "which cell; auto: by the keys that are set", choices=("auto", *QUANTITIES))
    model: str = key("100B", "language model that is trained", choices=MODELS)
    system: str = key("gemini", "checkpoints: 3-hourly, as often as storage allows, in memory", choices=SYSTEMS)
    bound: bool = key(False, "the published bound of the recovery probability in place of the exact value")
    flops: float = key(125e12, "flop/s that a device reaches", above=0.0)
    devices: int = key(8, "devices of a machine", low=1)
    tokens: int = key(4096, "tokens a device and iteration", low=1)
    alpha: float = key("0 s", "time of a chunk beside its bytes; the 85 % hold it", unit="time", low=0.0)
    rack: int = key(1, "machines of a rack; above 1, faults.machines racks fail together", low=1)
    spread: bool = key(False, "deal the machines of a group to different racks")
    failures: int = key(4000, "failures to simulate for a ratio", low=1, high=1_000_000)


def recovery_probability(experiment: Experiment, keys: Keys, seed: int) -> float:
    """Figure 9: that `faults.machines` failures at once leave every shard in memory; exact, or the published bound."""
    checkpoint, machines, failed = experiment.checkpoint, experiment.cluster.hosts, experiment.faults.machines
    if keys.bound:
        return published_bound(machines, checkpoint.replicas, failed)
    placement = Placement(checkpoint.placement, machines, checkpoint.replicas)
    if keys.rack == 1:
        return placement.recovery_probability(failed)
    racks = racks_of(experiment, keys)
    if failed > len(racks) or comb(len(racks), failed) > MOST_SETS:
        raise UserError(f"--set faults.machines={failed}: of {len(racks)} racks; at most {MOST_SETS} sets are counted")
    return placement.rack_recovery_probability(racks, failed)


def racks_of(experiment: Experiment, keys: Keys) -> tuple[tuple[int, ...], ...]:
    """The machines of each rack."""
    deal = spread_racks if keys.spread else contiguous_racks
    return deal(experiment.cluster.hosts, keys.rack)


def state_bytes(keys: Keys) -> int:
    """Bytes of the whole job's training state."""
    return STATE * int(keys.model.removesuffix("B")) * 10**9  # by its name, as published: 480 s for 100B


def link(experiment: Experiment, keys: Keys) -> Link:
    """A machine's network as checkpoint chunks find it; the copy to the host is behind the next chunk's receipt."""
    return Link(keys.alpha, experiment.cluster.bandwidth * EFFICIENCY, pipelined=experiment.checkpoint.sub_buffers > 1)


def sub_buffer(experiment: Experiment) -> int:
    """Bytes of the largest chunk."""
    return max(1, int(experiment.checkpoint.buffer) // experiment.checkpoint.sub_buffers)


def sent_bytes(experiment: Experiment, keys: Keys) -> int:
    """Bytes that a machine sends to its peers for one checkpoint."""
    return -(-state_bytes(keys) // experiment.cluster.hosts) * (experiment.checkpoint.replicas - 1)


def memory_seconds(experiment: Experiment, keys: Keys) -> float:
    """Network time of one checkpoint to the peers' memory, chunk by chunk."""
    size, buffer, wire = sent_bytes(experiment, keys), sub_buffer(experiment), link(experiment, keys)
    chunks, rest = divmod(size, buffer)
    return chunks * wire.seconds(buffer) + (wire.seconds(rest) if rest else 0.0)


def storage_seconds(experiment: Experiment, keys: Keys) -> float:
    """Time of one checkpoint to persistent storage, which all machines share."""
    return state_bytes(keys) / experiment.checkpoint.storage_bandwidth


def checkpoint_reduction(experiment: Experiment, keys: Keys, seed: int) -> float:
    """Figure 11: how many times faster a checkpoint is to the peers' memory than to persistent storage."""
    return storage_seconds(experiment, keys) / memory_seconds(experiment, keys)


def plan_traffic(experiment: Experiment, keys: Keys, spans: Iteration) -> Schedule:
    """The chunks of one checkpoint in the idle spans of an iteration, over more iterations if it does not fit one."""
    size, share = sent_bytes(experiment, keys), experiment.checkpoint.span_share
    wire, buffer = link(experiment, keys), sub_buffer(experiment)
    return schedule(idle_spans([spans.spans]), size, wire, buffer, gamma=share, amortise=True)


def iteration(experiment: Experiment, keys: Keys) -> tuple[Iteration, Schedule | None]:
    """Figures 7 and 8: an iteration with its checkpoint's traffic as [checkpoint] traffic says."""
    cluster, section = experiment.cluster, experiment.checkpoint
    machines = Machines(cluster.hosts, keys.devices, keys.flops, cluster.bandwidth * EFFICIENCY)
    plain = simulate(MODELS[keys.model], machines, keys.tokens)
    if section.traffic == "none" or section.replicas == 1:
        return plain, None
    if section.traffic == "blocking":
        return simulate(MODELS[keys.model], machines, keys.tokens, wait=memory_seconds(experiment, keys)), None
    planned = plan_traffic(experiment, keys, plain)
    per_iteration = [chunk for chunk in planned.chunks if chunk.iteration == 0]  # the fullest of its iterations
    return simulate(MODELS[keys.model], machines, keys.tokens, chunks=per_iteration), planned


def iteration_time_s(experiment: Experiment, keys: Keys, seed: int) -> float:
    """See `iteration`."""
    return iteration(experiment, keys)[0].time


def tiers(experiment: Experiment, keys: Keys) -> tuple[Tier, ...]:
    """What the three systems of Figure 14 keep, and where.

    Strawman: every 3 h to storage; 112 min a failure = 8 to write, 90 lost on average, 8 to read, 6 to restart [fit].
    HighFreq: as often as storage takes it, 8 min; training waits 80 s for each, from the published 480/560 [fit].
    GEMINI: in every iteration to the peers, and every 3 h to storage for when a whole group is lost; what the published
    9 min leave beside the restart and one and a half iterations is the time to replace and fetch [fit].
    """
    written = storage_seconds(experiment, keys)
    if keys.system == "strawman":
        return (Tier("storage", experiment.checkpoint.storage_every, 0.0, written, written, written),)
    if keys.system == "highfreq":
        return (Tier("storage", written, written / 6, written, written, written),)
    found, planned = iteration(experiment, keys)
    every = experiment.checkpoint.memory_every * max(1, planned.iterations if planned else 1)
    interval = every * found.time
    fetch = 9 * MINUTE - restart(experiment) - 1.5 * interval
    memory = Tier("memory", interval, 0.0, interval, max(0.0, fetch), max(0.0, fetch))
    return memory, Tier("storage", experiment.checkpoint.storage_every, 0.0, written, written, written)


def restart(experiment: Experiment) -> float:
    """Seconds from a failure until training runs again, without fetching a checkpoint."""
    return experiment.faults.detect + experiment.faults.restart


def simulate_job(experiment: Experiment, keys: Keys, seed: int) -> Report:
    """A job long enough for `study.failures` failures, or of 30 days where none are to come."""
    faults, section = experiment.faults, experiment.checkpoint
    rate = faults.failures_per_day / DAY
    ways = Faults(
        rate,
        faults.software_share,
        faults.machines,
        faults.detect,
        faults.restart,
        0.0,
        units=racks_of(experiment, keys),
    )
    placement = Placement(section.placement, experiment.cluster.hosts, section.replicas)
    target = keys.failures / rate if rate else 30 * DAY
    return Job(tiers(experiment, keys), ways, placement, target, seed).run()


def effective_ratio(experiment: Experiment, keys: Keys, seed: int) -> float:
    """Figure 14: work done over wall-clock time, by simulating the failures."""
    return simulate_job(experiment, keys, seed).ratio


def effective_ratio_linear(experiment: Experiment, keys: Keys, seed: int) -> float:
    """The published closed form: 1 - stalls - failures * (write + half an interval + fetch + restart), not below 0."""
    first = tiers(experiment, keys)[0]
    wall = first.interval + first.stall
    half = (first.interval if first.stall else wall) / 2
    lost = first.latency + half + first.peer + restart(experiment)
    return max(0.0, first.interval / wall - experiment.faults.failures_per_day / DAY * lost)
