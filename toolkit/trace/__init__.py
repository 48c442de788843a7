"""Spans: the one record of real and simulated runs, the result that is computed from them, and their export."""

from toolkit.trace.result import (
    RESULT_SCHEMA,
    PhaseTimes,
    RankSteps,
    Result,
    asynchronous,
    joined,
    phases_of,
    summarize,
    synchronous,
)
from toolkit.trace.span import TRACE_SCHEMA, Recorder, Span, read_run, read_trace, write_trace

__all__ = [
    "RESULT_SCHEMA",
    "TRACE_SCHEMA",
    "PhaseTimes",
    "RankSteps",
    "Recorder",
    "Result",
    "Span",
    "asynchronous",
    "joined",
    "phases_of",
    "read_run",
    "read_trace",
    "summarize",
    "synchronous",
    "write_trace",
]
