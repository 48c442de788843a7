"""The parts of an asynchronous phase that need no other rank: cuts, shards, tickets, straggler watch, lag."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit import optim
from toolkit.compression import DensePayload, Payload, SparsePayload
from toolkit.exchange.wire import Wire
from toolkit.experiment import parse
from toolkit.lag import Lag
from toolkit.policies.watch import Watch
from toolkit.sync.layout import cut, encode, join_state, kind_of, slice_state
from toolkit.sync.server import Shard, message
from toolkit.sync.server import parse as parse_message
from toolkit.sync.tickets import NEVER, Tickets

OPTIMIZERS = ("sgd", "adam", "adamw", "sparse-sgd", "sparse-adam", "sparse-adamw")
sizes_drawn = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@given(sizes_drawn, st.integers(1, 9))
def test_shards_cover_every_element_once_and_evenly(sizes: list[int], shards: int) -> None:
    pieces = cut(sizes, shards)
    covered = [(p.bucket, i) for shard in pieces for p in shard for i in range(p.start, p.end)]
    assert covered == [(bucket, i) for bucket, size in enumerate(sizes) for i in range(size)]
    held = [sum(p.elements for p in shard) for shard in pieces]
    assert max(held) - min(held) <= 1


def payloads_of(kind: str, sizes: list[int], seed: int) -> list[Payload]:
    random = np.random.default_rng(seed)
    payloads: list[Payload] = []
    for size in sizes:
        values = torch.from_numpy(random.standard_normal(size).astype(np.float32))
        if kind == "sparse":
            indices = np.sort(random.choice(size, random.integers(0, size + 1), replace=False)).astype(np.int32)
            payloads.append(SparsePayload(torch.from_numpy(indices), values[: indices.size].clone(), size))
        else:
            payloads.append(DensePayload(values.to(getattr(torch, kind))))
    return payloads


def section_of(name: str) -> Any:
    return parse({"optimizer": {"name": name, "momentum": 0.9, "weight_decay": 0.01}}, "drawn").optimizer


def rates(pushes: int) -> tuple[float, float]:
    return 0.1 / (pushes + 1), 0.9


@settings(deadline=None, max_examples=40)
@given(
    sizes_drawn,
    st.integers(1, 4),
    st.sampled_from(["sparse", "float32", "float16", "bfloat16"]),
    st.sampled_from(OPTIMIZERS),
    st.sampled_from(["int32", "delta"]),
)
def test_shards_apply_what_one_optimizer_would(
    sizes: list[int], shards: int, kind: str, name: str, indices: str
) -> None:
    """Pushes to shards, states handed over before and after, equal steps of one optimizer over whole buckets."""
    wire, section = Wire(indices), section_of(name)
    whole = [torch.nn.Parameter(torch.linspace(-1, 1, size)) for size in sizes]
    optimizer = optim.create(section, whole)
    pieces = cut(sizes, shards)
    before = payloads_of("float32", sizes, 0)
    step(optimizer, whole, before, 0.05)  # so that there is a state to hand over
    parts = [Shard(section, part, wire, rates) for part in pieces]
    for shard, part in zip(parts, pieces, strict=True):
        shard.load(whole, slice_state(optimizer, sizes, part))
    for push in range(3):
        payloads = payloads_of(kind, sizes, push + 1)
        assert kind_of(payloads) == kind
        step(optimizer, whole, payloads, rates(push)[0])
        for shard, part in zip(parts, pieces, strict=True):
            sent = message(2, push, body=encode(payloads, part, wire))
            words, body = parse_message(sent)
            assert words[:2] == [2, push]
            shard.apply(kind, body)
    values = torch.cat([shard.state()["values"] for shard in parts])
    torch.testing.assert_close(values, torch.cat([p.detach() for p in whole]), rtol=1e-5, atol=1e-7)
    joined = join_state([(part, shard.state()["state"]) for part, shard in zip(pieces, parts, strict=True)], sizes)
    expected = optimizer.state_dict()["state"]
    assert joined.keys() == expected.keys()
    for bucket, state in expected.items():
        for key, value in state.items():
            torch.testing.assert_close(
                torch.as_tensor(joined[bucket][key]), torch.as_tensor(value), rtol=1e-5, atol=1e-7
            )


def step(optimizer: torch.optim.Optimizer, whole: list[Any], payloads: list[Payload], rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    for parameter, payload in zip(whole, payloads, strict=True):
        parameter.grad = None
        if isinstance(payload, SparsePayload) and hasattr(optimizer, "assign"):
            optimizer.assign(parameter, payload.indices, payload.values)
        else:
            assert isinstance(payload, (SparsePayload, DensePayload))
            parameter.grad = payload.dense()
    optimizer.step()


@given(st.lists(st.integers(0, 3), min_size=200, max_size=200), st.integers(0, 25), st.integers(0, 25))
def test_tickets_are_dealt_once_and_checkpoints_reach_everybody(asks: list[int], save: int, look: int) -> None:
    tickets = Tickets(100, [0, 1, 2, 3], save_every=save, look_every=look)
    units: list[int] = []
    told: dict[int, list[int]] = {}
    for worker in asks:
        ticket = tickets.ask(worker)
        if ticket.unit == NEVER:
            continue
        units.append(ticket.unit)
        assert ticket.look == NEVER or (worker == 0 and look and ticket.look >= look)
        if ticket.save != NEVER:
            told.setdefault(ticket.save, []).append(worker)
            assert ticket.save <= ticket.unit
            assert tickets.saved(worker) == (len(told[ticket.save]) == 4)
    assert units == list(range(min(100, len(units))))
    assert all(len(set(workers)) == len(workers) for workers in told.values())
    assert all(len(workers) == 4 for mark, workers in told.items() if mark != max(told))
    assert bool(told) <= bool(save)


def test_a_closed_phase_deals_no_more() -> None:
    tickets = Tickets(10, [0, 1], issued=4)
    assert tickets.ask(1).unit == 4
    tickets.close()
    assert tickets.ask(0).unit == NEVER
    assert tickets.issued == 5


def watch_of(online: str) -> Watch:
    sync = {"policy": "switch", "online": online, "window": 2, "persistence": 2}
    return Watch(parse({"sync": sync}, "drawn").sync, 4)


def test_a_watch_takes_out_a_straggler_and_takes_all_back_at_the_switch() -> None:
    watch = watch_of("elastic")
    for step_ in range(5):
        watch.look([10.0, 10.0, 1.0, 10.0], "bsp", step_, float(step_))
    assert watch.removed == {2}
    watch.follow("asp", 5, 5.0)
    assert watch.removed == frozenset()
    assert [event["kind"] for event in watch.events] == ["straggler", "membership", "membership"]
    assert watch.events[0] == {"kind": "straggler", "worker": 2, "step": 2, "time_s": 2.0}


def test_a_watch_goes_to_asp_and_back() -> None:
    watch = watch_of("greedy")
    for step_ in range(5):
        watch.look([10.0, 10.0, 1.0, 10.0], "bsp", step_, 0.0)
    assert watch.protocol == "asp"
    for count in range(8):  # under ASP workers report one by one, in no order
        for worker in (3, 1, 0, 2):
            watch.report(worker, 10.0, "bsp", count, 0.0)
    assert watch.protocol == "bsp"
    assert [event["kind"] for event in watch.events] == ["straggler", "recovered"]


def test_a_slow_worker_takes_as_many_times_as_long_as_its_row_says() -> None:
    rows = [{"worker": 1, "factor": 3.0, "from_step": 5, "to_step": 6}, {"worker": 1, "factor": 2.0}]
    experiment = parse({"cluster": {"workers": 2}, "faults": {"slow_worker": rows}}, "drawn")
    factors = []
    for rank, step_ in ((0, 5), (1, 4), (1, 5), (1, 6)):
        lag = Lag(experiment, rank)
        lag.begin_step(step_)
        factors.append(lag.factor)
    assert factors == [1.0, 2.0, 6.0, 2.0]
    lag = Lag(experiment, 1)
    lag.begin_step(5)
    start = time.perf_counter()
    for _ in range(100):
        lag.after(0.0002)  # 0.02 s in all, so 0.1 s more, in pieces too short for a sleep of their own
    assert time.perf_counter() - start > 0.095


@pytest.mark.parametrize("without", [{1}, {0, 3}])
def test_those_who_stay_take_the_examples_of_those_left_out(without: set[int]) -> None:
    from toolkit.sampler import ShardedSampler

    whole, less = (ShardedSampler(101, 4, 5, 2, seed=3) for _ in range(2))
    less.leave_out(without)
    for step_ in range(2 * whole.steps_per_epoch):
        for micro in range(2):
            expected = torch.cat([whole.indices(step_, micro, rank) for rank in range(4)])
            dealt = [less.indices(step_, micro, rank) for rank in range(4)]
            assert torch.equal(torch.cat(dealt).sort().values, expected.sort().values)
            assert all(dealt[rank].numel() == 0 for rank in without)
            held = [part.numel() for rank, part in enumerate(dealt) if rank not in without]
            assert max(held) - min(held) <= 1
        assert sum(less.count(step_, rank) for rank in range(4)) == less.global_count(step_)
    less.leave_out(set())
    assert torch.equal(less.indices(0, 0, 1), whole.indices(0, 0, 1))
