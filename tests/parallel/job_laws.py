"""Run under mpirun: the laws of exchange and training for every compressor, granularity, optimizer and exchange.

Prints one JSON line a case on rank 0; any broken law raises, which ends the job with a non-zero exit code.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import torch

from toolkit.comm import Communicator, abort_job
from toolkit.compression import DensePayload, LinearPayload, SparsePayload
from toolkit.compression.base import Payload
from toolkit.experiment import Experiment, load
from toolkit.reducer import GradientReducer
from toolkit.registry import COMPRESSORS
from toolkit.trace import Recorder, read_trace
from toolkit.train import train

SMALL = Path(__file__).with_name("small.toml")
GRANULARITIES = ("layer", "merged", "model")


def cases() -> list[tuple[str, str, str]]:
    """Every compressor at every granularity with sgd, and every sparse one with sparse-sgd too."""
    pairs = list(itertools.product(COMPRESSORS, GRANULARITIES))
    return [(*pair, "sgd") for pair in pairs] + [
        (name, "layer", "sparse-sgd") for name, entry in COMPRESSORS.items() if entry.wire != "dense"
    ]


def sparse_cases() -> list[tuple[str, str, tuple[str, ...]]]:
    """(compressor, optimizer, further settings): exchanges, wire formats, sparse optimizers and the bypass together."""
    delta = ("compression.wire_indices=delta", "compression.wire_values=bf16")
    bypass = ("compression.bypass=auto", "cluster.latency=300 us")
    stored = "compression.residual=bf16"
    plain = "optimizer.momentum=0"
    adam = ("optimizer.learning_rate=0.002", "optimizer.age=element")
    sparse = [name for name, entry in COMPRESSORS.items() if entry.wire == "sparse"]
    pairs = [(name, "sgd", (f"compression.exchange={way}",)) for name in sparse for way in ("gtopk", "oktopk")]
    return [
        *pairs,
        ("sidco-e", "sgd", ("compression.exchange=allgather", *delta)),
        ("sidco-p", "sgd", (stored, *delta)),
        ("topk", "sparse-sgd", (stored, "compression.exchange=oktopk")),
        ("threshold", "sgd", (stored, "compression.threshold=0.01", *delta)),
        ("randomk", "sparse-adamw", (*delta, *adam)),
        ("powersgd", "sgd", ("compression.rank=1", "compression.dense_steps=1", "compression.momentum=0.5", plain)),
        ("sidco-e", "sparse-adamw", ("compression.exchange=gtopk", *delta, *adam)),
        ("topk", "sparse-adam", ("compression.exchange=oktopk", *delta, "optimizer.learning_rate=0.002")),
        ("topk", "sparse-sgd", ("compression.exchange=oktopk", "optimizer.lazy_decay=true", *bypass)),
        ("topk", "sparse-adam", ("compression.exchange=gtopk", *adam, *bypass, "compression.dense_steps=1")),
    ]


def experiment_of(comm: Communicator, *overrides: str) -> Experiment:
    return load(SMALL, [f"cluster.workers={comm.size}", *overrides])


def check_training(
    comm: Communicator, out: Path, compressor: str, granularity: str, optimizer: str, also: tuple[str, ...] = ()
) -> None:
    """Replicas end bit-identical (the trainer raises if not), bytes in the trace are the result's, loss is finite."""
    settings = [f"compression.name={compressor}", f"compression.granularity={granularity}"]
    settings += [f"optimizer.name={optimizer}", "compression.merge_elements=5000", "run.steps=4", *also]
    result = train(experiment_of(comm, *settings), out, comm)
    spans = read_trace(out / "trace" / f"rank{comm.rank}.jsonl")[1]
    sent = sum(span.bytes for span in spans if span.what == "communicate")
    compressed = sum(span.bytes for span in spans if span.what == "compress")
    if not any(name in setting for setting in also for name in ("gtopk", "oktopk")):
        assert sent == compressed, (sent, compressed)
    if "compression.bypass=auto" in also and "compression.exchange=oktopk" in also:  # 4 messages against 2(P - 1)
        travelled = {span.detail["density"] for span in spans if span.what == "compress" and span.detail}
        assert travelled == ({1.0} if comm.size <= 2 else {0.05}), travelled
    mean = sum(comm.allgather_values(sent)) / comm.size
    assert result["bytes_sent_per_worker"] == round(mean), (result["bytes_sent_per_worker"], mean)
    assert all(loss == loss and loss < 100 for loss in result["training"]["losses"])
    if comm.rank == 0:
        print(json.dumps({"case": [compressor, granularity, optimizer, *also], "loss": result["training"]["loss"]}))


