"""Merging, adding, clearing and gathering at listed places."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import cext
from cext import reference


def lists(seed, count, universe, sizes):
    """Ascending lists without repeats, concatenated: indices, values, offsets."""
    rng = np.random.default_rng(seed)
    parts = [np.sort(rng.choice(universe, size, replace=False)) for size in sizes[:count]]
    indices = np.concatenate(parts).astype(np.int32) if parts else np.empty(0, np.int32)
    offsets = np.concatenate(([0], np.cumsum([len(p) for p in parts]))).astype(np.int64)
    return indices, rng.standard_normal(len(indices)).astype(np.float32), offsets


def merged(module, indices, values, offsets, room, threads=1):
    out = room(len(indices))
    count = module.merge_sorted(indices, values, offsets, *out, threads)
    return out[0][:count], out[1][:count]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("universe", [300, 5000, 70_000, 2**31 - 1])
@pytest.mark.parametrize("sizes", [[], [0], [5], [0, 0, 7], [100, 250, 3], [300] * 8, [1] * 33])
def test_merge_equals_reference(level, threads, universe, sizes, room, same):
    if universe > 70_000:
        rng = np.random.default_rng(9)
        parts = [np.unique(np.append(rng.integers(0, universe, s), universe - 1)) for s in sizes]
        indices = np.concatenate(parts).astype(np.int32) if parts else np.empty(0, np.int32)
        offsets = np.concatenate(([0], np.cumsum([len(p) for p in parts]))).astype(np.int64)
        values = rng.standard_normal(len(indices)).astype(np.float32)
    else:
        indices, values, offsets = lists(universe, len(sizes), universe, sizes)
    got, wanted = (merged(m, indices, values, offsets, room, threads) for m in (cext, reference))
    assert np.array_equal(got[0], wanted[0])
    assert same(got[1], wanted[1])


@pytest.mark.parametrize("threads", [1, 2])
def test_merge_of_dense_lists(level, threads, room, same):
    indices, values, offsets = lists(1, 4, 400_000, [60_000, 120_000, 1, 200_000])
    got = merged(cext, indices, values, offsets, room, threads)
    total, seen = np.zeros(400_000, np.float32), np.zeros(400_000, bool)
    for p in range(4):
        part = slice(offsets[p], offsets[p + 1])
        total[indices[part]] += values[part]
        seen[indices[part]] = True
    assert np.array_equal(got[0], np.flatnonzero(seen))
    assert same(got[1], total[seen])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("share", [0.5, 0.03, 0.008, 0.0003])  # close together, by bits, in wide windows, thin
@pytest.mark.parametrize("start", [0, 77, 2**31 - 3_000_000])
def test_merge_of_many_windows_adds_in_rank_order(level, threads, share, start, room, same):
    n, rng = 3_000_000, np.random.default_rng(5)
    parts = [np.flatnonzero(rng.random(n) < s) for s in (share, share / 9, 0, share)]
    indices = (np.concatenate(parts) + start).astype(np.int32)
    offsets = np.concatenate(([0], np.cumsum([len(p) for p in parts]))).astype(np.int64)
    values = rng.standard_normal(len(indices)).astype(np.float32)
    got = merged(cext, indices, values, offsets, room, threads)
    total, seen = np.full(n, -0.0, np.float32), np.zeros(n, bool)
    for p, places in enumerate(parts):
        total[places] += values[offsets[p] : offsets[p + 1]]
        seen[places] = True
    assert np.array_equal(got[0], np.flatnonzero(seen) + start)
    assert same(got[1], total[seen])


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("clustered", [False, True])
def test_merge_of_thin_lists_in_parts(level, threads, clustered, room, same):
    """Parts of the range are merged apart and moved together; most entries may lie in one of them."""
    rng, n = np.random.default_rng(6), 2**31 - 1
    shared = rng.integers(0, n, 20_000)
    near = [rng.integers(n // 2, n // 2 + 10_000_000, 40_000 if clustered else 0) for _ in range(4)]
    parts = [np.unique(np.concatenate((shared, rng.integers(0, n, 30_000), more))) for more in near]
    indices = np.concatenate(parts).astype(np.int32)
    offsets = np.concatenate(([0], np.cumsum([len(p) for p in parts]))).astype(np.int64)
    values = rng.standard_normal(len(indices)).astype(np.float32)
    got = merged(cext, indices, values, offsets, room, threads)
    union, place = np.unique(indices, return_inverse=True)
    total = np.full(len(union), -0.0, np.float32)
    for p in range(4):
        total[place[offsets[p] : offsets[p + 1]]] += values[offsets[p] : offsets[p + 1]]
    assert len(indices) >= 2 * 65_536  # so many that threads are started
    assert np.array_equal(got[0], union)
    assert same(got[1], total)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 63, 64, 65])
def test_merge_of_any_number_of_thin_lists(level, count, room, same):
    """Two by two; beyond 64 lists by windows that jump. Some indices are in all lists, some lists are empty, and one
    repeats an index more often than a piece has entries.
    """
    rng, n = np.random.default_rng(count), 2**31 - 1
    shared = rng.integers(0, n, 500)
    parts = [np.sort(np.append(rng.integers(0, n, 0 if p % 7 == 3 else 9000 // count), shared)) for p in range(count)]
    parts[-1] = np.sort(np.append(parts[-1], np.full(5000, shared[7])))
    indices = np.concatenate(parts).astype(np.int32)
    offsets = np.concatenate(([0], np.cumsum([len(p) for p in parts]))).astype(np.int64)
    values = rng.standard_normal(len(indices)).astype(np.float32)
    got, wanted = (merged(module, indices, values, offsets, room) for module in (cext, reference))
    assert np.array_equal(got[0], wanted[0])
    assert same(got[1], wanted[1])


@pytest.mark.parametrize("threads", [1, 2])
def test_merge_refuses_disorder_far_inside_and_writes_nothing(level, threads, room):
    indices = np.tile(np.arange(0, 400_000, 2, dtype=np.int32), 2)
    indices[300_001] = 5
    out = room(len(indices))
    with pytest.raises(ValueError, match=r"indices\[300001\] = 5: each list must ascend"):
        cext.merge_sorted(indices, np.ones(400_000, np.float32), np.array([0, 200_000, 400_000]), *out, threads)
    assert (out[0] == -7).all()


def test_merge_adds_in_rank_order_and_keeps_signed_zero(level, room, same):
    indices = np.array([3, 3, 3, 8, 9, 9], np.int32)
    values = np.array([1e8, 1, -1e8, -0.0, -0.0, 0.0], np.float32)
    offsets = np.array([0, 1, 2, 5, 6], np.int64)
    got = merged(cext, indices, values, offsets, room)
    wanted = np.float32(np.float32(1e8) + np.float32(1)) + np.float32(-1e8)
    assert got[0].tolist() == [3, 8, 9]
    assert same(got[1], np.array([wanted, -0.0, 0.0], np.float32))


@pytest.mark.parametrize("apart", [1, 20, 1000])
def test_merge_loses_no_index_where_denormals_are_flushed(level, apart, room):
    """Sums that the processor flushes to -0.0, and denormals that it reads as such, occur nonetheless."""
    indices = np.tile(apart * np.arange(20, dtype=np.int32), 2)
    values = np.ones(40, np.float32)
    values[[5, 25]] = np.array([-1.5 * 2.0**-126, 2.0**-126], np.float32)
    values[[3, 23]] = values[7] = values[29] = np.float32(-1e-40)
    try:
        torch.set_flush_denormal(True)
        got = merged(cext, indices, values, np.array([0, 20, 40]), room)
    finally:
        torch.set_flush_denormal(False)
    assert np.array_equal(got[0], indices[:20])


def test_merge_carries_nan_and_keeps_repeats_of_one_list(level, room):
    got = merged(
        cext, np.array([1, 1, 2, 2], np.int32), np.array([1, 2, np.nan, 1], np.float32), np.array([0, 3, 4]), room
    )
    assert got[0].tolist() == [1, 2]
    assert got[1][0] == 3
    assert np.isnan(got[1][1])


@pytest.mark.parametrize(
    ("indices", "offsets", "message"),
    [
        ([1, 0], [0, 2], r"indices\[1\] = 0: each list must ascend"),
        ([-1, 0], [0, 2], r"indices\[0\] = -1: each list must ascend"),
        ([0, 1], [0, 1], "offsets must rise from 0 to the 2 entries"),
        ([0, 1], [0, 3, 2], "offsets must rise"),
        ([0, 1], [], "offsets must rise"),
    ],
)
def test_merge_refuses(level, indices, offsets, message, room):
    arguments = np.array(indices, np.int32), np.ones(2, np.float32), np.array(offsets, np.int64)
    with pytest.raises(ValueError, match=message):
        cext.merge_sorted(*arguments, *room(2))


def test_merge_refuses_too_little_room(room):
    with pytest.raises(ValueError, match="out indices has room for 1, needed are 2"):
        cext.merge_sorted(np.array([4, 9], np.int32), np.ones(2, np.float32), np.array([0, 2]), *room(1))
    # but every index up to the largest is enough, however many entries there are
    many = np.array([0, 1, 0, 1], np.int32), np.ones(4, np.float32), np.array([0, 2, 4])
    assert cext.merge_sorted(*many, *room(2)) == 2


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.25, -0.1])
def test_scatter_add(level, threads, repeats, scale, make, same):
    n = 100_003
    rng = np.random.default_rng(0)
    indices = rng.integers(0, n, 150_000) if repeats else np.sort(rng.choice(n, 90_000, replace=False))
    indices, values = indices.astype(np.int32), make(len(indices))
    got, wanted = make(n, seed=1), make(n, seed=1)
    cext.scatter_add(got, indices, values, scale, threads)
    reference.scatter_add(wanted, indices, values, scale)
    assert same(got, wanted)


@pytest.mark.parametrize("threads", [1, 3])
def test_put(level, threads, make, same):
    x, y = make(300_000), make(300_000)
    for indices in (np.arange(5, 300_000, 3, dtype=np.int32), np.array([7, 3, 7, 9], np.int32), np.empty(0, np.int32)):
        values = make(len(indices), seed=3)
        cext.put(x, indices, values, threads)
        reference.put(y, indices, values)
        assert same(x, y)
    for module in (cext, reference):
        with pytest.raises(ValueError, match="allowed are 0 to 299999"):
            module.put(x, np.array([1, 300_000], np.int32), np.zeros(2, np.float32))
        assert same(x, y)


def test_zero_at_and_gather(level, make, same):
    x = make(1000)
    indices = np.array([0, 999, 5, 5], np.int32)
    values = np.empty(4, np.float32)
    cext.gather(x, indices, values)
    assert same(values, x[indices])
    wanted = x.copy()
    wanted[indices] = 0
    cext.zero_at(x, indices)
    assert same(x, wanted)
    cext.zero_at(x, np.empty(0, np.int32))
    assert same(x, wanted)


@pytest.mark.parametrize("bad", [-1, 10, 2**31 - 1, -(2**31)])
def test_an_index_outside_is_refused_before_anything_is_written(level, bad, make, same):
    x = make(10)
    before, indices, values = x.copy(), np.array([1, bad, 2], np.int32), np.ones(3, np.float32)
    for call in (
        lambda: cext.scatter_add(x, indices, values),
        lambda: cext.zero_at(x, indices),
        lambda: cext.gather(x, indices, values),
        lambda: cext.sparse_sgd(x, None, None, indices, values, 0, 0.1),
    ):
        with pytest.raises(ValueError, match=rf"indices\[1\] = {bad}: allowed are 0 to 9"):
            call()
    assert same(x, before)
    assert (values == 1).all()


@pytest.mark.parametrize("elements", [0, 10, 3_000_000])
def test_huge_pages_change_nothing_that_is_held(elements, make):
    x = make(elements)
    assert cext.huge_pages(x) in (True, False)
    assert np.array_equal(x, make(elements))
    with pytest.raises((TypeError, BufferError, ValueError)):
        cext.huge_pages(np.broadcast_to(np.float32(1), 3))


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_on_stride_finds_what_a_strided_sample_holds(data):
    n = data.draw(st.integers(1, 3000))
    start, stride = data.draw(st.integers(0, n)), data.draw(st.integers(1, 200))
    room = data.draw(st.integers(0, 50))
    listed = np.flatnonzero(np.random.default_rng(data.draw(st.integers(0, 9))).random(n) < data.draw(st.floats(0, 1)))
    x = np.arange(1, n + 1, dtype=np.float32)
    wanted = x[start::stride][:room]
    wanted = wanted[np.isin(wanted - 1, listed)]
    for module in (cext, reference):
        out = np.zeros(room, np.float32)
        count = module.on_stride(listed.astype(np.int32), x[listed], start, stride, out, 2)
        assert np.array_equal(out[:count], wanted)
        assert not out[count:].any() or module is cext, "what is behind is cext's to use"


@pytest.mark.parametrize("start", [0, 5, 2**31 - 1])
@pytest.mark.parametrize("stride", [1, 2, 3, 64, 96, 100, 2**20 * 3, 2**30, 2**31 - 1])
@pytest.mark.parametrize("threads", [1, 4])
def test_on_stride_of_long_lists(level, start, stride, threads):
    indices = np.flatnonzero(np.random.default_rng(0).random(1_500_000) < 0.5).astype(np.int32)
    indices = np.concatenate((indices, np.arange(2**31 - 300, 2**31, dtype=np.int64).astype(np.int32)))
    values = np.arange(len(indices), dtype=np.float32)
    got, wanted = np.zeros(1_600_000, np.float32), np.zeros(1_600_000, np.float32)
    count = cext.on_stride(indices, values, start, stride, got, threads)
    assert count == reference.on_stride(indices, values, start, stride, wanted)
    assert np.array_equal(got[:count], wanted[:count])


def test_on_stride_refuses_a_list_that_overflows_its_room():
    indices = np.zeros(1_000_000, np.int32)
    for module in (cext, reference):
        out = np.zeros(100, np.float32)
        with pytest.raises(ValueError, match="on_stride: indices must ascend"):
            module.on_stride(indices, np.ones(len(indices), np.float32), 0, 3, out[:50], 2)
        assert not out[50:].any()
