"""Horovod's own timelines: read as it writes them, and good for the same constants as our traces."""

from __future__ import annotations

import argparse

import pytest

from simulator import calibrate
from simulator.hvdtimeline import read_timeline
from simulator.observe import load_run
from simulator.profile import Profile
from toolkit.errors import UserError


def operation(kind, begin, seconds, shape, process):
    """What Horovod 0.28.1 writes of one operation."""
    end = begin + seconds * 1e6
    return (
        f'{{"ph": "B", "name": "NEGOTIATE_{kind}", "ts": {begin - 90}, "pid": {process}}},'
        f'{{"ph": "X", "name": "0", "ts": {begin - 80}, "pid": {process}, "dur": 0}},'
        f'{{"ph": "E", "ts": {begin - 70}, "pid": {process}}},'
        f'{{"ph": "i", "name": "CYCLE_START", "ts": {begin - 60}, "s": "g"}},'
        f'{{"ph": "B", "name": "{kind}", "ts": {begin}, "pid": {process}}},'
        f'{{"ph": "B", "name": "MPI_{kind}", "ts": {begin + 4}, "pid": {process}}},'
        f'{{"ph": "E", "ts": {end - 1}, "pid": {process}}},'
        f'{{"ph": "E", "ts": {end}, "pid": {process}, "args": {{"dtype": "float32", "shape": "[{shape}]"}}}},'
    )


def timeline(path, rows, closed=True):
    text = '[\n{"name": "process_name", "ph": "M", "pid": 1, "args": {"name": "allreduce.bucket0"}},\n'
    text += "\n".join(operation(*row) for row in rows)
    path.write_text(text.rstrip(",") + "]" if closed else text)
    return path


@pytest.mark.parametrize("closed", [True, False])
def test_operations_are_read_without_the_first_steps(write_run, truth, tmp_path, closed):
    run = load_run(write_run(truth, "run", cluster={"workers": 4}))
    rows = [("ALLREDUCE", 1e6 * step, 2e-3 + 1e-4 * step, "1000", 1) for step in range(8)]
    rows += [("ALLGATHER", 1e6 * step + 5e5, 3e-3, "400, 2", 2) for step in range(8)]
    found = read_timeline(timeline(tmp_path / "t.json", rows, closed), run)
    dense = [e for e in found if e.wire == "dense"]
    sparse = [e for e in found if e.wire == "sparse"]
    assert len(dense) == len(sparse) == 8 - run.first_step
    assert [e.seconds for e in dense] == pytest.approx([2e-3 + 1e-4 * step for step in range(run.first_step, 8)])
    assert {e.bytes for e in dense} == {(4000,) * 4}
    assert {e.bytes for e in sparse} == {(800,) * 4}
    assert all(e.queued and e.cached and e.rate == 0 for e in found)


def test_a_timeline_tells_what_too_few_exchanges_of_a_trace_do_not(write_run, truth, tmp_path):
    """The bandwidth of a port, from operations of other sizes than the run's own."""
    folder = write_run(truth, "run", cluster={"workers": 4}, compression={"granularity": "model"})
    rows = []
    for step in range(60):
        size = (20_000, 200_000, 2_000_000)[step % 3]
        seconds = truth.call + 6 * truth.latency + 1.5 * 4 * size / truth.bandwidth
        rows.append(("ALLREDUCE", 1e6 * step, seconds, str(size), 1))
    file = timeline(tmp_path / "t.json", rows)
    parser = argparse.ArgumentParser()
    calibrate.add_arguments(parser)
    words = [str(folder), "--profile", str(tmp_path / "p.json"), "--timeline", f"{folder}={file}"]
    assert calibrate.main(parser.parse_args(words)) == 0
    network = Profile.load(tmp_path / "p.json").network
    assert network.bandwidth == pytest.approx(truth.bandwidth, rel=0.05)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a Horovod timeline"),
        ("{}", "not a Horovod timeline"),
        ('[{"ph": "E", "ts": 1, "pid": 4}]', "event 0: not of a Horovod timeline"),
        ('[{"ph": "B", "name": "ALLREDUCE", "pid": 4}]', "event 0: not of a Horovod timeline"),
        ("[1]", "a list of events is wanted"),
    ],
)
def test_what_is_no_timeline_is_refused(write_run, truth, tmp_path, text, reason):
    run = load_run(write_run(truth, "run"))
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(UserError, match=reason):
        read_timeline(tmp_path / "t.json", run)


def test_a_timeline_belongs_to_a_run(write_run, truth, tmp_path):
    folder = write_run(truth, "run")
    with pytest.raises(UserError, match="RUN=FILE is wanted"):
        calibrate._timelines([f"{tmp_path}/other=t.json"], [load_run(folder)])