def check_exchange(comm: Communicator, compressor: str, granularity: str) -> None:
    """Merged gradient = sum of all payloads in rank order over P; payload + residual = gradient + old residual."""
    settings = [f"compression.name={compressor}", f"compression.granularity={granularity}"]
    experiment = experiment_of(comm, *settings, "compression.merge_elements=700", "model.name=fcn5")
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.Tanh(), torch.nn.Linear(30, 4))
    reducer = GradientReducer(model, experiment, comm, Recorder(comm.rank, comm.clock))
    optimizer = torch.optim.SGD(reducer.parameters, lr=0.1)
    reducer.attach(optimizer)
    generator = torch.Generator().manual_seed(100 + comm.rank)
    for step in range(3):
        before = [None if b.residual is None else b.residual.clone() for b in reducer.buckets]
        sent: dict[str, tuple[torch.Tensor, Payload]] = {}
        spy(reducer, sent)
        reducer.begin_step(step, experiment.compression.density)
        reducer.begin_backward(last_micro=True)
        model(torch.randn(8, 20, generator=generator)).square().mean().backward()
        reducer.end_backward()
        optimizer.step()
        for bucket, old in zip(reducer.buckets, before, strict=True):
            gradient, payload = sent[bucket.name]
            if bucket.residual is not None and old is not None and compressor != "powersgd":  # tests/compression
                assert torch.equal(payload.dense() + bucket.residual, gradient + old), (compressor, bucket.name)
            check_merged(comm, bucket.gradient, payload)


def spy(reducer: GradientReducer, sent: dict[str, tuple[torch.Tensor, Payload]]) -> None:
    """Keep what each bucket really launches, and the gradient it came from."""
    launch = type(reducer)._launch

    def keep(bucket, way, payload):  # type: ignore[no-untyped-def]
        copy = DensePayload(payload.values.clone()) if isinstance(payload, DensePayload) else payload
        sent[bucket.name] = (bucket.gradient.clone(), copy)
        return launch(reducer, bucket, way, payload)

    reducer._launch = keep  # type: ignore[method-assign]


def check_merged(comm: Communicator, merged: torch.Tensor, payload: Payload) -> None:
    parts = comm.allgather_values(payload.dense().numpy())
    total = torch.zeros_like(merged)
    for part in parts:
        total += torch.from_numpy(part)
    total /= comm.size
    if not isinstance(payload, SparsePayload) or isinstance(payload, LinearPayload):
        # The library chooses the order of a dense sum, half precision and factors round it.
        half = isinstance(payload, DensePayload) and payload.values.dtype != torch.float32
        tolerance = 2e-3 if half else 1e-6 if isinstance(payload, (DensePayload, SparsePayload)) else 1e-4
        torch.testing.assert_close(merged, total, rtol=tolerance, atol=tolerance)
    else:
        assert torch.equal(merged, total), "merged gradient is not the sum in rank order"
    everywhere = comm.allgather_values(merged.numpy().tobytes())
    assert len(set(everywhere)) == 1, "merged gradients differ between ranks"


def main() -> None:
    comm = Communicator()
    torch.set_num_threads(1)
    for compressor, granularity in itertools.product(COMPRESSORS, GRANULARITIES):
        check_exchange(comm, compressor, granularity)
    for case in cases():
        check_training(comm, Path(sys.argv[1]), *case)
    for name, optimizer, also in sparse_cases():
        check_training(comm, Path(sys.argv[1]), name, "merged", optimizer, also)
    if comm.rank == 0:
        print("all laws hold", flush=True)
    comm.close()


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        import traceback

        traceback.print_exc()
        abort_job()
        raise
