"""Everything that is known of a simulated run before its time starts: buckets, costs, loads, steps.

The trainer's decisions are taken by the same functions here: toolkit.policies.buckets and .density, the sampler's deal
of examples (toolkit/sampler.py: shards differ by at most one example, the last step of an epoch is short).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simulator.compute import derive, examples_of, memory_costs
from simulator.horovod import Cycle
from simulator.network import Topology
from simulator.profile import Cost, Profile
from simulator.scenario import Scenario
from simulator.timing import Timing
from simulator.unmodelled import unmodelled
from toolkit import registry
from toolkit.errors import UserError
from toolkit.experiment import Experiment
from toolkit.policies.buckets import plan_buckets
from toolkit.policies.density import DensitySchedule
from toolkit.policies.devices import Device, inputs_of, load_device, table_scale
from toolkit.policies.lowrank import pieces

COUNT_BYTES = 4  # a sparse message begins with its number of entries
ENTRY_BYTES = 8  # int32 index, float32 value


@dataclass(frozen=True)
class StepCosts:
    """What a step costs at one density. Arrays are a bucket each, (buckets,).

    kind: "allreduce" or "allgather". entries: selected by one worker. payload: bytes one worker sends. compress, merge:
    seconds; compressed, merged_before: their running sums, with and without the bucket's own. optimize: seconds.
    exact: whether the message has the same size in every step.
    """

    kind: str
    density: float
    entries: tuple[int, ...]
    payload: tuple[int, ...]
    compress: NDArray[np.float64]
    merge: NDArray[np.float64]
    optimize: float
    exact: bool
    compressed: NDArray[np.float64] = field(init=False)
    merged_before: NDArray[np.float64] = field(init=False)
    sent: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sent", sum(self.payload))
        object.__setattr__(self, "compressed", np.cumsum(self.compress))
        object.__setattr__(self, "merged_before", np.concatenate([[0.0], np.cumsum(self.merge)[:-1]]))


@dataclass(frozen=True)
class Load:
    """A step's work, (workers,): micro-batches' worth of compute time, and the part of one in the last micro-batch."""

    batches: NDArray[np.float64]
    last: NDArray[np.float64]
    busy: NDArray[np.bool_]
    empty_workers: int


@dataclass(frozen=True)
class Step:
    """Costs and load of a step; seconds of its exchanges, (buckets,), and whether Horovod knows their sizes already.

    wire: bytes that a worker puts on the wire, mean over workers.
    """

    costs: StepCosts
    load: Load
    seconds: tuple[float, ...]
    cached: bool
    wire: float


@dataclass
class Plan:
    """A resolved run. `slowdown` (workers,) multiplies a worker's compute time; `stretch` is the host's contention."""

    experiment: Experiment
    profile: Profile
    topology: Topology
    timing: Timing
    cycle: Cycle
    device: Device
    stretch: float
    assumptions: list[str]
    slowdown: NDArray[np.float64]
    scenario: Scenario = field(default_factory=Scenario)
    buckets: list[list[int]] = field(init=False)
    _costs: dict[tuple[float, int], StepCosts] = field(default_factory=dict)
    _steps: dict[tuple[float, int, bool], Step] = field(default_factory=dict)

    def __post_init__(self) -> None:
        section, profile = self.experiment.compression, self.profile
        sizes = [layer.elements for layer in profile.layers]
        self.buckets = plan_buckets(sizes, section.granularity, section.merge_elements)
        self.elements = [sum(sizes[i] for i in bucket) for bucket in self.buckets]
        batch = self.experiment.data.batch_size
        scale = self.stretch * profile.batch_factor(batch)
        backward = np.array([layer.backward_s for layer in profile.layers]) * scale
        order = [i for bucket in self.buckets for i in bucket]
        self.segments = backward[order]  # in backward order
        lengths = np.cumsum([len(bucket) for bucket in self.buckets])
        self.ready_after = np.cumsum(self.segments)[lengths - 1]  # of backward, when each bucket is complete
        self.forward_s = sum(layer.forward_s for layer in profile.layers) * scale
        self.backward_s = float(self.ready_after[-1])
        self.data_s = profile.data_s * self.stretch * batch / profile.batch_size
        self.step_s = profile.step_s * self.stretch
        run, pipeline, workers = self.experiment.run, self.experiment.pipeline, self.topology.workers
        self.step_examples = self.experiment.data.batch_size * pipeline.accumulation
        longest = math.ceil(profile.examples / workers)
        self.steps_per_epoch = max(1, math.ceil(longest / self.step_examples))
        self.steps = run.steps or run.epochs * self.steps_per_epoch
        self.density = DensitySchedule.of(section, self.steps_per_epoch)

    @property
    def compute_cv(self) -> float:
        """Relative spread of a worker's compute time: its own, and that of sharing cores where workers do."""
        cluster, compute = self.experiment.cluster, self.forward_s + self.backward_s
        if self.topology.workers_per_host <= cluster.cores_per_host or compute <= 0:
            return self.profile.compute_cv
        whole = compute * self.experiment.pipeline.accumulation
        return math.hypot(self.profile.compute_cv, self.profile.slice_s / whole)

    def meet(self, scenario: Scenario) -> None:
        """Let a scenario happen to this run."""
        self.scenario = scenario
        if scenario.slow_links:
            rates = scenario.bandwidths(self.topology.hosts, self.topology.bandwidth)
            self.topology = dataclasses.replace(self.topology, host_bandwidths=rates)
            self.timing = Timing(self.topology, self.timing.algorithms)

    def step(self, number: int) -> Step:
        """Costs and load of one step, counted from 0."""
        density = self.density.at(number)
        position = number % self.steps_per_epoch
        warm = number > 0 and self.density.at(number - 1) == density and position > 0
        whole = position < self.steps_per_epoch - 1
        key = (density, -1 if whole else position, warm or number >= self.steps_per_epoch)
        if key not in self._steps:
            self._steps[key] = self._make_step(density, position, key[2])
        return self._steps[key]

    def _make_step(self, density: float, position: int, warm: bool) -> Step:
        load = self._load(position)
        key = (density, load.empty_workers)
        if key not in self._costs:
            self._costs[key] = self._make_costs(density, self.topology.workers - load.empty_workers)
        costs = self._costs[key]
        sizes = [self.sizes(costs, load, bucket) for bucket in range(len(self.buckets))]
        seconds = tuple(self.timing.seconds(costs.kind, size) for size in sizes)
        wire = sum(self.timing.wire(costs.kind, size) for size in sizes)
        return Step(costs, load, seconds, warm and costs.exact, wire)

    def sizes(self, costs: StepCosts, load: Load, bucket: int) -> tuple[float, ...]:
        """Bytes of each worker in a bucket's exchange; a single number where all are the same."""
        size = float(costs.payload[bucket])
        if load.empty_workers and costs.kind == "allgather":
            return tuple(np.where(load.busy, size, float(self.empty_payload(costs, bucket))).tolist())
        return (size,)

    def empty_payload(self, costs: StepCosts, bucket: int) -> int:
        """Bytes that a worker without examples sends for a bucket: a count of nothing, or zeros."""
        return COUNT_BYTES if costs.kind == "allgather" else costs.payload[bucket]

    def empty_bytes(self, costs: StepCosts) -> int:
        """Bytes that a worker without examples sends in a step."""
        return sum(self.empty_payload(costs, bucket) for bucket in range(len(self.buckets)))

    def _load(self, position: int) -> Load:
        workers, batch = self.topology.workers, self.experiment.data.batch_size
        rank = np.arange(workers)
        shard = self.profile.examples // workers + (rank < self.profile.examples % workers)
        count = np.clip(shard - position * self.step_examples, 0, self.step_examples)
        micro = -(-count // batch)
        of_last = self.profile.batch_factor(count - (micro - 1) * batch) / self.profile.batch_factor(batch)
        last = np.where(count > 0, of_last, 0.0)
        return Load(np.maximum(micro - 1, 0) + last, last, count > 0, int((count == 0).sum()))

    def samples(self) -> int:
        """Training examples of the whole run, all workers together."""
        epochs, rest = divmod(self.steps, self.steps_per_epoch)
        whole = self.topology.workers * self.step_examples
        return epochs * self.profile.examples + min(self.profile.examples, rest * whole)

    def _make_costs(self, density: float, senders: int) -> StepCosts:
        section, profile = self.experiment.compression, self.profile
        entry = registry.COMPRESSORS[section.name]
        dense = entry.wire == "dense" or density >= 1.0  # the trainer sends such steps dense, whatever the compressor
        linear = entry.wire == "linear" and not dense
        if dense:
            width = 4 if density >= 1.0 else entry.value_bytes
            entries, payload = self.elements, [width * n for n in self.elements]
        elif linear:
            entries = [self._linear(i, density, entry.exact_count) for i in range(len(self.elements))]
            payload = [4 * k for k in entries]
        else:
            entries = [self._selected(n, density, entry.exact_count) for n in self.elements]
            payload = [COUNT_BYTES + ENTRY_BYTES * k for k in entries]
        compress = self.cost("compress", profile.compress, section.name if density < 1.0 else "none")
        merge = self.cost("merge", profile.merge, "dense" if dense or linear else "sparse")
        optimize = self.cost("optimize", profile.optimize, self.experiment.optimizer.name)
        received = [0 if dense or linear else k * senders for k in entries]
        lists = entries if linear and entry.exact_count else received
        merged = sum(min(n, k) if k else n for n, k in zip(self.elements, lists, strict=True))
        return StepCosts(
            "allreduce" if dense or linear else "allgather",
            density,
            tuple(entries),
            tuple(payload),
            np.array([compress.seconds(n, k) for n, k in zip(self.elements, entries, strict=True)]) * self.stretch,
            np.array([merge.seconds(n, k) for n, k in zip(self.elements, received, strict=True)]) * self.stretch,
            optimize.seconds(sum(self.elements), merged) * self.stretch,
            dense or linear or entry.exact_count,
        )

    def _linear(self, bucket: int, density: float, exact: bool) -> int:
        """Values that a worker sends of a bucket: k of them, or those of its tensors' factors."""
        if exact:
            return min(self.elements[bucket], max(1, int(self.elements[bucket] * density)))
        layers = [self.profile.layers[i] for i in self.buckets[bucket]]
        shapes = [layer.shape or (layer.elements,) for layer in layers]
        note = "shapes that the profile does not tell are taken as vectors, which powersgd sends whole"
        if not all(layer.shape for layer in layers) and note not in self.assumptions:
            self.assumptions.append(note)
        return sum(piece.entries for piece in pieces(shapes, self.experiment.compression.rank))

    def _selected(self, elements: int, density: float, exact: bool) -> int:
        wanted = max(1, int(elements * density))
        achieved = 1.0 if exact else self.profile.achieved.get(self.experiment.compression.name, 1.0)
        return min(elements, round(wanted * achieved))

    def cost(self, what: str, table: dict[str, Cost], name: str) -> Cost:
        """A cost of the profile, or the device's own where the profile has none; the latter is noted."""
        if name in table:
            return table[name]
        note = f"{what} of '{name}' is not in the profile: taken from device '{self.device.name}'"
        if note not in self.assumptions:
            self.assumptions.append(note)
        compress, merge, optimize = memory_costs(self.device)
        return {"compress": compress, "merge": merge, "optimize": optimize}[what][name]

    def checkpoint_bytes(self, rank: int) -> int:
        """float32 parameters and optimizer state on rank 0, the residual on every rank that keeps one."""
        section, optimizer = self.experiment.compression, self.experiment.optimizer
        keeps = section.error_feedback and section.name != "none"
        vectors = {"fp32": 1.0, "bf16": 0.5}[section.residual] * keeps
        if rank == 0:
            vectors += 1 + (2 if "adam" in optimizer.name else int(optimizer.momentum > 0))
        return round(4 * self.profile.elements * vectors)

    def checkpoint_seconds(self) -> float:
        """All ranks of a host write to its disk; everybody waits for the last."""
        other = self.checkpoint_bytes(1)
        on_first = self.checkpoint_bytes(0) + other * (self.topology.workers_per_host - 1)
        return max(on_first, other * self.topology.workers_per_host) / self.device.disk_bandwidth


def build(
    experiment: Experiment, profile: Profile | None = None, *, host_network: bool = False, source: str = "experiment"
) -> Plan:
    """Resolve a run. host_network: on the network that the profile was measured on, all workers on that host."""
    device = load_device(experiment.cluster.device, f"{source}: [cluster] device")
    assumptions = unmodelled(experiment)
    if profile is None:
        profile, derived = _derived(experiment, device, source)
        assumptions += derived
    if profile.model != experiment.model.name:
        raise UserError(f"{source}: [model] name = '{experiment.model.name}': the profile is of '{profile.model}'")
    software = (profile.network.call_s, profile.network.coordinate_s) if profile.network else (0.0, 0.0)
    if host_network:
        experiment = _on_host(experiment, profile, source)
    topology = Topology.of(experiment.cluster)
    stretch = _contention(topology.workers_per_host, experiment.cluster.cores_per_host)
    if profile.source == "measured":
        stretch /= _contention(profile.host.get("ranks", 1), profile.host.get("cores", 1))
    elif device.kind != "cpu":
        stretch = 1.0  # each worker has its own device
    if profile.batch_size != experiment.data.batch_size:
        law = f"{profile.fixed_share:.0%} of it is fixed" if profile.fixed_share else "in proportion"
        assumptions.append(f"compute scales from batch size {profile.batch_size}, {law}")
    return Plan(
        experiment,
        profile,
        topology,
        Timing(topology),
        Cycle.of(topology, experiment.cluster.cycle_time, *software),
        device,
        stretch,
        assumptions,
        np.ones(topology.workers),
    )


def _derived(experiment: Experiment, device: Device, source: str) -> tuple[Profile, list[str]]:
    """A profile from FLOPs, and what was assumed: pictures of the table's size, windows in proportion to length."""
    model, data = experiment.model, experiment.data
    times = table_scale(model, data, source)
    table, _ = inputs_of(model.name)
    examples = examples_of(data.name, data.sequence)
    profile = derive(model.name, data.batch_size, examples, device, times=times)
    if data.name == table:
        return profile, []
    return profile, [
        f"the FLOPs of '{model.name}' are those of '{table}' inputs, the experiment trains on '{data.name}'"
    ]


def _contention(workers: int, cores: int) -> float:
    return max(1.0, workers / cores)


def _on_host(experiment: Experiment, profile: Profile, source: str) -> Experiment:
    network = profile.network
    if network is None:
        raise UserError(f"{source}: the profile has no network of the measured host")
    workers = experiment.cluster.workers
    return experiment.replace(
        cluster={
            "workers_per_host": workers,
            "cores_per_host": int(profile.host.get("cores", 1)),
            "local_bandwidth": network.bandwidth,
            "local_latency": network.latency_s,
            "cycle_time": network.cycle_s,
        }
    )
