"""StellaTrain's controller: fits recover their constants, the rate is the published one, decisions hold in time."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.policies.control import Bandwidth, Choice, Controller, Worker, choose, fit, least_rate

workers = st.builds(Worker, st.floats(1, 100), st.floats(10, 1000))


@settings(deadline=None, max_examples=100)
@given(workers)
def test_a_fit_recovers_the_constants(worker):
    batches = [worker.alpha * factor for factor in (0.2, 0.5, 0.8, 1.3, 2.0, 4.0)]
    found = fit(batches, [worker.seconds(batch) for batch in batches])
    assert found.beta == pytest.approx(worker.beta, rel=1e-9)
    assert found.alpha == pytest.approx(worker.alpha, rel=1e-9)


@settings(deadline=None, max_examples=50)
@given(workers, st.integers(0, 100))
def test_a_fit_of_noisy_times_is_near(worker, seed):
    import numpy as np

    noise = np.random.default_rng(seed).normal(1, 0.02, 60)
    batches = list(np.geomspace(worker.alpha / 8, worker.alpha * 8, 60))
    found = fit(batches, [worker.seconds(b) * n for b, n in zip(batches, noise, strict=True)])
    assert found.beta == pytest.approx(worker.beta, rel=0.05)
    assert found.alpha == pytest.approx(worker.alpha, rel=0.15)


def test_where_nothing_beyond_alpha_was_seen():
    found = fit([4, 8, 16], [0.1, 0.1, 0.1])
    assert found.seconds(16) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="observations"):
        fit([], [])


@given(workers, st.floats(1e-3, 1e4))
def test_rate_and_time_are_one_law(worker, batch):
    assert worker.rate(batch) * worker.seconds(batch) == pytest.approx(batch)


def test_published_rates():
    total = 2 * 300 + 2 * 99  # ViT on two 4090 and two 2080Ti
    for mbit, samples, rate in ((50, 189, 0.9979), (500, 137, 0.9848), (1000, 137, 0.9695)):
        assert least_rate(mbit * 1.25e5, 88_000_000, samples / total) == pytest.approx(rate, abs=5e-5)
    assert least_rate(1e12, 1000, 1.0) == 0.0
    assert least_rate(1e-9, 1000, 1e-9) < 1


@settings(deadline=None, max_examples=30)
@given(st.lists(workers, min_size=1, max_size=6), st.floats(1e5, 1e9))
def test_a_choice_fits_the_link_and_beats_its_neighbours(cluster, bandwidth):
    def penalty(rate, batch):
        return 0.05 * -math.log10(1 - rate) + 1e-4 * batch

    largest = 20 * sum(worker.beta for worker in cluster)
    found = choose(cluster, bandwidth, 10_000_000, penalty, largest=largest)
    assert (1 - found.rate) * 8 * 10_000_000 <= bandwidth * found.seconds * (1 + 1e-9) or found.rate > 1 - 1e-6
    assert found.seconds == max(w.seconds(b) for w, b in zip(cluster, found.batches, strict=True))
    assert all(batch >= 1 for batch in found.batches)
    times = [found.seconds * factor for factor in (0.5, 0.8, 1.25, 2.0)]
    for seconds in times:
        batches = [max(1, round(w.batch(seconds))) for w in cluster]
        if sum(batches) > largest or min(found.batches) < 8:
            continue  # a batch of a few samples is rounded by more than what is compared here
        longest = max(w.seconds(b) for w, b in zip(cluster, batches, strict=True))
        other = (1 + penalty(least_rate(bandwidth, 10_000_000, longest), sum(batches))) * longest / sum(batches)
        assert found.objective <= other * 1.15  # whole batches, and the spread that they cause


def test_a_slower_link_never_asks_for_less_compression_at_equal_times():
    rates = [least_rate(bandwidth, 10**7, 0.3) for bandwidth in (1e6, 1e7, 1e8)]
    assert rates == sorted(rates, reverse=True)


def test_a_decision_holds_after_its_delay_and_is_taken_every_so_many_iterations():
    seen = []

    def pick(bandwidth):
        seen.append(bandwidth)
        return Choice((len(seen),), 0.9, 1.0, 1.0)

    controller = Controller(pick, Bandwidth(100.0), every=10, delay=3)
    batches = [controller.step(iteration, 100.0, 0.2).batches[0] for iteration in range(1, 31)]
    # decided in iterations 10, 20 and 30; what is decided in 10 holds from 13 on
    assert batches == [1] * 11 + [2] * 10 + [3] * 9


def test_the_bandwidth_follows_the_link():
    estimate = Bandwidth(100.0)
    for _ in range(200):
        estimate.observe(50.0, 0.1)
    assert estimate.average == pytest.approx(50.0)
    assert estimate.usable == pytest.approx(45.0)
    assert estimate.observe(50.0, 0.01) == pytest.approx(55.0)
    assert estimate.observe(50.0, 0.9) == pytest.approx(37.5)
