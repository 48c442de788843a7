"""A result folded from spans: closed forms on hand-made traces, and laws on drawn ones."""

import json
import math
from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit.errors import UserError
from toolkit.trace import RESULT_SCHEMA, RankSteps, Result, Span, asynchronous, joined, phases_of, summarize
from toolkit.trace.result import SHARE_OF, SHARES, distribution
from toolkit.trace.span import MAIN_LANE, WHAT


def span(what: str, start: float, end: float, *, step: int = 0, rank: int = 0, name: str = "", size: int = 0) -> Span:
    return Span(what, name, size, start, end, step, rank)


def fold(*ranks: Sequence[Span], samples: int = 0) -> Result:
    return summarize([RankSteps.of(rank) for rank in ranks], seed=3, samples=samples)


def seconds(result: Result, ranks: Sequence[Sequence[Span]]) -> dict[str, float]:
    """Shares as seconds of all ranks together; evaluation is in no share."""
    whole = sum(s.seconds for rank in ranks for s in rank if s.what in ("step", "checkpoint"))
    return {share: part * whole for share, part in result.time_share.items()}


def test_one_worker_one_step_by_hand() -> None:
    spans = [
        span("data", 0.0, 0.5),
        span("forward", 0.5, 1.5),
        span("backward", 1.5, 3.5),
        span("compress", 3.5, 4.0),
        span("communicate", 4.0, 6.0, size=800),
        span("wait", 4.0, 6.0),
        span("merge", 6.0, 6.25),
        span("optimize", 6.25, 7.0),
        span("step", 0.0, 8.0),
        span("checkpoint", 8.0, 10.0),
        span("evaluate", 10.0, 99.0),
    ]
    result = fold(spans, samples=40)
    assert result.total_time_s == 10.0
    assert result.iteration_time_s == {"mean": 8.0, "p50": 8.0, "p95": 8.0, "p99": 8.0}
    assert result.samples_per_s == 4.0
    assert result.bytes_sent_per_worker == 800
    assert result.time_share == pytest.approx(
        {"compute": 0.35, "compress": 0.075, "communicate": 0.2, "optimize": 0.075, "checkpoint": 0.2, "idle": 0.1}
    )
    assert (result.seed, result.workers, result.steps, result.events) == (3, 1, 1, [])
    assert result.phases == [{"name": "bsp", "steps": 1, "time_s": 10.0}]


def test_waiting_for_a_straggler_is_idle_until_it_launches() -> None:
    """Rank 0 launches at 1, rank 1 at 4; both get the sum at 6: rank 0 waits 3 s for rank 1, then both pay 2 s."""
    fast = [
        span("backward", 0.0, 1.0, rank=0),
        span("communicate", 1.0, 6.0, rank=0, name="b", size=100),
        span("wait", 1.0, 6.0, rank=0, name="b"),
        span("step", 0.0, 6.0, rank=0),
    ]
    slow = [
        span("backward", 0.0, 4.0, rank=1),
        span("communicate", 4.0, 6.0, rank=1, name="b", size=50),
        span("wait", 4.0, 6.0, rank=1, name="b"),
        span("step", 0.0, 6.0, rank=1),
    ]
    result = fold(fast, slow)
    assert seconds(result, (fast, slow)) == pytest.approx(
        {"compute": 5.0, "communicate": 4.0, "idle": 3.0, "compress": 0.0, "optimize": 0.0, "checkpoint": 0.0}
    )
    assert result.bytes_sent_per_worker == 75
    assert result.total_time_s == 6.0


def test_an_exchange_hidden_behind_backward_costs_only_what_is_waited_for() -> None:
    spans = [
        span("backward", 0.0, 4.0),
        span("communicate", 1.0, 5.0, size=8),
        span("wait", 4.0, 5.0),
        span("step", 0.0, 5.0),
    ]
    assert seconds(fold(spans), (spans,))["communicate"] == pytest.approx(1.0)
    assert seconds(fold(spans), (spans,))["idle"] == pytest.approx(0.0)


def test_each_wait_is_held_against_its_own_step_and_bucket() -> None:
    """The same bucket's name in the next step, or another bucket of this one, must not move the split."""
    first = [
        span("communicate", 0.0, 3.0, step=0, name="a"),
        span("wait", 0.0, 3.0, step=0, name="a"),
        span("step", 0.0, 3.0, step=0),
        span("communicate", 3.0, 5.0, step=1, name="a"),
        span("wait", 3.0, 5.0, step=1, name="a"),
        span("step", 3.0, 5.0, step=1),
    ]
    second = [
        span("communicate", 2.0, 3.0, step=0, name="a", rank=1),
        span("communicate", 2.9, 3.0, step=0, name="b", rank=1),
        span("wait", 2.0, 3.0, step=0, name="a", rank=1),
        span("step", 0.0, 3.0, step=0, rank=1),
        span("communicate", 3.0, 5.0, step=1, name="a", rank=1),
        span("wait", 3.0, 5.0, step=1, name="a", rank=1),
        span("step", 3.0, 5.0, step=1, rank=1),
    ]
    got = seconds(fold(first, second), (first, second))
    assert got["communicate"] == pytest.approx(1.0 + 1.0 + 2.0 + 2.0)
    assert got["idle"] == pytest.approx(2.0 + 2.0)  # rank 0 waits for rank 1's launch; rank 1 recorded no work till 2


