"""Run under mpirun: the laws of BSP, ASP, SSP, the switch and the online policies; prints "all laws hold" at the end.

The trainer itself raises where ranks differ after a phase, so a run that ends has equal replicas.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from toolkit.comm import Communicator, abort_job
from toolkit.data import load_task
from toolkit.evaluate import Evaluator
from toolkit.experiment import load
from toolkit.registry import COMPRESSORS
from toolkit.sections.network import DataSection
from toolkit.train import train

SMALL = Path(__file__).with_name("small.toml")
STEPS = 6


def run(comm: Communicator, out: Path, *settings: str) -> dict[str, Any]:
    """A small run in this job; its result."""
    overrides = [f"cluster.workers={comm.size}", f"run.steps={STEPS}", "compression.merge_elements=5000", *settings]
    return train(load(SMALL, overrides), out, comm)


def check_work(result: dict[str, Any], units: int) -> None:
    """All the work is done, once, whatever the order, and every push was seen by every shard."""
    assert sum(row["steps"] for row in result["phases"]) == result["steps"]
    assert len(result["training"]["losses"]) == result["steps"]
    assert all(np.isfinite(result["training"]["losses"]))
    assert result["sync"]["evaluations"][-1]["units"] == units
    pushes = sum(row["steps"] for row in result["phases"] if row["name"] != "bsp")
    if pushes:
        seen = result["sync"]["staleness"]["histogram"]
        assert sum(seen.values()) % pushes == 0
        assert sum(seen.values()) // pushes in (1, result["workers"])


def check_every_compressor(comm: Communicator, out: Path) -> None:
    """Dense, sparse, and what is linear between workers but a list for a server, with dense and sparse optimizers."""
    names = [name for name in COMPRESSORS if name != "powersgd"]
    optimizers = ("sgd", "sparse-sgd", "adam", "sparse-adam")
    for name, optimizer in zip(names, itertools.cycle(optimizers), strict=False):
        rate = "0.002" if "adam" in optimizer else "0.05"
        settings = [f"compression.name={name}", f"optimizer.name={optimizer}", f"optimizer.learning_rate={rate}"]
        result = run(comm, out, "sync.policy=switch", "sync.switch_at=0.5", *settings)
        check_work(result, STEPS * comm.size)
        assert [row["name"] for row in result["phases"]] == ["bsp", "asp"]
        assert [row["steps"] for row in result["phases"]] == [3, 3 * comm.size]


def check_one_worker_is_a_sequence(comm: Communicator, out: Path) -> None:
    """With one worker and dedicated servers nothing is stale: ASP, SSP and any order give BSP's bits."""
    alone = ["sync.servers=dedicated", f"sync.server_ranks={comm.size - 1}", "optimizer.milestones=[0.02]"]
    kinds = (("none", "sgd"), ("topk", "sgd"), ("sidco-e", "sparse-adam"), ("fp16", "adam"))
    for compressor, optimizer in kinds:
        shared = [f"compression.name={compressor}", f"optimizer.name={optimizer}", *alone]
        shared += ["compression.granularity=merged", "run.steps=8"]
        expected = run(comm, out, *shared)["training"]
        orders = ("policy=asp", "policy=ssp", "policy=switch")
        for policy in orders if optimizer == "sgd" else orders[2:]:
            steps = ["sync.order=1010", "sync.phase_steps=[2,3,2,1]"] if policy == "policy=switch" else []
            result = run(comm, out, *shared, f"sync.{policy}", *steps)
            assert result["training"]["parameters_sha256"] == expected["parameters_sha256"], (policy, compressor)
            np.testing.assert_allclose(result["training"]["losses"], expected["losses"], rtol=1e-6)
            assert result["sync"]["staleness"]["max"] == 0
    for kind in ("none", "topk"):  # a limit that cuts every gradient; a norm is rounded, so not to the bit
        clipped = [*alone, f"compression.name={kind}", "optimizer.clip_norm=0.02"]
        expected, result = (run(comm, out, *clipped, f"sync.policy={policy}")["training"] for policy in ("bsp", "asp"))
        np.testing.assert_allclose(result["losses"], expected["losses"], rtol=1e-5)


def check_language(comm: Communicator, out: Path) -> None:
    """The char LM, clipped, plain and compressed: every policy does its work."""
    model = ["model.name=charlstm", "model.hidden=16", "data.name=pysource", "data.batch_size=2", "data.sequence=16"]
    model += ["optimizer.clip_norm=1.0", "compression.granularity=merged", "sync.switch_at=0.5"]
    for policy, name in itertools.product(("asp", "ssp", "switch"), ("none", "sidco-e")):
        check_work(run(comm, out, *model, f"sync.policy={policy}", f"compression.name={name}"), STEPS * comm.size)


