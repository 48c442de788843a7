"""The checkpoint's traffic: no byte is left out, no chunk is larger than a sub-buffer, no span but the last overrun."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.policies.traffic import Link, Span, idle_spans, schedule

SETS = 10_000


def drawn(generator):
    """A random set of spans and what is sent in it."""
    lengths = generator.exponential(generator.choice([1e-4, 1e-2, 1.0]), generator.integers(1, 9))
    gaps = generator.exponential(1e-2, lengths.size)
    starts = np.cumsum(gaps) + np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
    spans = [Span(float(s), float(n)) for s, n in zip(starts, lengths, strict=True)]
    bandwidth = float(10 ** generator.uniform(6, 10))
    copy = math.inf if generator.random() < 0.5 else float(bandwidth * generator.uniform(0.2, 5))
    link = Link(float(generator.choice([0.0, 1e-5, 1e-3])), bandwidth, copy, bool(generator.random() < 0.5))
    buffer = int(10 ** generator.uniform(4, 8))
    size = int(generator.uniform(0, 2) * sum(lengths) * bandwidth) % (400 * buffer)
    return spans, size, link, buffer, float(generator.uniform(0.1, 1.0))


@pytest.mark.parametrize("amortise", [False, True])
def test_ten_thousand_random_span_sets(amortise):
    generator = np.random.default_rng(11)
    for _ in range(SETS):
        spans, size, link, buffer, gamma = drawn(generator)
        found = schedule(spans, size, link, buffer, gamma=gamma, amortise=amortise)
        assert found.size == size
        assert all(0 < chunk.size <= buffer for chunk in found.chunks)
        last = (found.iterations - 1, len(spans) - 1)
        end = (0, 0.0)
        for chunk in found.chunks:
            span = spans[chunk.span]
            assert (chunk.iteration, chunk.start + 1e-9) >= end  # one after the other
            end = (chunk.iteration, chunk.start + chunk.seconds)
            assert chunk.start >= span.start
            if (chunk.iteration, chunk.span) != last:
                assert chunk.start + chunk.seconds <= span.start + gamma * span.length + 1e-9
        if found.chunks and found.overrun == 0:
            final = found.chunks[-1]
            span = spans[final.span]
            assert final.start + final.seconds <= span.start + gamma * span.length + 1e-9


@settings(deadline=None, max_examples=200)
@given(
    st.floats(0, 1e-2),
    st.floats(1e3, 1e11),
    st.one_of(st.just(math.inf), st.floats(1e3, 1e11)),
    st.booleans(),
    st.floats(0, 10),
)
def test_the_largest_chunk_that_fits(alpha, bandwidth, copy, pipelined, seconds):
    link = Link(alpha, bandwidth, copy, pipelined)
    size = link.fits(seconds)
    assert size == 0 or link.seconds(size) <= seconds
    assert link.seconds(size + 2 + int(size * 1e-9)) > seconds


def test_amortised_over_as_many_iterations_as_the_spans_need():
    spans, link = [Span(0.0, 0.5), Span(1.0, 0.5)], Link(0.0, 1000.0)
    found = schedule(spans, 3000, link, 100, gamma=1.0, amortise=True)
    assert (found.iterations, found.overrun, found.seconds) == (3, 0.0, pytest.approx(3.0))
    at_once = schedule(spans, 3000, link, 100, gamma=1.0)
    assert (at_once.iterations, at_once.overrun) == (1, pytest.approx(2.0))


def test_a_chunk_that_can_never_fit_is_sent_in_the_last_span():
    found = schedule([Span(0.0, 1e-6)], 10, Link(1.0, 1e9), 4, amortise=True)
    assert (found.size, found.iterations) == (10, 1)
    with pytest.raises(ValueError, match="no idle span"):
        schedule([], 10, Link(1.0, 1e9), 4)


def test_more_sub_buffers_hide_the_copy():
    spans = [Span(0.0, 100.0)]
    one = schedule(spans, 10_000, Link(0.0, 1e3, 1e3, pipelined=False), 1000).seconds
    two = schedule(spans, 10_000, Link(0.0, 1e3, 1e3), 1000).seconds
    assert one == pytest.approx(2 * two)


def test_profiled_spans_are_taken_at_their_shortest():
    assert idle_spans([[Span(0.0, 2.0), Span(5.0, 1.0)], [Span(0.5, 1.5), Span(5.0, 0.1)]], 0.2) == (Span(0.5, 1.5),)
    with pytest.raises(ValueError, match="equally many"):
        idle_spans([[Span(0.0, 1.0)], []])
