"""What StellaTrain's study predicts, each function one number; the published constants stand beside their source.

Marks: [P] the paper's text, [F] digitised from its figures (1 %). What is fitted, and to which cell, is said where it
is used: the 1 Gbit/s column and three of the five ablations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

from simulator.pipeline import Pipeline, Rules, Stages
from toolkit.experiment import Experiment
from toolkit.keys import key
from toolkit.policies.control import ENTRY_BYTES, Bandwidth, Choice, Controller, Worker, choose, least_rate
from toolkit.policies.penalty import Penalty, load

NODES = 4  # three on premises and one rented, two GPUs each [P]
GPUS = {"4090": 4, "3090": 2, "2080ti": 2}
WORKERS = {  # alpha (samples), beta (samples/s) [P]
    "resnet152": {"2080ti": (32, 118), "3090": (48, 183), "4090": (64, 270)},
    "vit": {"2080ti": (20, 99), "3090": (32, 148), "4090": (28, 300)},
    "swin": {"2080ti": (16, 80), "3090": (36, 112), "4090": (40, 217)},
}
PARAMETERS = {"resnet152": 58_000_000, "vit": 88_000_000, "swin": 139_000_000}  # [P]
SYSTEMS = ("ddp", "ddp-hetero", "stellatrain")
ABLATIONS = ("none", "topk", "dense-optimizer", "both", "first-come", "no-staleness", "no-adaptation")
QUANTITIES = ("samples_per_s", "relative_tta", "compression_rate", "relative_speed")
FITTED_AT = 125e6  # bytes/s: the 1 Gbit/s column
SAMPLES_AT_1G = {  # images/s at 1 Gbit/s [F]: ddp-hetero, stellatrain
    "resnet152": (196.0, 1712.0),
    "vit": (152.0, 1810.0),
    "swin": (98.0, 1359.0),
}
TTA_AT_1G = {"resnet152": (0.571, 0.0698), "vit": (0.488, 0.0424), "swin": (0.535, 0.0424)}  # DDP = 1 [F]
# Swin-B's blocks: parameters 12 C^2 of widths 128 to 1024, equal FLOPs each
BLOCKS = (0.2,) * 2 + (0.79,) * 2 + (3.15,) * 18 + (12.6,) * 2
TOPK_SPEED, DENSE_SPEED, BOTH_SPEED = 1 - 0.113, 1 - 0.173, 1 - 0.443  # [P]: what the CPU's times are fitted to
COPY = 0.05  # share of an iteration that a copy over PCIe takes: 4 bytes x 88 M at 12 GB/s over .3 s, halved by overlap
TRACE = (  # Mbit/s, once a second [F]
    *(116, 126, 95, 84, 95, 84, 95, 95, 95, 105, 105, 116, 116, 116, 126, 158, 126, 95, 105, 105, 105, 105, 105, 116),
    *(126, 116, 126, 137, 137, 147, 179, 158, 116, 116, 126, 126, 137, 126, 137, 137, 137, 147, 147, 158, 168, 126, 95),
    *(
        105,
        105,
        105,
        105,
        116,
        116,
        126,
        116,
        137,
        126,
        147,
        158,
        179,
        210,
        242,
        105,
        105,
        105,
        105,
        116,
        105,
        126,
        116,
    ),
)
SLOPE, CURVE = 0.05, 0.0145  # of the penalty where no profile is given; only their ratio decides: see `_usual`


@dataclass(frozen=True)
class Keys:
    quantity: str = key("samples_per_s", "which cell", choices=QUANTITIES)
    model: str = key("resnet152", "network", choices=WORKERS)
    system: str = key("stellatrain", "who trains", choices=SYSTEMS)
    off: str = key("none", "what of stellatrain is turned off", choices=ABLATIONS)
    trace: bool = key(False, "on the published trace of a WAN in place of cluster.bandwidth")
    samples: int = key(0, "compression_rate: the total batch; 0: the controller's", low=0)


def cluster(model: str) -> list[Worker]:
    """The eight GPUs."""
    return [Worker(*WORKERS[model][name]) for name, count in GPUS.items() for _ in range(count)]


def saturated(model: str) -> float:
    """Samples/s of all GPUs with batches that keep them busy."""
    return math.fsum(worker.beta for worker in cluster(model))


def dense_s(model: str, bandwidth: float) -> float:
    """A dense allreduce of fp32 gradients between the nodes, s: 2 (N - 1) / N of the bytes on each link."""
    return 2 * (NODES - 1) / NODES * 4 * PARAMETERS[model] / bandwidth


def middle(model: str) -> float:
    """The batch that the penalty's profile is relative to: all GPUs just busy."""
    return math.fsum(worker.alpha for worker in cluster(model))


