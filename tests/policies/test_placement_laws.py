"""Placement of in-memory checkpoints: the exact count is the enumeration, and GEMINI's published values are met."""

from itertools import combinations

import numpy as np
import pytest

from toolkit.policies.placement import Placement, contiguous_racks, published_bound, spread_racks

ALL = [
    (kind, n, m)
    for kind in ("group", "ring", "mixed")
    for n in range(1, 13)
    for m in range(1, 5)
    if not Placement.problem(kind, n, m)
]


@pytest.mark.parametrize(("kind", "n", "m"), ALL)
def test_the_exact_count_is_the_enumeration(kind, n, m):
    placement = Placement(kind, n, m)
    for k in range(n + 1):
        alive = sum(placement.survives(failed) for failed in combinations(range(n), k))
        assert placement.surviving_sets(k) == alive, k


@pytest.mark.parametrize(("kind", "n", "m"), ALL)
def test_every_machine_keeps_as_many_shards_as_every_shard_has_copies(kind, n, m):
    placement = Placement(kind, n, m)
    holders = [placement.holders(machine) for machine in range(n)]
    assert all(len(set(places)) == m and places[0] == machine for machine, places in enumerate(holders))
    kept = np.bincount([place for places in holders for place in places], minlength=n)
    assert (kept == m).all()


def test_published_values():
    group, ring, mixed = Placement("group", 16, 2), Placement("ring", 16, 2), Placement("mixed", 17, 2)
    assert [round(group.recovery_probability(k), 4) for k in range(2, 6)] == [0.9333, 0.8, 0.6154, 0.4103]
    assert [round(published_bound(16, 2, k), 4) for k in range(2, 6)] == [0.9333, 0.8, 0.6, 0.3333]
    assert [round(ring.recovery_probability(k), 4) for k in range(2, 6)] == [0.8667, 0.6286, 0.3626, 0.1538]
    assert [round(mixed.recovery_probability(k), 4) for k in (2, 3)] == [0.9265, 0.7824]


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_more_failures_never_help_and_more_copies_never_hurt(m):
    for n in (12, 24):
        chances = [Placement("group", n, m).recovery_probability(k) for k in range(n + 1)]
        assert chances == sorted(chances, reverse=True)
        assert chances[:m] == [1.0] * m
        if n % (2 * m) == 0:
            more = [Placement("group", n, 2 * m).recovery_probability(k) for k in range(n + 1)]
            assert all(a >= b for a, b in zip(more, chances, strict=True))


def test_the_bound_is_exact_below_twice_the_copies_and_never_above():
    for n, m in ((16, 2), (12, 3), (16, 4)):
        placement = Placement("group", n, m)
        for k in range(n + 1):
            exact, bound = placement.recovery_probability(k), published_bound(n, m, k)
            assert bound <= exact + 1e-12
            if k < 2 * m:
                assert bound == pytest.approx(exact, abs=1e-12)


def test_large_clusters_are_exact_too():
    placement = Placement("mixed", 4097, 3)
    assert 0 < placement.recovery_probability(200) < placement.recovery_probability(20) < 1


def test_racks_that_fail_together():
    placement = Placement("group", 16, 2)
    beside, apart = contiguous_racks(16, 4), spread_racks(16, 4)
    assert sorted(m for rack in apart for m in rack) == list(range(16))
    assert placement.rack_recovery_probability(beside, 1) == 0.0  # a rack holds two whole groups
    assert placement.rack_recovery_probability(apart, 1) == 1.0
    single = contiguous_racks(16, 1)
    for k in range(5):
        assert placement.rack_recovery_probability(single, k) == pytest.approx(placement.recovery_probability(k))


@pytest.mark.parametrize(("kind", "n", "m"), [("group", 7, 2), ("ring", 3, 4), ("mixed", 3, 0), ("star", 4, 2)])
def test_what_is_impossible_is_refused(kind, n, m):
    with pytest.raises(ValueError, match=r"copies|groups|allowed"):
        Placement(kind, n, m)
