"""Every example once an epoch, the same number of steps for everybody, any position without history."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.sampler import ShardedSampler

SIZES = {
    "examples": st.integers(1, 200),
    "workers": st.integers(1, 7),
    "batch": st.integers(1, 40),
    "accumulation": st.integers(1, 3),
}


def seen_in_epoch(sampler: ShardedSampler, epoch: int) -> list[int]:
    steps = range(epoch * sampler.steps_per_epoch, (epoch + 1) * sampler.steps_per_epoch)
    return [
        int(index)
        for step in steps
        for rank in range(sampler.workers)
        for micro in range(sampler.accumulation)
        for index in sampler.indices(step, micro, rank)
    ]


@settings(deadline=None, max_examples=60)
@given(epoch=st.integers(0, 3), **SIZES)
def test_an_epoch_shows_every_example_once(epoch, examples, workers, batch, accumulation):
    sampler = ShardedSampler(examples, workers, batch, accumulation, seed=5)
    assert sorted(seen_in_epoch(sampler, epoch)) == list(range(examples))


@settings(deadline=None, max_examples=60)
@given(**SIZES)
def test_counts_are_what_the_micro_batches_hold(examples, workers, batch, accumulation):
    sampler = ShardedSampler(examples, workers, batch, accumulation, seed=5)
    for step in range(2 * sampler.steps_per_epoch):
        for rank in range(workers):
            held = sum(sampler.indices(step, micro, rank).numel() for micro in range(accumulation))
            assert sampler.count(step, rank) == held
        assert sampler.global_count(step) >= 1
    total = sum(sampler.global_count(step) for step in range(sampler.steps_per_epoch))
    assert total == examples


def test_a_position_needs_no_history():
    walked, jumped = (ShardedSampler(100, 3, 8, 1, seed=2) for _ in range(2))
    for step in range(9):
        walked.indices(step, 0, 1)
    assert torch.equal(walked.indices(9, 0, 1), jumped.indices(9, 0, 1))
    assert torch.rand(4, generator=walked.generator(9, 0, 1)).equal(torch.rand(4, generator=jumped.generator(9, 0, 1)))


def test_epochs_ranks_and_seeds_differ():
    sampler, other = ShardedSampler(64, 2, 8, 1, seed=2), ShardedSampler(64, 2, 8, 1, seed=3)
    assert not torch.equal(sampler.indices(0, 0, 0), sampler.indices(sampler.steps_per_epoch, 0, 0))
    assert not torch.equal(sampler.indices(0, 0, 0), other.indices(0, 0, 0))
    draws = {
        tuple(torch.rand(3, generator=sampler.generator(*place)).tolist())
        for place in [(0, 0, 0), (1, 0, 0), (0, 0, 1)]
    }
    assert len(draws) == 3
