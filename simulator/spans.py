"""The spans of a simulated worker's step: the same names and details that the trainer records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from simulator.network import Carried
from simulator.plan import Plan
from simulator.stepcosts import Step
from simulator.worker import Finish, Launches, Pace, waiting
from toolkit.trace import Span

Sink = Callable[[Span], None]


def link_spans(log: Iterable[Carried], names: Sequence[str]) -> Iterator[Span]:
    """When each link carried something, and how much in all: flows that overlap are one span, of no rank."""
    flows: dict[int, list[tuple[float, float, float]]] = {}
    for route, began, ended, size in log:
        for link in route:
            flows.setdefault(link, []).append((began, ended, size))
    for link in sorted(flows):
        name = names[link] if link < len(names) else f"stream {link - len(names)}"
        begin, until, total = 0.0, -1.0, 0.0
        for began, ended, size in sorted(flows[link]):
            if until < 0 or began > until:
                if until >= 0:
                    yield Span("link", name, round(total), begin, until, -1, -1)
                begin, until, total = began, ended, 0.0
            until, total = max(until, ended), total + size
        yield Span("link", name, round(total), begin, until, -1, -1)


def step_spans(
    plan: Plan, number: int, rank: int, times: tuple[float, Launches, Finish], pace: Pace, done: list[float]
) -> Iterator[Span]:
    """Spans of step `number` of one worker; times: its start, launches and finish (one row)."""
    step, factor, cores = plan.step(number), float(pace.compute[0]), float(pace.cores[0])
    start, launches, end = times
    load = step.load

    def span(what: str, name: str, begin: float, until: float, size: int = 0, detail: dict | None = None) -> Span:
        return Span(what, name, size, begin, max(begin, until), number, rank, detail)

    now = start + cores * plan.step_s
    left, last = float(load.batches[rank]), float(load.last[rank])
    while left > 1e-12:
        part = min(1.0, left)
        yield span("data", "", now, now + cores * plan.data_s * part)
        now += cores * plan.data_s * part
        yield span("forward", "", now, now + factor * plan.forward_s * part)
        now += factor * plan.forward_s * part
        left -= part
        if left > 1e-12:
            yield from _backward(plan, span, now, factor * part)
            now += factor * plan.backward_s * part
    yield from _last_backward(plan, step, span, launches, (factor * last, cores), bool(load.busy[rank]))
    waits, mets = waiting(end, 0)
    exact = {"exact_end": 1.0}
    for bucket, elements in enumerate(plan.elements):
        name = f"bucket{bucket}"
        way = step.costs.ways[bucket]
        begin, met = float(waits[bucket]), float(mets[bucket])
        yield span("wait", name, begin, met)
        yield span("communicate", name, float(launches.launched[0, bucket]), done[bucket], int(way.sent[rank]), exact)
        detail = {"elements": float(elements), "entries": float(way.merged or way.entries)}
        yield span("merge", name, met, met + cores * float(step.costs.merge[bucket]), 0, detail)
    until = float(end.end[0])
    yield span("optimize", "", until - cores * step.costs.optimize, until)
    yield span("step", "", start, until)


def _backward(plan: Plan, span: Callable[..., Span], now: float, scale: float) -> Iterator[Span]:
    order = [position for bucket in plan.buckets for position in bucket]
    for position, seconds in zip(order, plan.segments.tolist(), strict=True):
        yield span("backward", plan.profile.layers[position].name, now, now + scale * seconds)
        now += scale * seconds


def _last_backward(
    plan: Plan, step: Step, span: Callable[..., Span], launches: Launches, pace: tuple[float, float], busy: bool
) -> Iterator[Span]:
    """The backward that completes the buckets, with compression in between (or behind it, without overlap)."""
    scale, cores = pace
    now, overlap, position = float(launches.backward[0]), plan.experiment.pipeline.overlap, 0
    if not busy:
        return
    if not overlap:
        yield from _backward(plan, span, now, scale)
    for number, bucket in enumerate(plan.buckets):
        if overlap:
            for tensor in bucket:
                seconds = scale * float(plan.segments[position])
                yield span("backward", plan.profile.layers[tensor].name, now, now + seconds)
                now, position = now + seconds, position + 1
        until = float(launches.launched[0, number])
        detail = {
            "elements": plan.elements[number],
            "density": step.costs.density,
            "selected": step.costs.ways[number].entries,
        }
        size = step.costs.payload[number]
        yield span(
            "compress", f"bucket{number}", until - cores * float(step.costs.compress[number]), until, size, detail
        )
        now = until
