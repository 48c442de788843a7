"""Laws of the pure decisions: buckets, density over time, learning rate over time."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.experiment import CompressionSection, OptimizerSection, parse
from toolkit.policies.buckets import plan_buckets
from toolkit.policies.density import DensitySchedule
from toolkit.policies.learning_rate import learning_rate

sizes = st.lists(st.integers(1, 1000), max_size=40)
granularities = st.sampled_from(["layer", "merged", "model"])


@settings(deadline=None, max_examples=200)
@given(sizes, granularities, st.integers(1, 2000))
def test_buckets_are_a_partition_in_backward_order(elements: list[int], granularity: str, limit: int) -> None:
    buckets = plan_buckets(elements, granularity, limit)
    assert [position for bucket in buckets for position in bucket] == list(reversed(range(len(elements))))
    assert all(buckets)


@settings(deadline=None, max_examples=200)
@given(sizes, st.integers(1, 2000))
def test_merged_buckets_stay_within_the_limit_and_are_as_few_as_neighbours_allow(
    elements: list[int], limit: int
) -> None:
    buckets = plan_buckets(elements, "merged", limit)
    filled = [sum(elements[position] for position in bucket) for bucket in buckets]
    for bucket, total in zip(buckets, filled, strict=True):
        assert total <= limit or len(bucket) == 1
    for total, after in zip(filled, buckets[1:], strict=False):
        assert total + elements[after[0]] > limit  # otherwise its first member would have joined


@settings(deadline=None, max_examples=50)
@given(sizes)
def test_merging_goes_from_one_tensor_a_bucket_to_one_bucket(elements: list[int]) -> None:
    assert plan_buckets(elements, "layer", 1) == [[p] for p in reversed(range(len(elements)))]
    assert plan_buckets(elements, "merged", 1) == plan_buckets(elements, "layer", 1) or 1 in elements
    assert plan_buckets(elements, "merged", max(1, sum(elements))) == plan_buckets(elements, "model", 1)


def test_a_bucket_plan_by_hand() -> None:
    assert plan_buckets([100, 10, 20, 500, 30, 40], "merged", 100) == [[5, 4], [3], [2, 1], [0]]
    assert plan_buckets([60, 40], "merged", 100) == [[1, 0]]
    assert plan_buckets([60, 41], "merged", 100) == [[1], [0]]
    assert plan_buckets([], "model", 100) == plan_buckets([], "merged", 100) == plan_buckets([], "layer", 100) == []


densities = st.floats(1e-6, 1.0)
counts = st.integers(0, 6)


@settings(deadline=None, max_examples=200)
@given(densities, counts, counts, st.integers(1, 9))
def test_density_never_rises_and_ends_at_the_one_asked_for(density: float, dense: int, warm: int, epoch: int) -> None:
    schedule = DensitySchedule(density, dense, warm, epoch)
    over_time = [schedule.at(step) for step in range(max(dense, warm * epoch) + 5)]
    assert all(0 < value <= 1 for value in over_time)
    assert all(later <= earlier for earlier, later in pairwise(over_time))
    assert over_time[:dense] == [1.0] * dense
    assert over_time[max(dense, warm * epoch) :] == [density] * 5


@settings(deadline=None, max_examples=200)
@given(densities, counts, st.integers(1, 6), st.integers(1, 9), st.integers(0, 60))
def test_warm_up_has_the_closed_form(density: float, dense: int, warm: int, per_epoch: int, step: int) -> None:
    epoch = step // per_epoch
    got = DensitySchedule(density, dense, warm, per_epoch).at(step)
    if step < dense:
        assert got == 1.0
    elif epoch >= warm:
        assert got == density
    else:
        assert got ** (warm + 1) == pytest.approx(density ** (epoch + 1), rel=1e-9)


def test_dgcs_own_schedule() -> None:
    """DGC (ICLR 2018, section 3.3): sparsity 75 %, 93.75 %, 98.4375 %, 99.6 %, 99.9 % while warming up."""
    schedule = DensitySchedule(0.25**5, 0, 4, 10)
    assert [schedule.at(10 * epoch) for epoch in range(6)] == pytest.approx(
        [0.25, 0.0625, 0.015625, 0.00390625, 0.25**5, 0.25**5]
    )


def test_a_schedule_takes_its_numbers_from_the_section() -> None:
    section = parse({"compression": {"density": 0.001, "dense_steps": 3, "warmup_epochs": 2}}, "x").compression
    assert DensitySchedule.of(section, 7) == DensitySchedule(0.001, 3, 2, 7)
    default = DensitySchedule.of(CompressionSection(), 7)
    assert {default.at(step) for step in range(50)} == {CompressionSection().density}


@settings(deadline=None, max_examples=200)
@given(
    st.floats(1e-4, 10.0),
    st.lists(st.floats(0, 20), max_size=3),
    st.floats(0, 5),
    st.integers(1, 13),
    st.integers(0, 300),
)
def test_learning_rate_never_exceeds_its_peak_and_is_cut_at_milestones(
    rate: float, milestones: list[float], warm: float, per_epoch: int, step: int
) -> None:
    section = OptimizerSection(learning_rate=rate, milestones=tuple(milestones), gamma=0.1, warmup_epochs=warm)
    cuts = sum(step >= milestone * per_epoch for milestone in milestones)
    got = learning_rate(section, step, per_epoch)
    near = any(abs(step - milestone * per_epoch) < 1e-6 for milestone in [*milestones, warm])
    assert 0 < got <= rate
    if step >= warm * per_epoch and not near:
        assert got == pytest.approx(rate * 0.1**cuts)


def test_warm_up_is_linear_and_arrives() -> None:
    section = OptimizerSection(learning_rate=0.8, warmup_epochs=2.0)
    assert [learning_rate(section, step, 4) for step in range(9)] == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.8]
    )


def test_milestones_count_epochs() -> None:
    section = OptimizerSection(learning_rate=1.0, milestones=(2.0, 3.0), gamma=0.5)
    assert [learning_rate(section, step, 2) for step in range(8)] == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]
