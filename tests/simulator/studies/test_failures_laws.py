"""A job with failures: its time is accounted for, rare failures cost the closed form, and nothing is lost twice."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.failures import DAY, Faults, Job, Pace, Tier, daly, young
from toolkit.policies.placement import Placement, contiguous_racks

GROUPS = Placement("group", 16, 2)
STORAGE = Tier("storage", 10800.0, 0.0, 480.0, 480.0, 480.0)


def run(tiers, faults, target, seed=1, placement=GROUPS):
    return Job(tiers, faults, placement, target, seed).run()


@settings(deadline=None, max_examples=40)
@given(
    interval=st.floats(10, 1e3),
    stall=st.floats(0, 500),
    latency=st.floats(0, 500),
    rate=st.floats(0, 100),
    software=st.floats(0, 1),
    machines=st.integers(1, 16),
    seed=st.integers(0, 1000),
)
def test_every_second_is_work_or_stall_or_lost_or_down(interval, stall, latency, rate, software, machines, seed):
    tiers = (Tier("memory", interval, 0.0, latency, 1.0, 5.0), Tier("storage", 3 * interval, stall, latency, 9.0, 9.0))
    faults = Faults(rate / DAY, software, machines, 15.0, 60.0, 120.0)
    report = run(tiers, faults, 20 * interval, seed)
    parts = report.work + report.stalled + report.lost + report.down
    assert parts == pytest.approx(report.total, rel=1e-9)
    assert min(report.stalled, report.lost, report.down) >= -1e-6
    assert sum(report.sources.values()) <= report.failures
    assert (report.failures == 0) == (report.down == 0)


def test_without_failures_only_the_stalls_are_paid():
    report = run((Tier("storage", 100.0, 7.0, 7.0, 1.0, 1.0),), Faults(0.0), 1000.0)
    assert (report.failures, report.lost, report.down) == (0, 0.0, 0.0)
    assert report.total == pytest.approx(1000.0 + 9 * 7.0)  # none at the end


@settings(deadline=None, max_examples=100)
@given(st.floats(1, 100), st.floats(0, 50), st.integers(0, 40), st.floats(0, 1), st.floats(0, 1e4))
def test_work_and_time_are_each_others_inverse(interval, stall, multiple, part, seconds):
    pace, start = Pace((Tier("storage", interval, stall, 0.0, 0.0, 0.0),)), (multiple + part) * interval
    reached = pace.work(start, seconds)
    assert start <= reached <= start + seconds + 1e-9
    back = pace.seconds(start, reached)
    assert back <= seconds + 1e-6
    assert seconds - back <= stall + 1e-6  # a stall that is under way


@pytest.mark.parametrize(("interval", "stall", "latency", "fetch"), [(10800, 0, 480, 480), (480, 80, 480, 480)])
def test_rare_failures_cost_the_closed_form(interval, stall, latency, fetch):
    tier = Tier("storage", interval, stall, latency, fetch, fetch)
    for a_day in (0.02, 0.1, 0.3):
        faults = Faults(a_day / DAY, detect=0.0, restart=360.0, replace=0.0)
        report = run((tier,), faults, 3000 / faults.rate)
        closed = interval / (interval + stall) - a_day / DAY * (latency + interval / 2 + fetch + 360.0)
        assert report.ratio == pytest.approx(closed, rel=0.01)


def test_frequent_failures_break_the_closed_form_upwards():
    """It counts an interval's half as lost even where failures come faster than checkpoints."""
    faults = Faults(20 / DAY, detect=0.0, restart=360.0, replace=0.0)
    assert run((STORAGE,), faults, 3000 / faults.rate).ratio > 1 - 20 * (480 + 5400 + 480 + 360) / DAY


@pytest.mark.parametrize(("kind", "machines"), [("group", 2), ("group", 3), ("ring", 2), ("mixed", 4)])
def test_simulated_recoveries_from_memory_meet_the_exact_probability(kind, machines):
    placement = Placement(kind, 17 if kind == "mixed" else 16, 2)
    memory = Tier("memory", 60.0, 0.0, 60.0, 0.0, 3.0)
    report = run((memory, STORAGE), Faults(1e-6, machines=machines), 4e9, 3, placement)  # rare: one at a time
    share = report.sources["memory"] / sum(report.sources.values())
    exact = placement.recovery_probability(machines)
    deviation = (exact * (1 - exact) / report.failures) ** 0.5
    assert report.failures > 3000
    assert abs(share - exact) < 4 * deviation


def test_a_rack_that_holds_whole_groups_sends_every_failure_to_storage():
    memory = Tier("memory", 60.0, 0.0, 60.0, 0.0, 3.0)
    report = run((memory, STORAGE), Faults(1e-5, units=contiguous_racks(16, 4)), 1e8)
    assert set(report.sources) == {"storage"}


def test_a_job_is_the_same_for_the_same_seed_and_no_other():
    faults = Faults(8 / DAY, 0.5, 2)
    tiers = (Tier("memory", 60.0, 0.0, 60.0, 0.0, 3.0), STORAGE)
    first, again, other = (run(tiers, faults, 1e7, seed) for seed in (1, 1, 2))
    assert (first.total, first.events) == (again.total, again.events)
    assert first.total != other.total


def test_failures_of_software_alone_never_need_a_peer_and_a_standby_saves_the_replacement():
    tiers = (Tier("memory", 60.0, 0.0, 60.0, 0.0, 3.0), STORAGE)
    assert set(run(tiers, Faults(1e-5, 1.0), 1e8).sources) == {"local"}
    slow, quick = (run(tiers, Faults(1e-5, standbys=n, replace=1000.0), 1e8) for n in (0, 1))
    assert slow.down > quick.down + 900 * quick.failures * 0.9


def test_advised_intervals():
    assert young(480.0, DAY) == pytest.approx((2 * 480 * DAY) ** 0.5)
    assert daly(480.0, DAY) == pytest.approx(8790.17, abs=0.01)
    assert daly(100.0, 50.0) == 50.0
    best = min(range(600, 40000, 600), key=lambda w: 480 / w + w / 2 / DAY)  # the first-order cost itself
    assert young(480.0, DAY) == pytest.approx(best, abs=600)


def test_a_job_that_fails_faster_than_it_checkpoints_ends_without_its_work():
    report = run((STORAGE,), Faults(1 / 600, detect=0.0, restart=1.0), 1e6)
    assert report.work < 1e6
    assert report.ratio < 0.02
    assert report.work + report.stalled + report.lost + report.down == pytest.approx(report.total, rel=1e-9)


def test_two_tiers_that_stall_are_refused():
    with pytest.raises(ValueError, match="only one tier"):
        Pace((Tier("a", 1.0, 1.0, 0.0, 0.0, 0.0), Tier("b", 1.0, 1.0, 0.0, 0.0, 0.0)))
    with pytest.raises(ValueError, match="interval > 0"):
        Tier("a", 0.0, 0.0, 0.0, 0.0, 0.0)