@cache
def _penalty(path: str) -> Penalty:
    return Penalty(load(path))


def _usual(rate: float, batch: float) -> float:
    """Without a profile: each tenth of the bytes costs the same, a batch off the middle one the square of its octaves.

    Their ratio makes 1.43 times the middle batch the best, which is what the paper's example chose (137) [fit].
    """
    return SLOPE * -math.log10(1 - rate) + CURVE * math.log2(batch) ** 2


def decide(experiment: Experiment, model: str, bandwidth: float) -> Choice:
    """The controller's choice of batches and rate, with the profile of [control] penalty, if there is one."""
    profile, half = experiment.control.penalty, middle(model)
    g = _penalty(profile) if profile else _usual
    workers, weight = cluster(model), experiment.control.cv_weight
    largest = 4 * half  # a profile reaches no further
    return choose(workers, bandwidth, PARAMETERS[model], lambda r, x: g(r, x / half), largest=largest, cv_weight=weight)


def samples_per_s(experiment: Experiment, keys: Keys) -> float:
    """Images a second. ddp: bound by the network; its batch is fitted at 1 Gbit/s. stellatrain: bound by the devices,
    whose published rates are low by a factor that is fitted at 1 Gbit/s, if the network carries what was chosen.
    """
    hetero, stella = SAMPLES_AT_1G[keys.model]
    if keys.system != "stellatrain":
        batch = hetero * dense_s(keys.model, FITTED_AT)
        if keys.system == "ddp":
            batch *= TTA_AT_1G[keys.model][0]  # equal batches: what relative time to accuracy says at 1 Gbit/s [fit]
        return batch / max(dense_s(keys.model, experiment.cluster.bandwidth), batch / saturated(keys.model))
    scale = stella / decide(experiment, keys.model, FITTED_AT).samples_per_s
    if keys.trace:
        return scale * on_trace(experiment, keys.model, adapt=keys.off != "no-adaptation")
    choice = decide(experiment, keys.model, experiment.cluster.bandwidth)
    return scale * choice.samples_per_s * relative_speed(experiment, keys)


def relative_tta(experiment: Experiment, keys: Keys) -> float:
    """Time to accuracy over that of DDP: (1 + g) / samples a second, with the loss penalty fitted at 1 Gbit/s.

    stellatrain's penalty grows with the logarithm of 1 / (1 - r): its slope is fitted at 1 Gbit/s.
    """
    plain = _replace(keys, system="ddp")
    if keys.system == "ddp":
        return 1.0
    if keys.system == "ddp-hetero":
        return samples_per_s(experiment, plain) / samples_per_s(experiment, keys)
    at_1g = experiment.replace(cluster={"bandwidth": FITTED_AT})
    speed_up = samples_per_s(at_1g, plain) / samples_per_s(at_1g, keys)
    slope = (TTA_AT_1G[keys.model][1] / speed_up - 1) / _nines(at_1g, keys)
    return (1 + slope * _nines(experiment, keys)) * samples_per_s(experiment, plain) / samples_per_s(experiment, keys)


