"""Run under mpirun: the laws of each sparse exchange and wire format; rank 0 prints "all laws hold" at the end.

Values of the exact cases are small multiples of the number of ranks, so that every sum and every mean is exact.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch

from toolkit import exchange
from toolkit.comm import Communicator, abort_job
from toolkit.compression.base import SparsePayload
from toolkit.exchange import Pending, Wire

ELEMENTS = 200_000
WIRES = [Wire(*pair) for pair in itertools.product(("int32", "delta"), ("fp32", "bf16"))]


def payload_of(comm: Communicator, case: str, k: int) -> SparsePayload:
    """Lists that overlap in part, have other lengths on each rank, are empty somewhere, or sit in one corner."""
    rng = np.random.default_rng([17, comm.rank, k])
    common = np.random.default_rng(k).choice(ELEMENTS, k // 2, replace=False)
    own = rng.choice(ELEMENTS, k - k // 2, replace=False)
    if case == "uneven":
        own = own[: len(own) * (comm.rank + 1) // comm.size]
    if case == "corner":
        common, own = common // 100, own // 50
    if case == "empty" or (case == "one" and comm.rank != comm.size - 1):
        common, own = common[:0], own[:0]
    indices = np.unique(np.concatenate((common, own))).astype(np.int32)
    values = rng.integers(-100, 101, indices.size) * float(comm.size)
    if case == "random":
        values = rng.standard_t(3, indices.size)
    return SparsePayload(torch.from_numpy(indices), torch.from_numpy(values.astype(np.float32)), ELEMENTS)


def finish(pending: Pending, payload: SparsePayload) -> tuple[torch.Tensor, torch.Tensor]:
    """The merged gradient and what came back, dense; both ways of merging must agree."""
    pending.wait()
    residual, merged = torch.zeros(ELEMENTS), torch.zeros(ELEMENTS)
    pending.settle(residual)
    pending.merge(merged)
    (indices, values), _ = pending.merge_sparse()
    assert bool((indices[1:] > indices[:-1]).all())
    assert torch.equal(SparsePayload(indices, values, ELEMENTS).dense(), merged)
    return merged, residual


def total(comm: Communicator, vector: torch.Tensor) -> np.ndarray:
    """Sum over the ranks in float64."""
    return np.sum(comm.allgather_values(vector.numpy()), axis=0, dtype=np.float64)


def check_conservation(comm: Communicator, name: str, wire: Wire, case: str) -> None:
    payload = payload_of(comm, case, 3000)
    rounded, error = wire.rounded(payload.values)
    sent = SparsePayload(payload.indices, rounded, ELEMENTS)
    way = exchange.create(name, comm, wire)
    pending = way.launch("bucket", sent)
    merged, back = finish(pending, sent)
    if error is not None:
        back += SparsePayload(payload.indices, error, ELEMENTS).dense()
    left, right = total(comm, payload.dense()), merged.double().numpy() * comm.size + total(comm, back)
    where = (name, wire, case, comm.size)
    if case == "random" or wire.values == "bf16":
        np.testing.assert_allclose(right, left, rtol=0, atol=1e-4 * np.abs(left).max(initial=0.0), err_msg=str(where))
    else:
        assert np.array_equal(left, right), where
    everywhere = comm.allgather_values(merged.numpy().tobytes())
    assert len(set(everywhere)) == 1, where
    longest = max(comm.allgather_values(payload.indices.numel()))
    if name == "allgather":
        assert pending.bytes == pending.payload_bytes == wire.size(payload.indices.numpy())
        assert not bool(back.any()) or error is not None
    else:
        assert int(merged.count_nonzero()) <= longest, where
    if case in ("plain", "uneven", "corner") and name == "oktopk":
        unions = len(set(np.concatenate(comm.allgather_values(payload.indices.numpy())).tolist()))
        (indices, _), _ = pending.merge_sparse()
        assert indices.numel() == min(longest, unions), where
        check_only_rejects_come_back(payload, merged, back, wire)


def check_only_rejects_come_back(payload: SparsePayload, merged: torch.Tensor, back: torch.Tensor, wire: Wire) -> None:
    """Ok-Topk: a rank's residual is cleared exactly where its own choice and the global one meet."""
    if wire.values == "fp32":
        own = payload.dense()
        kept = merged != 0
        assert torch.equal(back[~kept], own[~kept])
        assert not bool((back[kept] != 0).logical_and(own[kept] == 0).any())


def check_selection(comm: Communicator, name: str) -> None:
    """With short lists Ok-Topk is the exact top-k of the sum; with equal ones both exchanges are."""
    for alike in (False, True):
        rng = np.random.default_rng([5, 0 if alike else comm.rank])
        k = 60
        indices = np.sort(rng.choice(ELEMENTS if alike else 200, k, replace=False)).astype(np.int32)
        values = rng.permutation(np.arange(1, k + 1)).astype(np.float32) * comm.size + comm.rank / 128
        payload = SparsePayload(torch.from_numpy(indices), torch.from_numpy(values), ELEMENTS)
        pending = exchange.create(name, comm).launch("bucket", payload)
        merged, _ = finish(pending, payload)
        sums = total(comm, payload.dense())
        if alike or name == "oktopk":
            best = np.sort(np.argsort(-np.abs(sums), kind="stable")[:k])
            chosen = np.flatnonzero(merged.numpy())
            assert np.array_equal(np.sort(np.abs(sums[chosen])), np.sort(np.abs(sums[best]))), (name, alike)


def check_traffic(comm: Communicator) -> None:
    """gTop-k: at most k entries a round; Ok-Topk: below 6k(P-1)/P words a rank, also where all sit in a corner."""
    workers, k = comm.size, 20_000
    for case, name in itertools.product(("plain", "corner", "random"), ("gtopk", "oktopk")):
        payload = payload_of(comm, case, k)
        k_sent = payload.indices.numel()
        pending = exchange.create(name, comm).launch("bucket", payload)
        pending.wait()
        if workers == 1:
            assert pending.bytes == 0
        elif name == "gtopk":
            rounds = int(math.log2(workers)) + (workers & (workers - 1) > 0)
            assert 0 < pending.bytes <= rounds * (4 + 8 * max(comm.allgather_values(k_sent)))
        else:
            longest = max(comm.allgather_values(k_sent))
            assert 0 < pending.bytes < 4 * 6 * longest * (workers - 1) / workers, (case, pending.bytes)


def check_order(comm: Communicator) -> None:
    """Many exchanges under way, waited for in one order, and different ones between each other."""
    names = ["gtopk", "allgather", "oktopk", "gtopk", "oktopk"]
    payloads = [payload_of(comm, "plain", 200 + 10 * i) for i in range(len(names))]
    started = [
        exchange.create(name, comm).launch(f"b{i}", payload)
        for i, (name, payload) in enumerate(zip(names, payloads, strict=True))
    ]
    for pending, payload in zip(started, payloads, strict=True):
        merged, back = finish(pending, payload)
        assert np.array_equal(total(comm, payload.dense()), merged.double().numpy() * comm.size + total(comm, back))


def main() -> None:
    comm = Communicator()
    torch.set_num_threads(1)
    names = ("allgather", "gtopk", "oktopk")
    for name, wire, case in itertools.product(names, WIRES, ("plain", "uneven", "corner", "one", "empty", "random")):
        check_conservation(comm, name, wire, case)
    for name in ("gtopk", "oktopk"):
        check_selection(comm, name)
    check_traffic(comm)
    check_order(comm)
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
