"""The command line: output held word for word, files, one-line errors, sweeps that resume."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from simulator import points as points_module
from simulator import sweep as sweep_module
from simulator.cli import main
from toolkit.__main__ import main as toolkit_main
from toolkit.errors import UserError
from toolkit.trace import RankSteps, read_run, summarize
from toolkit.trace.chrome import DEVICES, LINKS

CLUSTERS = Path(__file__).resolve().parents[3] / "exp_configs" / "clusters"
CONTRACT = ["schema", "seed", "workers", "steps", "total_time_s", "iteration_time_s", "samples_per_s"]
CONTRACT += ["bytes_sent_per_worker", "time_share", "phases", "events", "simulation"]

GOLDEN = """\
                               resnet20, topk, simulated
┏━━━━━━━━━┳━━━━━━━━━━━━━━━━━┳━━━━━━━┳━━━━━━━━━━┳━━━━━━━━━━━┳━━━━━━━━━━━┳━━━━━━━━━━━━━━━┓
┃ workers ┃            link ┃ steps ┃    total ┃ iteration ┃ samples/s ┃ sent a worker ┃
┡━━━━━━━━━╇━━━━━━━━━━━━━━━━━╇━━━━━━━╇━━━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━━━━━━━━┩
│       4 │ 1 Gbit/s, 50 us │     6 │ 114.7 ms │  19.11 ms │      6698 │    0.03564 MB │
└─────────┴─────────────────┴───────┴──────────┴───────────┴───────────┴───────────────┘
time: compute 95.1%, compress 0.8%, communicate 2.2%, optimize 0.4%, checkpoint 0.0%, idle 1.6%
profile: measured; allgather: bruck; engine: fast (exact here: BSP, exchanges one at a time on idle links)
"""


@pytest.fixture
def files(make_profile, tmp_path):
    make_profile(compute_cv=0.1).save(tmp_path / "profile.json")
    (tmp_path / "small.toml").write_text(
        '[compression]\nname = "topk"\ndensity = 0.1\n[run]\nsteps = 6\n[cluster]\ncycle_time = "100 us"\n'
    )
    return tmp_path


def run(files, *arguments):
    return main(["run", str(files / "small.toml"), "--profile", str(files / "profile.json"), *map(str, arguments)])


def test_result_json_has_the_contracts_keys_and_repeats_to_the_byte(files):
    for name in ("a", "b"):
        assert run(files, "--json", files / f"{name}.json", "--seed", 5) == 0
    assert (files / "a.json").read_bytes() == (files / "b.json").read_bytes()
    result = json.loads((files / "a.json").read_text())
    assert list(result) == CONTRACT
    assert result["seed"] == 5
    assert sum(result["time_share"].values()) == pytest.approx(1.0)


def test_output_word_for_word(files, make_profile, capsys):
    make_profile().save(
        files / "profile.json"
    )  # without chance, so that no random generator is part of the golden text
    assert run(files) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == GOLDEN.splitlines()


def test_trace_folder_is_read_like_a_real_run(files):
    assert run(files, "--trace", files / "out", "--json", files / "r.json") == 0
    header, ranks = read_run(files / "out")
    assert (header["workers"], header["model"], len(ranks)) == (4, "resnet20", 4)
    result = json.loads((files / "r.json").read_text())
    folded = summarize([RankSteps.of(spans) for spans in ranks], seed=1, samples=6 * 4 * 32)
    assert folded.total_time_s == pytest.approx(result["total_time_s"], rel=1e-6)
    assert folded.bytes_sent_per_worker == result["bytes_sent_per_worker"]


def test_chrome_trace_and_plot(files):
    assert run(files, "--trace", files / "chrome.json", "--plot", files / "run.png") == 0
    events = json.loads((files / "chrome.json").read_text())["traceEvents"]
    assert {event["pid"] for event in events} == {0, 1, 2, 3, DEVICES, LINKS}
    links = {event["args"]["name"] for event in events if event["ph"] == "M" and event["pid"] == LINKS}
    assert links == {"links", *(f"link of host{host}" for host in range(4))}
    assert (files / "run.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "cluster.workers=0"], "[cluster] workers = 0"),
        (["--set", "cluster.bandwith=1 Gbit/s"], "did you mean 'bandwidth'"),
        (["--set", "cluster.device=a1000"], "did you mean 'a100'"),
        (["--set", "model.name=lenet"], "the profile is of 'resnet20'"),
        (["--engine", "fast", "--trace", "t.json"], "--engine fast: a trace is asked for"),
        (["--json", "/nowhere/r.json"], "/nowhere/r.json: cannot be written"),
        (["--seed", "-1"], "--seed -1"),
        (["--on-host"], "no network of the measured host"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(files, capsys, arguments, message):
    assert run(files, *arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_as_a_module(files):
    command = [sys.executable, "-m", "simulator", "run", str(files / "none.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {files}/none.toml: no such experiment file\n"


def sweep(files, *arguments):
    file, profile = files / "small.toml", files / "profile.json"
    return main(["sweep", str(file), "--profile", str(profile), *map(str, arguments)])


GRID = ["--over", "cluster.workers=2,4,8", "--over", "cluster.bandwidth=100 Mbit/s, 1 Gbit/s"]


def test_sweep_writes_every_point_and_its_figure(files, capsys):
    assert sweep(files, *GRID, "--csv", files / "s.csv", "--plot", files / "s.png") == 0
    lines = (files / "s.csv").read_text().splitlines()
    assert len(lines) == 7
    assert lines[1].startswith("2,100 Mbit/s,")
    assert lines[6].startswith("8,1 Gbit/s,")
    assert (files / "s.png").read_bytes().startswith(b"\x89PNG")
    assert "6 simulated points" in capsys.readouterr().out


def test_a_killed_sweep_goes_on_and_ends_with_the_same_csv(files, monkeypatch):
    assert sweep(files, *GRID, "--csv", files / "whole.csv") == 0
    real, calls = points_module.simulate, []

    def killed(*args, **kwargs):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(points_module, "simulate", killed)
    with pytest.raises(KeyboardInterrupt):
        sweep(files, *GRID, "--csv", files / "part.csv")
    assert not (files / "part.csv").exists()
    with (files / "part.csv.part").open("a") as file:
        file.write("8,100 Mbi")  # a line that the kill cut off
    assert sweep(files, *GRID, "--csv", files / "part.csv") == 0
    assert len(calls) == 4 + 3  # three points were there
    assert (files / "part.csv").read_bytes() == (files / "whole.csv").read_bytes()


def test_a_changed_experiment_takes_no_old_rows(files):
    csv = files / "s.csv"
    assert sweep(files, *GRID, "--csv", csv) == 0
    before = csv.read_text()
    assert sweep(files, *GRID, "--set", "compression.density=0.5", "--csv", csv) == 0
    assert csv.read_text() != before


def test_a_knob_without_effect_is_named(files, capsys):
    assert sweep(files, "--over", "cluster.local_bandwidth=1 GB/s,2 GB/s", "--over", "cluster.workers=2,4") == 0
    out = capsys.readouterr().out
    assert "no effect: cluster.local_bandwidth" in out
    assert "no effect: cluster.workers" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--over", "cluster.workers"], "write section.key=A,B"),
        (["--over", "workers=1,2"], "write section.key=A,B"),
        (["--over", "cluster.workers=1,,2"], "write section.key=A,B"),
        (["--over", "cluster.workers=1,x"], "[cluster] workers = 'x'"),
        (["--over", "run.steps=1", "--over", "run.steps=2"], "a key is given twice"),
    ],
)
def test_a_bad_grid_is_refused(files, capsys, arguments, message):
    assert sweep(files, *arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a.b=4..64x2", ["4", "8", "16", "32", "64"]),
        ("a.b=4..11+3, 20", ["4", "7", "10", "20"]),
        ("a.b=1 Gbit/s", ["1 Gbit/s"]),
    ],
)
def test_lists_and_ranges(text, values):
    assert sweep_module.parse_axis(text) == ("a.b", values)


@pytest.mark.parametrize("text", ["a.b=8..4+1", "a.b=4..64x1", "a.b=0..8x2", "a.b=1..9999999+1"])
def test_a_range_that_does_not_rise_is_refused(text):
    with pytest.raises(UserError, match="a range rises"):
        sweep_module.parse_axis(text)


def test_seeds_give_a_mean_and_its_interval(files):
    assert sweep(files, "--over", "cluster.workers=4", "--seeds", 5, "--csv", files / "s.csv") == 0
    times = []
    for seed in range(1, 6):
        assert run(files, "--seed", seed, "--json", files / "r.json") == 0
        times.append(json.loads((files / "r.json").read_text())["iteration_time_s"]["mean"])
    header, row = ((files / "s.csv").read_text().splitlines())[:2]
    found = dict(zip(header.split(","), row.split(","), strict=True))
    assert float(found["iteration_time_s"]) == pytest.approx(sum(times) / 5)
    deviation = (sum((time - sum(times) / 5) ** 2 for time in times) / 4) ** 0.5
    assert float(found["iteration_ci95_s"]) == pytest.approx(2.7764 * deviation / 5**0.5, rel=1e-4)


@pytest.mark.parametrize("path", sorted(CLUSTERS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_cluster_file_runs(path, capsys):
    assert main(["run", str(CLUSTERS.parent / "resnet50.toml"), "--cluster", str(path), "--set", "run.steps=3"]) == 0
    assert "resnet50" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[cluster]\nworker = 3\n", "did you mean 'workers'"),
        ("[run]\nsteps = 3\n", "holds [cluster] and no other"),
        ("[cluster\n", "not a cluster file"),
    ],
)
def test_a_bad_cluster_file_is_refused(files, capsys, text, message):
    (files / "cluster.toml").write_text(text)
    assert run(files, "--cluster", files / "cluster.toml") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith(f"error: {files}/cluster.toml:")


def test_what_is_set_comes_after_the_cluster_file(files):
    (files / "cluster.toml").write_text('[cluster]\nworkers = 7\nbandwidth = "10 Mbit/s"\n')
    arguments = ["--cluster", files / "cluster.toml", "--set", "cluster.workers=3", "--json", files / "r.json"]
    assert run(files, *arguments) == 0
    assert json.loads((files / "r.json").read_text())["workers"] == 3


def test_a_derived_profile_says_what_it_assumes(capsys):
    folder = CLUSTERS.parent
    assert main(["run", str(folder / "resnet20.toml"), "--set", "data.name=digits", "--set", "run.steps=2"]) == 0
    assert "are those of 'cifar10' inputs, the experiment trains on 'digits'" in capsys.readouterr().out
    assert main(["run", str(folder / "gpt.toml"), "--set", "model.hidden=512"]) == 2
    assert "[model] hidden = 512" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((CLUSTERS.parent / "scenarios").glob("*.toml")), ids=lambda path: path.stem)
def test_every_scenario_file_costs_time(files, path):
    seconds = []
    for more in ([], ["--scenario", path]):
        arguments = ["--set", "run.steps=40", "--set", "compression.name=none", "--set", "cluster.bandwidth=1 Mbit/s"]
        assert run(files, *arguments, *more, "--json", files / "r.json") == 0
        seconds.append(json.loads((files / "r.json").read_text())["total_time_s"])
    assert seconds[1] != seconds[0]


def test_a_sweep_under_another_scenario_takes_no_old_rows(files):
    scenario, csv = files / "scenario.toml", files / "s.csv"
    times = []
    for factor in (2, 5):
        scenario.write_text(f"[[slow_worker]]\nworker = 1\nfactor = {factor}\n")
        assert sweep(files, "--over", "cluster.workers=2,4", "--scenario", scenario, "--csv", csv) == 0
        times.append(float(csv.read_text().splitlines()[1].split(",")[1]))
    assert times[1] > 1.5 * times[0]


def test_the_timeline_of_flows_has_a_track_a_link(files, capsys):
    """Each byte that goes over a host's link stands on its track, and no two spans of a track overlap."""
    assert run(files, "--engine", "flows", "--trace", files / "chrome.json", "--json", files / "r.json") == 0
    result = json.loads((files / "r.json").read_text())
    events = json.loads((files / "chrome.json").read_text())["traceEvents"]
    names = {
        e["tid"]: e["args"]["name"]
        for e in events
        if e["ph"] == "M" and e["pid"] == LINKS and e["name"] == "thread_name"
    }
    carried = [e for e in events if e["ph"] == "X" and e["pid"] == LINKS]
    out = sum(e["args"]["bytes"] for e in carried if names[e["tid"]].endswith(" out"))
    assert out == pytest.approx(4 * result["simulation"]["wire_bytes_per_worker"], rel=1e-3)
    for track in names:
        own = sorted((e["ts"], e["ts"] + e["dur"]) for e in carried if e["tid"] == track)
        assert all(after[0] >= before[1] - 1e-6 for before, after in itertools.pairwise(own))