def test_a_wait_without_a_launch_is_communication() -> None:
    spans = [span("wait", 0.0, 2.0), span("step", 0.0, 2.0)]
    assert fold(spans).time_share["communicate"] == 1.0


def test_the_run_takes_as_long_as_its_slowest_rank_and_an_iteration_as_the_mean() -> None:
    ranks = [
        [span("step", 0.0, 1.0 + rank, step=0, rank=rank), span("step", 9.0, 10.0 + rank, step=1, rank=rank)]
        for rank in range(3)
    ]
    result = fold(*ranks, samples=12)
    assert result.total_time_s == 6.0
    assert result.iteration_time_s["mean"] == 2.0
    assert result.samples_per_s == 2.0
    assert (result.workers, result.steps) == (3, 2)


def test_a_checkpoint_on_one_rank_lengthens_the_run_and_is_counted_once() -> None:
    ranks = [[span("step", 0.0, 2.0), span("checkpoint", 2.0, 3.0)], [span("step", 0.0, 2.0, rank=1)]]
    result = fold(*ranks)
    assert result.total_time_s == 3.0
    assert result.time_share["checkpoint"] == pytest.approx(1 / 5)
    assert result.time_share["idle"] == pytest.approx(4 / 5)


def test_a_run_of_no_steps_is_all_zeros() -> None:
    result = fold([], [])
    assert (result.workers, result.steps, result.total_time_s, result.samples_per_s) == (2, 0, 0.0, 0.0)
    assert set(result.iteration_time_s.values()) == {0.0}
    assert set(result.time_share.values()) == {0.0}


def test_ranks_of_different_lengths_are_refused() -> None:
    with pytest.raises(UserError, match=r"steps a rank = \[1, 2\]: the same number"):
        fold([span("step", 0, 1)], [span("step", 0, 1), span("step", 1, 2, step=1)])


def test_every_stage_has_its_place() -> None:
    assert set(SHARE_OF) == set(MAIN_LANE) - {"wait", "evaluate"}
    assert set(SHARE_OF.values()) | {"communicate", "idle"} == set(SHARES)
    assert set(WHAT) == {*MAIN_LANE, "communicate", "step", "serve"}


def test_an_asynchronous_phase_by_hand() -> None:
    """Rank 0 makes two steps of 1 s, rank 1 one of 3 s, of which a staleness bound holds it for 1 s; rank 2 serves."""
    one = [span("step", 0.0, 1.0), span("forward", 0.25, 1.0), span("wait", 0.0, 0.25, name="servers")]
    one += [span("step", 1.0, 2.0, step=2), span("backward", 1.0, 2.0, step=2)]
    two = [span("step", 0.0, 3.0, step=1), span("wait", 0.0, 1.0, step=1, name="bound")]
    two += [span("forward", 1.0, 3.0, step=1), span("communicate", 2.5, 3.0, step=1, name="push", size=100)]
    three = [span("serve", 0.0, 2.5, size=100)]
    phase = asynchronous("asp", [RankSteps.of(rank) for rank in (one, two, three)])
    assert (phase.steps, phase.seconds, sorted(phase.iterations)) == (3, 3.0, [1.0, 1.0, 3.0])
    result = joined([phase, phase], seed=1, samples=12, workers=3)
    assert (result.steps, result.total_time_s, result.samples_per_s) == (6, 6.0, 2.0)
    assert result.bytes_sent_per_worker == round(200 / 3)
    shares = {"compute": 3.75 / 6, "communicate": 0.25 / 6, "idle": 2.0 / 6}
    assert result.time_share == pytest.approx({**dict.fromkeys(SHARES, 0.0), **shares})
    assert [row["name"] for row in result.phases] == ["asp", "asp"]


lengths = st.integers(0, 1000).map(lambda ticks: ticks / 1024)


