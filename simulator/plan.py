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
from simulator.exchanges import Ways
from simulator.horovod import Cycle
from simulator.links import payload_rates
from simulator.paced import on_device
from simulator.profile import Cost, LinkFit, NetworkFit, Profile
from simulator.scenario import Scenario
from simulator.stepcosts import Load, Step, StepCosts
from simulator.timing import LISTS, Timing
from simulator.topology import Topology
from simulator.unmodelled import unmodelled
from toolkit import registry
from toolkit.errors import UserError
from toolkit.experiment import ClusterSection, Experiment
from toolkit.policies.buckets import plan_buckets
from toolkit.policies.density import DensitySchedule
from toolkit.policies.devices import Device, inputs_of, load_device, table_scale


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
    scenario: Scenario
    buckets: list[list[int]] = field(init=False)
    _costs: dict[tuple[float, int], StepCosts] = field(default_factory=dict)
    _steps: dict[tuple[float, int, bool], Step] = field(default_factory=dict)

    def __post_init__(self) -> None:
        section, profile = self.experiment.compression, self.profile
        sizes = [layer.elements for layer in profile.layers]
        self.buckets = plan_buckets(sizes, section.granularity, section.merge_elements)
        self.elements = [sum(sizes[i] for i in bucket) for bucket in self.buckets]
        batch = self.experiment.data.batch_size
        crowded = 1.0 if self.experiment.run.compute == "paced" else self.stretch  # who sleeps needs no core
        scale = crowded * profile.batch_factor(batch)
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
        self._settled = max(section.dense_steps, section.warmup_epochs * self.steps_per_epoch)  # no other density after
        self._usual: Step | None = None

    @property
    def compute_cv(self) -> float:
        """Relative spread of a worker's compute time: its own, and that of sharing cores where workers do."""
        cluster, compute = self.experiment.cluster, self.forward_s + self.backward_s
        if self.topology.workers_per_host <= cluster.cores_per_host or compute <= 0:
            return self.profile.compute_cv
        whole = compute * self.experiment.pipeline.accumulation
        return math.hypot(self.profile.compute_cv, self.profile.slice_s / whole)

    @property
    def pooled(self) -> bool:
        """Whether workers share cores as they come."""
        cluster = self.experiment.cluster
        asked = self.topology.workers_per_host * self.experiment.compression.threads
        return cluster.cpu_sharing == "processor" and asked > cluster.cores_per_host

    @property
    def on_cores(self) -> bool:
        """Whether forward and backward run on the cores of the host, not on a device of the worker's own."""
        if self.profile.source == "measured":
            return self.experiment.run.compute != "paced"
        return self.device.kind == "cpu"

    @property
    def contended(self) -> bool:
        """Whether exchanges meet each other or other traffic on the links."""
        return self.scenario.contended or any(self.step(number).costs.crossing for number in self._changes())

    def mixed_step(self) -> int | None:
        """The first step in which an exchange may begin when another has ended; None if there is none."""
        return next((number for number in self._changes() if not self.step(number).costs.simple), None)

    def _changes(self) -> list[int]:
        """Steps in which the density may change, the first among them."""
        epochs = range(min(self.experiment.compression.warmup_epochs, self.steps // self.steps_per_epoch) + 1)
        changes = {0, self.experiment.compression.dense_steps, *(epoch * self.steps_per_epoch for epoch in epochs)}
        return sorted(number for number in changes if number < self.steps)

    def step(self, number: int) -> Step:
        """Costs and load of one step, counted from 0."""
        if (
            self._usual is not None
            and number > self._settled
            and 0 < number % self.steps_per_epoch < self.steps_per_epoch - 1
        ):
            return self._usual  # what nearly every step of a long run is
        density = self.density.at(number)
        position = number % self.steps_per_epoch
        warm = number > 0 and self.density.at(number - 1) == density and position > 0
        whole = position < self.steps_per_epoch - 1
        key = (density, -1 if whole else position, warm or number >= self.steps_per_epoch)
        if key not in self._steps:
            self._steps[key] = self._make_step(density, position, key[2])
        if whole and key[2] and number > self._settled:
            self._usual = self._steps[key]
        return self._steps[key]

    def _make_step(self, density: float, position: int, warm: bool) -> Step:
        load = self._load(position)
        key = (density, load.empty_workers)
        if key not in self._costs:
            self._costs[key] = self._make_costs(density, load.busy)
        costs = self._costs[key]
        seconds = tuple(self.timing.seconds(way.kind, way.sizes) for way in costs.ways)
        again = tuple(self.timing.seconds("allreduce", way.again) if way.again else 0.0 for way in costs.ways)
        wire = sum(self.timing.wire(way.kind, way.sizes) for way in costs.ways)
        wire += sum(self.timing.wire("allreduce", way.again) for way in costs.ways if way.again)
        return Step(costs, load, seconds, again, warm and costs.exact, wire)

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

    def _make_costs(self, density: float, busy: NDArray[np.bool_]) -> StepCosts:
        section, profile = self.experiment.compression, self.profile
        merge_s = 0.0
        if self.experiment.exchange in LISTS:
            merge_s = self.cost("merge", profile.merge, "sparse").entry_s * self.stretch
        ways = Ways(self.experiment, profile.achieved_at(section.name, density), merge_s)
        rows = [ways.of([profile.layers[i] for i in bucket], density, busy) for bucket in self.buckets]
        self._note_shapes(density)
        compress, merge, touched = [], [], 0
        for n, way in zip(self.elements, rows, strict=True):
            whole = way.whole and registry.COMPRESSORS[section.name].wire == "sparse"  # a bypass costs a copy
            cost = self.cost("compress", profile.compress, "none" if whole or density >= 1.0 else section.name)
            compress.append(cost.seconds(n, way.entries))
            cost = self.cost("merge", profile.merge, "sparse" if way.merged else "dense")
            merge.append(cost.seconds(n, way.merged))
            touched += n if way.whole else min(n, way.merged or way.entries)
        optimize = self.cost("optimize", profile.optimize, self.experiment.optimizer.name)
        return StepCosts(
            density,
            tuple(rows),
            np.array(compress) * self.stretch,
            np.array(merge) * self.stretch,
            optimize.seconds(sum(self.elements), touched) * self.stretch,
        )

    def _note_shapes(self, density: float) -> None:
        note = "shapes that the profile does not tell are taken as vectors, which powersgd sends whole"
        needed = self.experiment.compression.name == "powersgd" and density < 1.0
        if needed and note not in self.assumptions and not all(layer.shape for layer in self.profile.layers):
            self.assumptions.append(note)

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
    elif experiment.run.compute == "paced":
        profile = on_device(experiment, profile, source)
        assumptions.append(f"compute is paced: forward and backward are those of device '{device.name}'")
    if experiment.cluster.saturating_batch:
        profile = dataclasses.replace(profile, saturating_batch=experiment.cluster.saturating_batch)
    if profile.model != experiment.model.name:
        raise UserError(f"{source}: [model] name = '{experiment.model.name}': the profile is of '{profile.model}'")
    if host_network:
        experiment = _on_host(experiment, profile, source)
    scenario = Scenario.of(experiment, source)
    topology = scenario.disturbed(Topology.of(experiment.cluster))
    measured: NetworkFit | LinkFit | None = profile.network
    if profile.links and topology.hosts > 1:
        topology, measured = payload_rates(topology, profile.links), profile.links
    software = (measured.call_s, measured.coordinate_s) if measured else (0.0, 0.0)
    stretch = 1.0
    if experiment.cluster.cpu_sharing == "stretch":
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
        Timing(topology, algorithms(experiment.cluster)),
        Cycle.of(topology, experiment.cluster.cycle_time, *software),
        device,
        stretch,
        assumptions,
        np.ones(topology.workers),
        scenario,
    )


def algorithms(cluster: ClusterSection) -> dict[str, str]:
    """The collective algorithms that are set, by kind."""
    chosen = {"allreduce": cluster.allreduce, "allgather": cluster.allgather}
    return {kind: name for kind, name in chosen.items() if name != "auto"}


def _derived(experiment: Experiment, device: Device, source: str) -> tuple[Profile, list[str]]:
    """A profile from FLOPs, and what was assumed: pictures of the table's size, windows in proportion to length."""
    model, data = experiment.model, experiment.data
    times = table_scale(model, data, source)
    table, _ = inputs_of(model.name)
    examples = examples_of(data.name, data.sequence)
    alpha = experiment.cluster.saturating_batch
    profile = derive(model.name, data.batch_size, examples, device, times=times, saturating=alpha)
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