def _nines(experiment: Experiment, keys: Keys) -> float:
    """log10 of 1 / (1 - r) at the controller's choice."""
    return -math.log10(1 - decide(experiment, keys.model, experiment.cluster.bandwidth).rate)


def compression_rate(experiment: Experiment, keys: Keys) -> float:
    """The least rate that the link allows: 1 - (B / m) T, m = 8 bytes a parameter, T = samples over saturated rate.

    For study.samples the cluster is the smaller one of the paper's example, two 4090 and two 2080Ti.
    """
    if not keys.samples:
        return decide(experiment, keys.model, experiment.cluster.bandwidth).rate
    few = math.fsum(2 * WORKERS[keys.model][name][1] for name in ("4090", "2080ti"))
    return least_rate(experiment.cluster.bandwidth, PARAMETERS[keys.model], keys.samples / few)


def relative_speed(experiment: Experiment, keys: Keys) -> float:
    """Iteration speed with something turned off, over that with everything; Swin's blocks in the event pipeline.

    The network is as full as the controller makes it, an iteration's time. Three times of the CPU, in iterations, are
    fitted to three published speeds: what it does with both fast kernels, and what top-k and a dense optimizer add.
    """
    if keys.off in ("none", "no-adaptation"):
        return 1.0
    rules = Rules(staleness=int(keys.off != "no-staleness"), by_priority=keys.off != "first-come")
    topk, dense = keys.off in ("topk", "both"), keys.off in ("dense-optimizer", "both")
    return pipeline_s(False, False, Rules()) / pipeline_s(topk, dense, rules)


@cache
def pipeline_s(topk: bool, dense: bool, rules: Rules) -> float:
    """Iteration time over that of the devices alone."""
    busy = 1 / TOPK_SPEED + 1 / DENSE_SPEED - 1 / BOTH_SPEED  # of the CPU with both fast kernels
    select = 0.8 * busy + (1 / BOTH_SPEED - 1 / DENSE_SPEED if topk else 0.0)
    update = 0.2 * busy + (1 / BOTH_SPEED - 1 / TOPK_SPEED if dense else 0.0)
    whole, layers = sum(BLOCKS), len(BLOCKS)
    stages = [
        Stages(1 / 3 / layers, 2 / 3 / layers, *(p / whole * s for s in (COPY, select, 1.0, update, COPY)))
        for p in BLOCKS
    ]
    return Pipeline(stages, rules).iteration_s()


def on_trace(experiment: Experiment, model: str, *, adapt: bool) -> float:
    """Samples a second over the published trace, repeated, with the controller or with its first decision kept."""
    first = TRACE[0] * 1.25e5
    control = experiment.control
    memory: dict[float, Choice] = {}

    def near(bandwidth: float) -> Choice:
        rounded = float(f"{bandwidth:.2g}")
        if rounded not in memory:
            memory[rounded] = decide(experiment, model, rounded)
        return memory[rounded]

    controller = Controller(near, Bandwidth(first), control.every, control.delay)
    choice, now, samples, iteration = near(first), 0.0, 0, 0
    end = 20 * len(TRACE)
    while now < end:
        size = (NODES - 1) / NODES * (1 - choice.rate) * ENTRY_BYTES * PARAMETERS[model]
        sent = _send(now, size)
        seconds = max(choice.seconds, sent)  # staleness 1: the exchange hides behind the next iteration
        samples += sum(choice.batches)
        now += seconds
        iteration += 1
        decided = controller.step(iteration, size / sent, 1 - sent / seconds)
        choice = decided if adapt else choice
    return samples / now


def _send(start: float, size: float) -> float:
    """Seconds to send so many bytes from `start` on, at the trace's rates."""
    now = start
    while size > 0:
        rate = TRACE[int(now) % len(TRACE)] * 1.25e5
        step = min(math.floor(now) + 1 - now, size / rate)
        size -= rate * step if step * rate < size else size
        now += step
    return now - start


def _replace(keys: Keys, **changes: str) -> Keys:
    return Keys(**{**vars(keys), **changes})
