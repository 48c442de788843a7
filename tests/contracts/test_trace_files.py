"""Traces on disk: what is written reads back; what is damaged is refused with its file and line."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit.errors import UserError
from toolkit.trace import TRACE_SCHEMA, Recorder, Span, read_run, read_trace, write_trace
from toolkit.trace.chrome import DEVICES, write_chrome
from toolkit.trace.span import WHAT

nanoseconds = st.integers(0, 10**15)
details = st.none() | st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False), min_size=1, max_size=3)


@st.composite
def spans(draw: st.DrawFn, rank: int = 0) -> Span:
    start, length = draw(nanoseconds), draw(nanoseconds)
    what, name = draw(st.sampled_from(WHAT)), draw(st.text(max_size=12))
    size, step = draw(st.integers(0, 2**62)), draw(st.integers(0, 10**6))
    return Span(what, name, size, start / 1e9, (start + length) / 1e9, step, rank, draw(details))


def header(rank: int = 0, workers: int = 1, **more: Any) -> dict[str, Any]:
    return {"rank": rank, "workers": workers, **more}


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(spans(), max_size=8), st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5)))
def test_a_written_trace_reads_back(tmp_path_factory: Any, recorded: list[Span], more: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "trace.jsonl"
    head = {**more, **header()}
    head.pop("schema", None)
    write_trace(path, head, recorded)
    found, back = read_trace(path)
    assert found == {"schema": TRACE_SCHEMA, **head}
    assert len(path.read_text().splitlines()) == 1 + len(recorded)
    assert [(s.what, s.name, s.bytes, s.step, s.rank, s.detail) for s in back] == [
        (s.what, s.name, s.bytes, s.step, s.rank, s.detail) for s in recorded
    ]
    for read, written in zip(back, recorded, strict=True):
        assert read.start == round(written.start, 9)
        assert read.end == round(written.end, 9)
        assert read.seconds >= 0


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(spans(), max_size=5))
def test_writing_what_was_read_gives_the_same_bytes(tmp_path_factory: Any, recorded: list[Span]) -> None:
    first, second = (tmp_path_factory.getbasetemp() / name for name in ("first.jsonl", "second.jsonl"))
    write_trace(first, header(), recorded)
    write_trace(second, header(), read_trace(first)[1])
    assert first.read_bytes() == second.read_bytes()


def test_a_recorder_stamps_its_rank_and_step() -> None:
    ticks = iter([1.0, 1.5, 2.0, 4.0])
    recorder = Recorder(rank=3, clock=lambda: next(ticks))
    with recorder.span("forward"):
        pass
    recorder.step = 1
    with recorder.span("compress", "bucket0"):
        pass
    recorder.add("communicate", "bucket0", 2.5, 3.0, 400, {"density": 0.1})
    assert recorder.spans == [
        Span("forward", "", 0, 1.0, 1.5, 0, 3),
        Span("compress", "bucket0", 0, 2.0, 4.0, 1, 3),
        Span("communicate", "bucket0", 400, 2.5, 3.0, 1, 3, {"density": 0.1}),
    ]


GOOD = '["forward", "", 0, 1.0, 2.0, 0, 0]'
DAMAGED = {
    "cut": '["forward", "", 0, 1.0, 2.',
    "empty line": "",
    "object": '{"what": "forward"}',
    "number": "7",
    "six fields": '["forward", "", 0, 1.0, 2.0, 0]',
    "nine fields": '["forward", "", 0, 1.0, 2.0, 0, 0, {}, 1]',
    "unknown stage": '["froward", "", 0, 1.0, 2.0, 0, 0]',
    "stage is a list": '[["forward"], "", 0, 1.0, 2.0, 0, 0]',
    "name is a number": '["forward", 1, 0, 1.0, 2.0, 0, 0]',
    "negative bytes": '["forward", "", -1, 1.0, 2.0, 0, 0]',
    "fractional bytes": '["forward", "", 1.5, 1.0, 2.0, 0, 0]',
    "bytes are true": '["forward", "", true, 1.0, 2.0, 0, 0]',
    "ends before it starts": '["forward", "", 0, 2.0, 1.0, 0, 0]',
    "start is NaN": '["forward", "", 0, NaN, 2.0, 0, 0]',
    "end is NaN": '["forward", "", 0, 1.0, NaN, 0, 0]',
    "end is infinite": '["forward", "", 0, 1.0, Infinity, 0, 0]',
    "end is endless": '["forward", "", 0, 1.0, 1' + "0" * 400 + ", 0, 0]",
    "end has too many digits": '["forward", "", 0, 1.0, 1' + "0" * 5000 + ", 0, 0]",
    "start is a text": '["forward", "", 0, "1.0", 2.0, 0, 0]',
    "start is true": '["forward", "", 0, true, 2.0, 0, 0]',
    "step is null": '["forward", "", 0, 1.0, 2.0, null, 0]',
    "rank is a text": '["forward", "", 0, 1.0, 2.0, 0, "0"]',
    "detail is a list": '["forward", "", 0, 1.0, 2.0, 0, 0, [1]]',
    "detail holds a text": '["forward", "", 0, 1.0, 2.0, 0, 0, {"density": "low"}]',
    "nesting": "[" * 100_000,
}


@pytest.mark.parametrize("line", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("good_before", [0, 2])
def test_a_damaged_line_is_named(tmp_path: Path, line: str, good_before: int) -> None:
    path = tmp_path / "rank0.jsonl"
    first = json.dumps({"schema": TRACE_SCHEMA, **header()})
    path.write_text("\n".join([first, *[GOOD] * good_before, line, GOOD]) + "\n")
    with pytest.raises(UserError) as caught:
        read_trace(path)
    text = str(caught.value)
    assert text.startswith(f"{path}:{good_before + 2}: damaged trace line: ")
    assert "\n" not in text


@pytest.mark.parametrize(
    "first",
    ["", GOOD, "{}", '{"schema": "sandtable-trace/0"}', '{"schema": null}', "null", f'"{TRACE_SCHEMA}"'],
)
def test_a_file_that_is_no_trace(tmp_path: Path, first: str) -> None:
    path = tmp_path / "rank0.jsonl"
    path.write_text(first + "\n" + GOOD + "\n" if first else "")
    with pytest.raises(UserError) as caught:
        read_trace(path)
    assert str(caught.value) == f"{path}:1: not a trace: the first line must hold schema '{TRACE_SCHEMA}'"


def test_a_first_line_that_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "rank0.jsonl"
    path.write_text("PK\x03\x04")
    with pytest.raises(UserError) as caught:
        read_trace(path)
    assert str(caught.value).startswith(f"{path}:1: damaged trace line: ")


def test_a_trace_that_cannot_be_read(tmp_path: Path) -> None:
    binary = tmp_path / "rank0.jsonl"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (binary, tmp_path, tmp_path / "nowhere.jsonl"):
        with pytest.raises(UserError) as caught:
            read_trace(path)
        assert str(caught.value).startswith(f"{path}: cannot be read: ")


def write_run(folder: Path, heads: list[dict[str, Any]], rank_of_spans: int | None = None) -> None:
    (folder / "trace").mkdir()
    for position, head in enumerate(heads):
        rank = head.get("rank", 0) if rank_of_spans is None else rank_of_spans
        write_trace(folder / "trace" / f"rank{position}.jsonl", head, [Span("step", "", 0, 0.0, 1.0, 0, rank)])


def test_a_run_is_read_in_rank_order_also_beyond_ten(tmp_path: Path) -> None:
    write_run(tmp_path, [header(rank, 12, samples=rank) for rank in range(12)])
    head, ranks = read_run(tmp_path)
    assert head == {"schema": TRACE_SCHEMA, **header(0, 12, samples=0)}
    assert [[span.rank for span in rank] for rank in ranks] == [[rank] for rank in range(12)]


def failure(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_run(folder)
    return str(caught.value)


def test_a_folder_without_traces(tmp_path: Path) -> None:
    wanted = f"{tmp_path}: no trace/rank*.jsonl: a run folder written by 'toolkit train --out' is wanted"
    assert failure(tmp_path) == wanted
    (tmp_path / "trace").mkdir()
    assert failure(tmp_path) == wanted


@pytest.mark.parametrize(
    ("heads", "ranks", "workers"),
    [
        ([header(0, 3), header(2, 3)], [0, 2], 3),
        ([header(1, 2)], [1], 2),
        ([header(0, 1), header(1, 1)], [0, 1], 1),
        ([header(0, 2), header(0, 2)], [0, 0], 2),
        ([header(0, 10**12)], [0], 10**12),
        ([header(0, -1)], [0], -1),
    ],
    ids=["missing in the middle", "missing first", "left over", "twice", "endless", "negative"],
)
def test_missing_and_surplus_ranks(tmp_path: Path, heads: list[dict[str, Any]], ranks: list[int], workers: int) -> None:
    write_run(tmp_path, heads)
    assert failure(tmp_path) == f"{tmp_path}/trace: ranks {ranks}, but the header says {workers} workers"


@pytest.mark.parametrize("head", [{}, {"rank": 0}, {"workers": 1}, header("0", 1), header(0, 1.0), header(0, True)])  # type: ignore[arg-type]
def test_a_header_without_rank_and_workers(tmp_path: Path, head: dict[str, Any]) -> None:
    write_run(tmp_path, [head], rank_of_spans=0)
    path = tmp_path / "trace" / "rank0.jsonl"
    assert failure(tmp_path) == f"{path}:1: a run's trace wants whole numbers as rank and workers in its first line"


def test_spans_of_a_foreign_rank(tmp_path: Path) -> None:
    write_run(tmp_path, [header(0, 1)], rank_of_spans=1)
    path = tmp_path / "trace" / "rank0.jsonl"
    assert failure(tmp_path) == f"{path}: spans of another rank than 0, which the first line names"


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(spans(rank=0) | spans(rank=1), max_size=8))
def test_a_chrome_trace_holds_every_span_in_microseconds(tmp_path_factory: Any, recorded: list[Span]) -> None:
    path = tmp_path_factory.getbasetemp() / "chrome.json"
    write_chrome(path, recorded)
    events = json.loads(path.read_text())["traceEvents"]
    drawn = [event for event in events if event["ph"] == "X" and event["pid"] < DEVICES]
    assert len(drawn) == len(recorded)
    for event, span in zip(drawn, recorded, strict=True):
        assert (event["cat"], event["pid"]) == (span.what, span.rank)
        assert event["ts"] == pytest.approx(span.start * 1e6)
        assert event["dur"] == pytest.approx(span.seconds * 1e6)
        assert event["tid"] == {"communicate": 1, "serve": 2}.get(span.what, 0)
        if not span.detail:
            assert event["args"] == {"step": span.step, "bytes": span.bytes}
    computed = [event for event in events if event["ph"] == "X" and event["pid"] == DEVICES]
    assert [event["cat"] for event in computed] == [s.what for s in recorded if s.what in ("forward", "backward")]
    names = {(event["pid"], event["args"]["name"]) for event in events if event["ph"] == "M" and event["pid"] < DEVICES}
    ranks = {span.rank for span in recorded}
    assert names == {(rank, name) for rank in ranks for name in ("main", "communicate", "serve", f"worker {rank}")}
