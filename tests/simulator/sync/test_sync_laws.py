"""Laws of ASP, SSP and switching, on a made-up cluster whose every time is known."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.sync.asynchronous import Asynchronous
from simulator.sync.cluster import BarrierStep
from simulator.sync.jitter import WorkerJitter
from simulator.sync.job import Job
from toolkit.policies.protocol import Phase
from toolkit.sections.sync import SyncSection


class FreeCluster:
    """Workers on a free network: worker w computes for seconds[w] x jitter; slow(worker, now) multiplies it."""

    def __init__(self, seconds, cv=0.0, seed=1, slow=lambda worker, now: 1.0):
        self.workers, self.seconds, self.slow = len(seconds), seconds, slow
        self.jitter = WorkerJitter(self.workers, cv, seed)
        self.now = 0.0

    def enter(self, protocol, now):
        self.now = now
        return now

    def together(self, now):
        self.now = now

    def barrier(self, number, examples, removed):
        mean = sum(examples) / self.workers
        own = np.full(self.workers, np.nan)
        for rank, count in enumerate(examples):
            if count:
                own[rank] = self._compute(rank, number, self.now) * count / mean
        self.now += np.nanmax(own)
        return BarrierStep(self.now, own, float(np.nanmax(own)))

    def pull(self, worker, since):
        return since

    def gradient(self, worker, iteration, now):
        return now + self._compute(worker, iteration, now)

    def push(self, worker, now):
        return now

    def applied(self, worker, now):
        pass

    def save(self, protocol, worker):
        return 5.0 if protocol == "bsp" else 3.0 if worker == 0 else 0.0

    def _compute(self, worker, iteration, now):
        return self.seconds[worker] * self.jitter.factor(worker, iteration) * self.slow(worker, now)


paces = st.lists(st.floats(0.1, 5.0), min_size=1, max_size=6)


def clocks_apart(updates):
    """Largest difference between the completed iterations of two workers at any time while all can go on."""
    done, apart = [0] * updates.workers, 0
    for who in updates.who:
        done[who] += 1
        apart = max(apart, max(done) - min(done))
    return apart


@settings(deadline=None, max_examples=60)
@given(paces, st.integers(1, 60), st.none() | st.integers(0, 4), st.integers(0, 5))
def test_work_is_conserved_and_the_bound_is_kept(seconds, units, bound, seed):
    found = Asynchronous(FreeCluster(seconds, 0.3, seed), "ssp", bound).run(2.0, units)
    assert len(found.who) == len(found.when) == len(found.staleness) == units
    assert list(found.when) == sorted(found.when)
    assert found.end == found.when[-1]
    assert all(0 <= staleness < units for staleness in found.staleness)
    if bound is not None:
        assert clocks_apart(found) <= bound + 1
    for worker in range(len(seconds)):
        busy = found.computing[worker] + found.exchanging[worker] + found.gated[worker]
        assert busy <= found.end - 2.0 + 1e-9


@settings(deadline=None, max_examples=60)
@given(paces, st.integers(1, 60), st.integers(0, 5))
def test_a_looser_bound_is_never_slower(seconds, units, seed):
    """No update comes later but for the last ones: who makes these, and how long that takes, is for the deal to say."""
    runs = [Asynchronous(FreeCluster(seconds, 0.3, seed), "ssp", bound).run(0.0, units) for bound in (0, 1, 3, None)]
    longest = max(max(run.seconds) for run in runs)
    for tight, loose in pairwise(runs):
        early = zip(tight.when[: units - len(seconds)], loose.when[: units - len(seconds)], strict=True)
        assert all(b <= a * (1 + 1e-12) for a, b in early)
        assert loose.end <= tight.end + longest


@settings(deadline=None, max_examples=40)
@given(paces, st.integers(1, 60), st.integers(0, 5))
def test_an_endless_bound_is_asp(seconds, units, seed):
    asp = Asynchronous(FreeCluster(seconds, 0.3, seed), "asp", None).run(0.0, units)
    ssp = Asynchronous(FreeCluster(seconds, 0.3, seed), "ssp", 10**9).run(0.0, units)
    assert (asp.who, asp.when, asp.staleness) == (ssp.who, ssp.when, ssp.staleness)


@settings(deadline=None, max_examples=40)
@given(paces, st.integers(1, 20), st.integers(0, 5))
def test_ssp_without_slack_takes_the_time_of_a_barrier(seconds, steps, seed):
    """On a free network SSP(0) is BSP: every iteration lasts as long as its slowest worker."""
    workers = len(seconds)
    ssp = Asynchronous(FreeCluster(seconds, 0.3, seed), "ssp", 0).run(0.0, steps * workers)
    cluster = FreeCluster(seconds, 0.3, seed)
    for number in range(steps):
        cluster.barrier(number, [1] * workers, frozenset())
    assert ssp.end == pytest.approx(cluster.now, rel=1e-12)


def test_asp_has_its_closed_form():
    """Worker w makes an update every seconds[w]: 1 s and 2 s make 3 updates in 2 s."""
    found = Asynchronous(FreeCluster([1.0, 2.0]), "asp").run(0.0, 30)
    assert found.end == pytest.approx(20.0)
    assert [list(found.who).count(rank) for rank in (0, 1)] == [20, 10]
    assert np.mean(found.staleness) == pytest.approx(1.0, abs=0.1)


def test_equal_workers_have_a_staleness_of_the_others():
    found = Asynchronous(FreeCluster([1.0] * 5), "asp").run(0.0, 50)
    assert list(found.staleness) == [0, 1, 2, 3, 4] + [4] * 45


def test_a_checkpoint_stops_the_chief_alone():
    plain = Asynchronous(FreeCluster([1.0] * 4), "asp").run(0.0, 400)
    saved = Asynchronous(FreeCluster([1.0] * 4), "asp", save_every=100).run(0.0, 400)
    assert len(saved.saves) == 4
    assert saved.saving.tolist() == [9.0, 0.0, 0.0, 0.0]  # the last falls due when no work is left
    assert saved.end - plain.end == pytest.approx(9.0 / 4, abs=1.0)


def phases(*rows, workers, every=0):
    """(protocol, steps) rows as phases with a batch of 8."""
    made, start = [], 0
    for protocol, steps in rows:
        unit = workers if protocol == "bsp" else 1
        made.append(Phase(protocol, steps, unit, start, 8, 0.1, 0.9, every * (workers if unit == 1 else 1)))
        start += made[-1].units
    return made


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0.5, 2.0), min_size=2, max_size=5), st.integers(1, 20), st.integers(1, 20), st.integers(0, 7))
def test_a_switched_run_is_its_phases_one_after_the_other(seconds, before, after, every):
    workers = len(seconds)
    rows = (("bsp", before), ("asp", after * workers), ("bsp", before))
    whole = Job(FreeCluster(seconds), phases(*rows, workers=workers, every=every), SyncSection()).run()
    assert [segment.protocol for segment in whole.segments] == ["bsp", "asp", "bsp"]
    assert [segment.steps for segment in whole.segments] == [before, after * workers, before]
    assert [event["kind"] for event in whole.events] == ["switch", "switch"]
    alone = [Job(FreeCluster(seconds), phases(row, workers=workers), SyncSection()).run().end for row in rows]
    stops = sum(seconds for _, seconds in whole.saves)
    in_asp = max((sum(updates.saving) for updates in whole.updates), default=0.0)
    one = max(seconds) + 1e-9  # who is stopped, and who makes the last update, may shift an end by an iteration
    assert sum(alone) + stops - one <= whole.end <= sum(alone) + stops + in_asp + one


def test_a_bsp_run_saves_on_its_period_and_not_at_its_end():
    story = Job(FreeCluster([1.0, 1.0]), phases(("bsp", 10), workers=2, every=5), SyncSection()).run()
    assert story.saves == [(5.0, 5.0)]
    assert story.end == 15.0


def passing(worker, now):
    return 4.0 if worker == 1 and 50 <= now < 150 else 1.0


def online(name, slow=passing, steps=300):
    rows = (("bsp", steps), ("asp", 4 * steps))
    sync = SyncSection(online=name, window=5, persistence=3)
    return Job(FreeCluster([1.0] * 4, 0.02, 3, slow), phases(*rows, workers=4), sync).run()


def test_greedy_leaves_bsp_while_somebody_is_slow_and_spends_its_whole_quota():
    story = online("greedy")
    assert [segment.protocol for segment in story.segments] == ["bsp", "asp", "bsp", "asp"]
    assert sum(s.steps for s in story.segments if s.protocol == "bsp") == 300
    assert sum(s.steps for s in story.segments if s.protocol == "asp") == 4 * 300
    assert 50 < story.segments[1].begin < 150 < story.segments[2].begin
    seen = [(event["kind"], event["worker"]) for event in story.events if event["kind"] != "switch"]
    assert seen == [("straggler", 1), ("recovered", 1)]


def test_elastic_goes_on_without_the_slow_one_and_takes_it_back_at_the_switch():
    story = online("elastic")
    assert [segment.protocol for segment in story.segments] == ["bsp", "asp"]
    removed = [event["removed"] for event in story.events if event["kind"] == "membership"]
    assert removed == [[1], []]
    assert story.barrier[290] == pytest.approx(4 / 3, rel=0.2)  # three share the batch of four


def test_policies_beat_the_baseline_where_a_straggler_stays():
    ends = {name: online(name, lambda worker, now: 4.0 if worker == 1 else 1.0).end for name in ("baseline", "elastic")}
    assert ends["elastic"] < 0.7 * ends["baseline"]


def test_without_stragglers_every_policy_is_the_baseline():
    ends = {online(name, lambda worker, now: 1.0).end for name in ("baseline", "greedy", "elastic")}
    assert len(ends) == 1


def test_the_same_seed_gives_the_same_run():
    one, two, other = (Asynchronous(FreeCluster([1.0, 1.5], 0.2, seed), "asp").run(0.0, 50).when for seed in (1, 1, 2))
    assert one == two != other