def test_a_traces_folder_becomes_a_timeline(files, capsys):
    assert run(files, "--trace", files / "folder") == 0
    assert toolkit_main(["timeline", str(files / "folder"), "--out", str(files / "t.json")]) == 0
    assert "of 4 workers" in capsys.readouterr().out
    pids = {event["pid"] for event in json.loads((files / "t.json").read_text())["traceEvents"]}
    assert pids == {0, 1, 2, 3, DEVICES, LINKS}
    assert toolkit_main(["timeline", str(files / "nothing"), "--out", str(files / "t.json")]) == 2


def test_a_knob_that_turns_nothing_is_named(files, capsys):
    knobs = ["compression.stages=3", "cluster.bandwidth=10 Mbit/s", "cluster.site_latency=1 s"]
    assert run(files, *(word for knob in knobs for word in ("--set", knob)), "--json", files / "r.json") == 0
    said = ["no effect: compression.stages=3 changes nothing", "no effect: cluster.site_latency=1 s changes nothing"]
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("no effect")] == said
    assert json.loads((files / "r.json").read_text())["simulation"]["without_effect"] == said


def test_a_bad_value_anywhere_in_a_grid_leaves_no_file(files, capsys):
    csv = files / "bad.csv"
    assert sweep(files, "--over", "compression.name=none,topk,topq", "--csv", csv) == 2
    assert "did you mean 'topk'?" in capsys.readouterr().err
    assert list(files.glob("bad.csv*")) == []
