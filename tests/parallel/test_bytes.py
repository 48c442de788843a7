"""The bytes that the simulator charges are those in the traces of real runs: every exchange, wire format and policy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from simulator.plan import Plan, build
from simulator.profile import Layer, Profile
from toolkit.experiment import load
from toolkit.trace import read_run

JOB = Path(__file__).with_name("job_bytes.py")
EXACT = {
    "none": [],
    "fp16": ["compression.name=fp16"],
    "bf16": ["compression.name=bf16"],
    "topk": ["compression.name=topk", "compression.dense_steps=1"],
    "rounded": ["compression.name=topk", "compression.wire_values=bf16"],
    "randomk": ["compression.name=randomk"],
    "randomk-bf16": ["compression.name=randomk", "compression.wire_values=bf16"],
    "powersgd": ["compression.name=powersgd", "compression.granularity=model", "compression.rank=3"],
    "gtopk": ["compression.name=topk", "compression.exchange=gtopk"],
    "gtopk-rounded": ["compression.name=topk", "compression.exchange=gtopk", "compression.wire_values=bf16"],
    "bypass": ["compression.name=topk", "compression.bypass=auto", "compression.density=0.2", "cluster.latency=1 us"],
    "bypass-gtopk": ["compression.name=topk", "compression.bypass=auto", "compression.exchange=gtopk"],
}
NEAR = {
    "delta": (["compression.name=topk", "compression.wire_indices=delta", "compression.granularity=model"], 0.1),
    "oktopk": (["compression.name=topk", "compression.exchange=oktopk", "compression.granularity=model"], 0.1),
}
EMPTY = ["data.batch_size=359"]  # 1438 examples on 4 ranks: in each second step two ranks have none


def plan_of(folder: Path, workers: int, overrides: list[str]) -> Plan:
    """The simulator's plan of a run, its tensors those of the saved model."""
    experiment = load(Path(__file__).with_name("small.toml"), [f"cluster.workers={workers}", "run.steps=3", *overrides])
    header, _ = read_run(folder)
    saved = load_file(folder / "model.safetensors")
    shapes = [tuple(saved[f"t{i}"].shape) for i in range(len(header["tensors"]))]
    layers = [
        Layer(name, size, 1e-3, 2e-3, shape) for (name, size), shape in zip(header["tensors"], shapes, strict=True)
    ]
    profile = Profile(experiment.model.name, experiment.data.batch_size, "measured", header["examples"], tuple(layers))
    return build(experiment, profile)


def traced(folder: Path, what: str) -> list[list[list[int]]]:
    """Bytes of each step, rank and bucket."""
    _, ranks = read_run(folder)
    steps = 1 + max(span.step for span in ranks[0])
    table = [[[] for _ in ranks] for _ in range(steps)]
    for rank, spans in enumerate(ranks):
        for span in sorted(
            (s for s in spans if s.what == what), key=lambda s: (s.step, int(s.name.removeprefix("bucket")))
        ):
            table[span.step][rank].append(span.bytes)
    return table


def charged(plan: Plan, step: int) -> list[list[int]]:
    return [[int(way.sent[rank]) for way in plan.step(step).costs.ways] for rank in range(plan.topology.workers)]


@pytest.mark.parallel
@pytest.mark.timeout(200)
def test_three_ranks_send_what_is_charged(mpirun, tmp_path):
    cases = {**EXACT, **{name: settings for name, (settings, _) in NEAR.items()}}
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    done = mpirun(3, JOB, tmp_path, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    for name, settings in EXACT.items():
        plan, sent = plan_of(tmp_path / name, 3, settings), traced(tmp_path / name, "communicate")
        payloads = traced(tmp_path / name, "compress")
        for step in range(3):
            assert sent[step] == charged(plan, step), (name, step)
            assert payloads[step] == [list(plan.step(step).costs.payload)] * 3, (name, step)
    for name, (settings, error) in NEAR.items():
        plan, sent = plan_of(tmp_path / name, 3, settings), traced(tmp_path / name, "communicate")
        for step in range(3):
            total = sum(map(sum, sent[step]))
            assert total == pytest.approx(sum(map(sum, charged(plan, step))), rel=error), (name, step)


@pytest.mark.parallel
@pytest.mark.timeout(120)
def test_ranks_without_examples_send_what_is_charged(mpirun, tmp_path):
    cases = {name: [*EXACT[name], *EMPTY] for name in ("none", "topk", "powersgd", "gtopk", "bf16")}
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    done = mpirun(4, JOB, tmp_path, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]
    for name, settings in cases.items():
        plan, sent = plan_of(tmp_path / name, 4, settings), traced(tmp_path / name, "communicate")
        assert not plan.step(1).load.busy[2:].any()
        assert [sent[step] for step in range(3)] == [charged(plan, step) for step in range(3)], name