def check_alone(comm: Communicator, out: Path) -> None:
    """One rank that serves itself: the same bits under every policy."""
    results = [run(comm, out, f"sync.policy={policy}", "compression.name=dgc") for policy in ("bsp", "asp", "ssp")]
    assert len({result["training"]["parameters_sha256"] for result in results}) == 1


def check_running_statistics(comm: Communicator) -> None:
    """Averaged by the examples that each rank has seen since the last time; who has seen none adds nothing."""
    statistics = torch.nn.BatchNorm1d(3)
    evaluator = Evaluator(load_task(DataSection(), 1), statistics, comm)
    seen = 5 * comm.rank
    statistics.running_mean.fill_(float(comm.rank))
    statistics.running_var.fill_(float(comm.rank**2))
    evaluator.average_buffers(seen)
    ranks = np.arange(comm.size)
    if comm.size > 1:
        np.testing.assert_allclose(statistics.running_mean.numpy(), np.average(ranks, weights=ranks), rtol=1e-6)
        np.testing.assert_allclose(statistics.running_var.numpy(), np.average(ranks**2, weights=ranks), rtol=1e-6)
    before = statistics.running_mean.clone()
    evaluator.average_buffers(seen)  # nobody has seen anything
    assert torch.equal(statistics.running_mean, before)
    statistics.running_mean.fill_(10.0 + comm.rank)
    evaluator.average_buffers(seen + 1)
    np.testing.assert_allclose(statistics.running_mean.numpy(), 10.0 + ranks.mean(), rtol=1e-6)


def check_staleness_bound(comm: Communicator, out: Path) -> None:
    """A slow worker falls behind as far as the bound lets it, and no further."""
    slow = "faults.slow_worker=[{worker=1, factor=30.0}]"
    for bound in (0, 2):
        result = run(comm, out, "sync.policy=ssp", f"sync.staleness={bound}", slow, "run.steps=10")
        check_work(result, 10 * comm.size)
        assert result["sync"]["staleness"]["clock_spread"] <= bound + 1
    free = run(comm, out, "sync.policy=asp", slow, "run.steps=10")
    assert free["sync"]["staleness"]["clock_spread"] > 3


def check_online(comm: Communicator, out: Path) -> None:
    """Elastic: the same batches, so the same losses, without the straggler; greedy: to ASP and back, no work lost."""
    detector = ["sync.window=2", "sync.persistence=2", "sync.policy=switch", "sync.switch_at=0.8", "run.steps=30"]
    slow = "faults.slow_worker=[{worker=1, factor=40.0, from_step=4, to_step=14}]"
    plain = run(comm, out, *detector)
    elastic = run(comm, out, *detector, slow, "sync.online=elastic")
    check_work(elastic, 30 * comm.size)
    removed = [event["removed"] for event in elastic["events"] if event["kind"] == "membership"]
    assert any(1 in ranks for ranks in removed), elastic["events"]
    assert removed[-1] == []
    np.testing.assert_allclose(elastic["training"]["losses"][:24], plain["training"]["losses"][:24], rtol=1e-3)
    greedy = run(comm, out, *detector, slow, "sync.online=greedy")
    check_work(greedy, 30 * comm.size)
    for result in (elastic, greedy):  # in a busy machine's noise others may be flagged, too
        assert any(event["kind"] == "straggler" and event["worker"] == 1 for event in result["events"])
    assert [row["name"] for row in greedy["phases"]][:2] == ["bsp", "asp"]
    baseline = run(comm, out, *detector, slow, "sync.online=baseline")
    assert any(event["kind"] == "straggler" and event["worker"] == 1 for event in baseline["events"])
    assert [row["steps"] for row in baseline["phases"]] == [24, 6 * comm.size]


def main(out: Path) -> None:
    comm = Communicator()
    check_running_statistics(comm)
    check_every_compressor(comm, out)
    if comm.size == 1:
        check_alone(comm, out)
    if comm.size == 2:
        check_one_worker_is_a_sequence(comm, out)
    if comm.size > 2:
        check_language(comm, out)
        check_staleness_bound(comm, out)
        check_online(comm, out)
    if comm.rank == 0:
        print("all laws hold", flush=True)
    comm.close()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except BaseException:
        import traceback

        traceback.print_exc()
        abort_job()
        raise