@st.composite
def runs(draw: st.DrawFn) -> list[list[Span]]:
    """Traces as a trainer makes them: stages one after the other in each step, all ranks leave an exchange together."""
    workers, steps = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    ranks: list[list[Span]] = [[] for _ in range(workers)]
    now = [0.0] * workers
    for step in range(steps):
        begun = list(now)
        launched = []
        for rank in range(workers):
            for what in ("data", "forward", "backward", "compress"):
                length = draw(lengths)
                ranks[rank].append(span(what, now[rank], now[rank] + length, step=step, rank=rank))
                now[rank] += length
            launched.append(now[rank])
        done = max(launched) + draw(lengths)
        for rank in range(workers):
            size = draw(st.integers(0, 10**6))
            ranks[rank].append(span("communicate", launched[rank], done, step=step, rank=rank, size=size))
            ranks[rank].append(span("wait", now[rank], done, step=step, rank=rank))
            tail = draw(lengths)
            ranks[rank].append(span("optimize", done, done + tail, step=step, rank=rank))
            ranks[rank].append(span("step", begun[rank], done + tail, step=step, rank=rank))
            now[rank] = done + tail
            if draw(st.booleans()):
                length = draw(lengths)
                ranks[rank].append(span("checkpoint", now[rank], now[rank] + length, step=step, rank=rank))
                now[rank] += length
    return ranks


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(runs())
def test_shares_are_the_closed_forms_of_a_synchronous_run(ranks: list[list[Span]]) -> None:
    result = fold(*ranks, samples=100)
    everything = [s for rank in ranks for s in rank]
    spent = {what: sum(s.seconds for s in everything if s.what == what) for what in WHAT}
    waited = idle = 0.0
    for step in range(result.steps):
        launches = [s.start for s in everything if s.what == "communicate" and s.step == step]
        waits = [s for s in everything if s.what == "wait" and s.step == step]
        idle += sum(max(launches) - launch for launch in launches)
        waited += sum(s.end - max(launches) for s in waits)
    got = seconds(result, ranks)
    assert got == pytest.approx(
        {
            "compute": spent["data"] + spent["forward"] + spent["backward"],
            "compress": spent["compress"],
            "communicate": waited,
            "optimize": spent["optimize"],
            "checkpoint": spent["checkpoint"],
            "idle": idle,
        },
        abs=1e-9,
    )
    assert waited + idle == pytest.approx(spent["wait"])
    assert sum(result.time_share.values()) == pytest.approx(1.0) or not any(got.values())
    assert result.total_time_s == pytest.approx(
        max(sum(s.seconds for s in rank if s.what in ("step", "checkpoint")) for rank in ranks)
    )
    sent = [s.bytes for s in everything if s.what == "communicate"]
    assert result.bytes_sent_per_worker == round(sum(sent) / len(ranks))


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(WHAT), lengths, lengths, st.integers(0, 2)), max_size=20))
def test_whatever_is_recorded_shares_are_a_distribution(rows: list[tuple[str, float, float, int]]) -> None:
    spans = [span(what, start, start + length, step=step) for what, start, length, step in rows]
    result = fold(spans)
    assert all(0.0 <= part <= 1.0 + 1e-12 for part in result.time_share.values())
    total = sum(result.time_share.values())
    assert total == pytest.approx(1.0) or total == 0.0
    assert result.steps == sum(what == "step" for what, *_ in rows)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(runs(), st.randoms())
def test_the_order_of_spans_and_of_ranks_does_not_matter(ranks: list[list[Span]], random: Random) -> None:
    plain = fold(*ranks)
    mixed = [[s for s in rank if s.what != "step"] for rank in ranks]
    for rank, original in zip(mixed, ranks, strict=True):
        random.shuffle(rank)
        rank.extend(s for s in original if s.what == "step")
    other = fold(*reversed(mixed))
    assert other.total_time_s == pytest.approx(plain.total_time_s)
    assert other.time_share == pytest.approx(plain.time_share)
    assert other.iteration_time_s == pytest.approx(plain.iteration_time_s)
    assert other.bytes_sent_per_worker == plain.bytes_sent_per_worker


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.floats(0, 1e6), max_size=50))
def test_percentiles_are_ordered_and_within_the_sample(values: list[float]) -> None:
    got = distribution(values)
    assert got["p50"] <= got["p95"] <= got["p99"]
    if values:
        assert min(values) <= got["p50"]
        assert got["p99"] <= max(values)
        assert got["mean"] == pytest.approx(math.fsum(values) / len(values))
    else:
        assert set(got.values()) == {0.0}


def test_percentiles_by_hand() -> None:
    got = distribution([float(value) for value in range(101)])
    assert got == {"mean": 50.0, "p50": 50.0, "p95": 95.0, "p99": 99.0}


def test_a_result_is_the_contracts_json() -> None:
    result = fold([span("step", 0.0, 1.0)])
    result.sections["loss"] = {"first": 2.3}
    plain = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert plain["schema"] == RESULT_SCHEMA
    wanted = {"schema", "seed", "workers", "steps", "total_time_s", "iteration_time_s", "samples_per_s", "loss"}
    assert set(plain) == wanted | {"bytes_sent_per_worker", "phases", "time_share", "events"}
    assert set(plain["iteration_time_s"]) == {"mean", "p50", "p95", "p99"}
    assert set(plain["time_share"]) == {"compute", "compress", "communicate", "optimize", "checkpoint", "idle"}
    assert plain["loss"] == {"first": 2.3}


def test_phases_are_named_rows() -> None:
    assert phases_of([("bsp", 3, 1.5), ("asp", 7, 2.0)]) == [
        {"name": "bsp", "steps": 3, "time_s": 1.5},
        {"name": "asp", "steps": 7, "time_s": 2.0},
    ]
    assert phases_of([]) == []


def test_many_ranks_fold_to_plain_numbers() -> None:
    whole = [span(what, 0.0, 1.0) for what in ("communicate", "wait", "step")]
    result = fold(*[whole] * 1000)
    assert (result.workers, result.time_share["communicate"]) == (1000, 1.0)
    assert not any(isinstance(value, np.generic) for value in vars(result).values())
