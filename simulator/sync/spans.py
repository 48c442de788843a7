"""The spans of a simulated worker's update: the names that the trainer records for one."""

from __future__ import annotations

from simulator.plan import Plan
from simulator.spans import Sink
from simulator.sync.asynchronous import Observe
from toolkit.trace import Span


def update_spans(plan: Plan, sink: Sink, since: int) -> Observe:
    """An observer that hands the spans of updates from number `since` on to `sink`.

    Computation is split between forward, backward and compression in the plan's proportions.
    """
    count = 0
    costs = plan.step(0).costs
    parts = (("forward", plan.forward_s), ("backward", plan.backward_s), ("compress", float(costs.compressed[-1])))
    whole = sum(seconds for _, seconds in parts)
    pulled_bytes = 4 * sum(plan.elements)

    def observe(worker: int, times: tuple[float, float, float, float]) -> None:
        nonlocal count
        step, count = count, count + 1
        if step < since:
            return
        asked, free, pulled, ready = times
        sink(Span("wait", "bound", 0, asked, free, step, worker))
        sink(Span("wait", "servers", 0, free, pulled, step, worker))
        sink(Span("communicate", "pull", pulled_bytes, asked, pulled, step, worker))
        now = pulled
        for what, seconds in parts:
            until = ready if what == "compress" else now + (ready - pulled) * seconds / whole
            sink(Span(what, "", 0, now, max(now, until), step, worker))
            now = until
        sink(Span("communicate", "push", sum(costs.payload), ready, ready, step, worker))
        sink(Span("step", "", 0, asked, ready, step, worker))

    return observe
