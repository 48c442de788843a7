"""Run folders written from known constants, without the engine: what a calibration must find again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from toolkit import registry
from toolkit.experiment import Experiment, dump
from toolkit.policies.buckets import plan_buckets
from toolkit.trace import RankSteps, Span, summarize, write_trace

TENSORS = (("conv.weight", 4_000), ("block.weight", 60_000), ("block.bias", 500), ("fc.weight", 20_000))


@dataclass
class Truth:
    """The constants from which a trace is written; times in seconds, noise as a relative standard deviation."""

    forward: tuple[float, ...] = (2e-3, 4e-3, 1e-4, 1e-3)
    backward: tuple[float, ...] = (3e-3, 9e-3, 2e-4, 2e-3)
    data: float = 4e-4
    rest: float = 3e-4
    compress: dict[str, tuple[float, float, float]] = field(
        default_factory=lambda: {
            "none": (5e-6, 0.0, 0.0),
            "topk": (2e-5, 8e-9, 4e-8),
            "sidco-e": (3e-5, 3e-9, 1e-8),
        }
    )
    merge: dict[str, tuple[float, float, float]] = field(
        default_factory=lambda: {"dense": (1e-5, 3e-10, 0.0), "sparse": (1e-5, 5e-10, 6e-9)}
    )
    optimize: tuple[float, float] = (5e-5, 2e-9)
    call: float = 2e-4
    coordinate: float = 8e-4
    latency: float = 3e-5
    bandwidth: float = 4e8
    noise: float = 0.0
    achieved: dict[str, float] = field(default_factory=lambda: {"topk": 1.0, "sidco-e": 1.1})


def _exchange_seconds(truth: Truth, workers: int, wire: str, sizes: list[int]) -> float:
    if workers == 1:
        return truth.call
    if wire == "dense" and sizes[0] >= 10_000:  # ring
        ways, port = 2 * (workers - 1), 2 * (workers - 1) / workers * sizes[0]
    elif wire == "dense":  # recursive doubling
        ways, port = int(np.log2(workers)), np.log2(workers) * sizes[0]
    elif sum(sizes) >= 50_000 or workers == 2:  # ring
        ways, port = workers - 1, sum(sizes) - min(sizes)
    else:  # Bruck
        ways, port = int(np.ceil(np.log2(workers))), sum(sizes) - min(sizes)
    return truth.call + ways * truth.latency + port / truth.bandwidth


class Writer:
    """Writes the trace of every rank of one run, exchange by exchange, with a common clock."""

    def __init__(self, truth: Truth, experiment: Experiment, seed: int) -> None:
        self.truth, self.experiment = truth, experiment
        self.random = np.random.default_rng(seed)
        self.workers = experiment.cluster.workers
        section = experiment.compression
        plan = plan_buckets([n for _, n in TENSORS], section.granularity, section.merge_elements)
        self.buckets = [(f"bucket{i}", members, sum(TENSORS[j][1] for j in members)) for i, members in enumerate(plan)]
        self.entry = registry.COMPRESSORS[section.name]
        self.spans: list[list[Span]] = [[] for _ in range(self.workers)]
        self.now = [0.0] * self.workers

    def stage(self, rank: int, step: int, what: str, name: str, seconds: float, detail: dict | None = None) -> None:
        factor = 1.0
        if self.truth.noise and what != "wait":
            factor = float(np.exp(self.random.normal(0.0, self.truth.noise)))
        start, self.now[rank] = self.now[rank], self.now[rank] + seconds * factor
        self.spans[rank].append(Span(what, name, 0, start, self.now[rank], step, rank, detail))

    def write(self, steps: int) -> None:
        for step in range(steps):
            self.step(step)

    def step(self, step: int) -> None:
        truth = self.truth
        starts = list(self.now)
        launches: dict[str, list[tuple[float, int, int]]] = {name: [] for name, _, _ in self.buckets}
        for rank in range(self.workers):
            self.stage(rank, step, "data", "", truth.data)
            self.stage(rank, step, "forward", "", sum(truth.forward))
            for name, members, elements in self.buckets:
                for j in members:
                    self.stage(rank, step, "backward", TENSORS[j][0], truth.backward[j])
                launches[name].append(self.compress(rank, step, name, elements))
            self.stage(rank, step, "backward", "", 0.0)
        free = 0.0
        for name, _, elements in self.buckets:
            free = self.exchange(step, name, elements, launches[name], free)
        for rank in range(self.workers):
            self.stage(rank, step, "optimize", "", truth.optimize[0] + truth.optimize[1] * sum(n for _, n in TENSORS))
            self.now[rank] += truth.rest
            self.spans[rank].append(Span("step", "", 0, starts[rank], self.now[rank], step, rank))

    def compress(self, rank: int, step: int, name: str, elements: int) -> tuple[float, int, int]:
        section, truth = self.experiment.compression, self.truth
        selected, size = elements, elements * self.entry.value_bytes
        if self.entry.wire == "sparse":
            spread = 1.0 if self.entry.exact_count else 1.0 + 0.2 * self.random.uniform(-1, 1)
            wanted = max(1, int(elements * section.density))
            selected = max(1, round(wanted * truth.achieved[section.name] * spread))
            size = 4 + 8 * selected
        call, element, entry = truth.compress[section.name]
        density = section.density if self.entry.wire == "sparse" else 1.0
        detail = {"elements": elements, "density": density, "selected": selected}
        self.stage(rank, step, "compress", name, call + element * elements + entry * selected, detail)
        return self.now[rank], size, selected

    def exchange(
        self, step: int, name: str, elements: int, launched: list[tuple[float, int, int]], free: float
    ) -> float:
        truth, sizes = self.truth, [size for _, size, _ in launched]
        ready = max(at for at, _, _ in launched)
        begin = free
        if free <= ready:  # the next cycle, its coordination, and the negotiation of new sizes
            trees = 1 if self.entry.wire == "dense" or self.entry.exact_count else 5
            begin = ready + self.random.uniform(0, self.experiment.cluster.cycle_time)
            begin += truth.coordinate + trees * int(np.ceil(np.log2(self.workers))) * truth.latency
        end = begin + _exchange_seconds(truth, self.workers, self.entry.wire, sizes)
        entries = sum(selected for _, _, selected in launched) if self.entry.wire == "sparse" else 0
        call, element, entry = truth.merge[self.entry.wire]
        for rank in range(self.workers):
            blocked = self.now[rank] < end
            seen = max(end, self.now[rank])
            self.stage(rank, step, "wait", name, seen - self.now[rank])
            detail = {"exact_end": float(blocked)}
            self.spans[rank].append(Span("communicate", name, sizes[rank], launched[rank][0], seen, step, rank, detail))
            detail = {"elements": elements, "entries": entries or elements}
            self.stage(rank, step, "merge", name, call + element * elements + entry * entries, detail)
        return end


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """write_run(truth, name, steps=40, seed=1, cores=8, **sections) -> folder of a run of a four-tensor network."""

    def write(
        truth: Truth, name: str, steps: int = 40, seed: int = 1, cores: int = 8, **sections: dict[str, object]
    ) -> Path:
        experiment = Experiment().replace(run={"steps": steps}, **sections)
        writer = Writer(truth, experiment, seed)
        writer.write(steps)
        folder = tmp_path / name
        (folder / "trace").mkdir(parents=True)
        (folder / "config.toml").write_text(dump(experiment))
        (folder / "environment.json").write_text(json.dumps({"cores": cores, "cpu": "synthetic", "simd": "avx2"}))
        for rank, spans in enumerate(writer.spans):
            header = {
                "rank": rank,
                "workers": writer.workers,
                "model": experiment.model.name,
                "tensors": [list(tensor) for tensor in TENSORS],
                "batch_size": experiment.data.batch_size,
                "examples": 1437,
                "cores": cores,
                "hosts": ["one"] * writer.workers,
            }
            write_trace(folder / "trace" / f"rank{rank}.jsonl", header, spans)
        samples = steps * writer.workers * experiment.data.batch_size
        ranks = [RankSteps.of(spans) for spans in writer.spans]
        result = summarize(ranks, seed=1, samples=samples).to_json()
        (folder / "result.json").write_text(json.dumps(result))
        return folder

    return write


@pytest.fixture
def truth() -> Truth:
    return Truth()
