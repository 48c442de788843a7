"""[faults]: every table is read, written and refused with its place and reason."""

import tomllib

import pytest

from toolkit.errors import UserError
from toolkit.experiment import dump, load, parse
from toolkit.policies.linktrace import link_traces, read_points

GOOD = {
    "slow_worker": [{"worker": 3, "factor": 2.0}],
    "slow_cpu": [{"host": 1, "factor": 1.5, "from_step": 2}],
    "straggler": [{"rate": 0.1, "factor": 3.0, "distribution": "pareto", "steps": 5}],
    "slow_link": [{"host": 1, "bandwidth": "100 Mbit/s"}],
    "added_latency": [{"host": 0, "latency": "10 ms", "start": "1 s", "end": "2 s"}],
    "link_trace": [
        {"host": 0, "at": "2 s", "bandwidth": "8 kbit/s"},
        {"host": 0, "at": "1 s", "bandwidth": "0 bit/s"},
    ],
    "traffic": [{"source": 0, "target": 1, "rate": "8 Mbit/s", "start": "5 s"}],
}


def of(faults):
    return parse({"cluster": {"workers": 4, "workers_per_host": 2}, "faults": faults}, "file")


def test_all_tables_are_read_and_written_again():
    experiment = of(GOOD)
    assert experiment.faults.added_latency[0].latency == 0.01
    assert parse(tomllib.loads(dump(experiment)), "file") == experiment
    assert link_traces(experiment.faults) == {0: ((1.0, 0.0), (2.0, 1000.0))}


@pytest.mark.parametrize(
    ("table", "row", "reason"),
    [
        ("slow_worker", {"worker": 4, "factor": 2.0}, "slow_worker 1: worker = 4: the cluster has 4, counted from 0"),
        ("slow_cpu", {"host": 2, "factor": 2.0}, "slow_cpu 1: host = 2: the cluster has 2, counted from 0"),
        ("slow_cpu", {"host": 1, "factor": 2.0, "from_step": 3, "to_step": 2}, "to_step = 2: a step after"),
        ("straggler", {"rate": 1.5}, "straggler 1: rate = 1.5: a finite value >= 0.0 and <= 1.0 is wanted"),
        ("straggler", {"rate": 0.5, "distribution": "normal"}, "distribution = 'normal': allowed are constant"),
        ("straggler", {"rate": 0.5, "worker": 7}, "straggler 1: worker = 7"),
        ("added_latency", {"host": 9, "latency": "1 s"}, "added_latency 1: host = 9: the cluster has 2"),
        ("added_latency", {"host": 0, "latency": "1 s", "start": "2 s", "end": "1 s"}, "end = '1 s': a time after"),
        ("slow_link", {"host": 0, "bandwidth": "-1 Mbit/s"}, "slow_link 1: bandwidth = '-1 Mbit/s'"),
        ("link_trace", {"host": 1, "file": "a.csv", "bandwidth": "1 Mbit/s"}, "a row has a file, or at and bandwidth"),
        ("traffic", {"source": 1, "target": 1}, "traffic 1: target = 1: another host than the source is wanted"),
        ("traffic", {"source": 1, "target": 2}, "traffic 1: target = 2: the cluster has 2"),
    ],
)
def test_a_bad_row_is_refused_with_its_place(table, row, reason):
    with pytest.raises(UserError) as refused:
        of({table: [row]})
    assert "[faults]" in str(refused.value)
    assert reason in str(refused.value)


def test_a_link_has_one_rate_at_a_time():
    change = {"host": 0, "at": "1 s", "bandwidth": "1 Mbit/s"}
    slow = [{"host": 0, "bandwidth": "1 Mbit/s"}]
    for faults in (
        {"link_trace": [change, change]},
        {"link_trace": [change], "slow_link": slow},
        {"link_trace": [change, {"host": 0, "file": "a.csv"}]},
        {"link_trace": [{"host": 0, "file": "a.csv"}, change]},
    ):
        with pytest.raises(UserError, match="link_trace"):
            of(faults)


def test_a_host_that_is_cut_off_for_good_is_refused():
    faults = of({"link_trace": [{"host": 1, "at": "3 s", "bandwidth": "0 bit/s"}]}).faults
    with pytest.raises(UserError, match=r"f.toml: \[faults\] link_trace: host = 1: host 1 is unreachable from 3 s on"):
        link_traces(faults, "f.toml")


def test_a_trace_lies_beside_the_experiment_file(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "rates.csv").write_text("time,bandwidth\n0 s,1 Gbit/s\n10 s, 8 kbit/s\n")
    file = tmp_path / "there" / "e.toml"
    file.write_text("[[faults.link_trace]]\nhost = 0\nfile = 'rates.csv'\n")
    monkeypatch.chdir(tmp_path)
    experiment = load("there/e.toml")
    assert link_traces(experiment.faults) == {0: ((0.0, 125e6), (10.0, 1000.0))}
    (tmp_path / "config.toml").write_text(dump(experiment))
    assert load("config.toml") == experiment


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2 s,1 Gbit/s\n1 s,1 Gbit/s\n", "t.csv:2: time = '1 s': times must rise"),
        ("1 s,1 Gbit/s\n2 s,\n", "t.csv:2: .* the trace has a gap"),
        ("1 s,1 Gbit/s\n\n3 s,1 Gbit/s\n", "t.csv:2: .* a row is"),
        ("start,end,bandwidth\n0 s,1 s,1 Gbit/s\n2 s,3 s,1 Gbit/s\n", "t.csv:3: start = '2 s': .* a gap after 1 s"),
        ("0 s,2 s,1 Gbit/s\n1 s,3 s,1 Gbit/s\n", "t.csv:2: start = '1 s': the trace has two rates after 2 s"),
        ("0 s,0 s,1 Gbit/s\n", "end = '0 s': a time after the start"),
        ("0 s,-5 Mbit/s\n", "bandwidth = '-5 Mbit/s': a rate >= 0 is wanted"),
        ("0 s,5\n", "t.csv:1: bandwidth = '5': a rate is written like"),
        ("", "t.csv: no rows"),
    ],
)
def test_a_bad_trace_is_refused_with_file_and_line(tmp_path, text, reason):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=reason) as refused:
        read_points(tmp_path / "t.csv")
    assert str(refused.value).startswith(str(tmp_path))


def test_both_forms_of_a_trace_say_the_same(tmp_path):
    (tmp_path / "one.csv").write_text("0 s,1 Gbit/s\n1 s,0 bit/s\n3 s,8 Mbit/s\n")
    (tmp_path / "two.csv").write_text("0 s,1 s,1 Gbit/s\n1 s,3 s,0 bit/s\n3 s,4 s,8 Mbit/s\n")
    assert read_points(tmp_path / "one.csv") == read_points(tmp_path / "two.csv")
