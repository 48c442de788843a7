"""What the testbed makes of an experiment and its options; nothing here needs root."""

import os

import pytest

from toolkit.errors import UserError
from toolkit.experiment import dump, load
from toolkit.sections.cluster import ClusterSection
from toolkit.testbed import batch
from toolkit.testbed import main as testbed
from toolkit.testbed.hosts import Link, Testbed, queue_bytes
from toolkit.testbed.launch import mpirun_command, pinned


@pytest.fixture
def experiment_file(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text('[cluster]\nworkers = 4\nbandwidth = "200 Mbit/s"\n')
    return path


def links(file, *words):
    args = testbed.arguments([*words[: words.index("--")], "--", str(file), *words[words.index("--") + 1 :]])
    overrides = testbed.cluster_overrides(args)
    experiment = load(file, [*overrides, *testbed.given_overrides(args.train)])
    return testbed.links_of(experiment, 0.0), overrides


def test_the_file_says_what_the_cluster_is(experiment_file):
    assert links(experiment_file, "--")[0] == [Link(25e6)] * 4


def test_options_override_the_file_for_run_and_links_alike(experiment_file):
    shaped, overrides = links(experiment_file, "--hosts", "2", "--workers-per-host", "3", "--rate", "1 Gbit/s", "--")
    assert shaped == [Link(125e6)] * 2
    assert overrides == ["cluster.workers_per_host=3", "cluster.workers=6", "cluster.bandwidth=1 Gbit/s"]


def test_arguments_of_train_come_last_and_win(experiment_file):
    shaped, _ = links(experiment_file, "--hosts", "2", "--", "--set", "cluster.workers=3", "--out", "o")
    assert shaped == [Link(25e6)] * 3


def test_a_slow_link_is_shaped_as_the_file_says(experiment_file):
    slow = 'faults.slow_link=[{host=1,bandwidth="50 Mbit/s"}]'
    assert links(experiment_file, "--", "--set", slow)[0] == [Link(25e6), Link(6.25e6), Link(25e6), Link(25e6)]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--hosts", "0"], "--hosts 0: a whole number >= 1"),
        (["--rate", "fast"], "--rate = 'fast'"),
        (["--latency", "3"], "--latency = '3'"),
    ],
)
def test_bad_options_are_refused(experiment_file, words, reason):
    with pytest.raises(UserError, match=reason):
        links(experiment_file, *words, "--")


def test_what_cannot_be_emulated_is_refused(experiment_file):
    experiment = load(experiment_file, ["faults.traffic=[{source=0,target=1}]"])
    with pytest.raises(UserError, match="traffic: the testbed emulates"):
        testbed.check_emulated(experiment, "x")


def test_without_root_it_says_so_and_ends_with_3(experiment_file, monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert testbed.main(["--", str(experiment_file)]) == 3
    assert "need root" in capsys.readouterr().err


def test_mpi_is_told_the_algorithms_that_the_cluster_sets():
    assert pinned(ClusterSection()) == {}
    chosen = pinned(ClusterSection(allreduce="ring", allgather="bruck"))
    assert chosen["coll_tuned_allreduce_algorithm"] == "4"
    assert chosen["coll_tuned_allgatherv_algorithm"] == "2"
    with pytest.raises(UserError, match="allreduce = 'parameter-server'"):
        pinned(ClusterSection(allreduce="parameter-server"))


def test_ranks_are_placed_host_by_host():
    command = mpirun_command(Testbed([Link(1e6)] * 2), ClusterSection(workers=4, workers_per_host=2))
    assert command[:2] == ["-np", "4"]
    assert command[command.index("--host") + 1] == "10.77.0.1:2,10.77.0.2:2"


def test_buckets_and_queues_grow_with_the_rate():
    slow, fast = Link(6.25e6), Link(125e6)
    assert slow.burst < fast.burst == 125_000
    assert queue_bytes(slow) >= 12_500_000 * slow.rate / 6.25e6


def listed(tmp_path, text):
    (tmp_path / "x.toml").write_text("")
    path = tmp_path / "list.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"\[\[run\]\] tables"),
        ('[[run]]\nname = "a"', "name and file are wanted"),
        ('[[run]]\nname = "a"\nfile = "x.toml"\nfitt = true', "fitt = True: allowed are"),
        ('[[run]]\nname = "a"\nfile = "x.toml"\n[[run]]\nname = "a"\nfile = "x.toml"', "a name of its own"),
        ('[[run]]\nname = "a"\nfile = "x.toml"\nset = ["run.stepps=1"]', "did you mean 'steps'"),
    ],
)
def test_bad_lists_are_refused_before_anything_runs(tmp_path, text, reason):
    with pytest.raises(UserError, match=reason):
        batch.read_list(listed(tmp_path, text))


def test_finished_runs_of_the_same_experiment_are_kept(tmp_path, monkeypatch):
    path = listed(tmp_path, '[[run]]\nname = "a"\nfile = "x.toml"\n[[run]]\nname = "b"\nfile = "x.toml"\nfit = true\n')
    ran = []

    def train(words):
        out = tmp_path / "runs" / words[words.index("--out") + 1].rpartition("/")[2]
        out.mkdir(parents=True)
        (out / "result.json").write_text("{}")
        (out / "config.toml").write_text(dump(load(tmp_path / "x.toml")))
        ran.append(out.name)
        return 0

    monkeypatch.setattr(testbed, "main", train)
    words = [str(path), "--out", str(tmp_path / "runs")]
    assert batch.main(words) == 0
    assert batch.main(words) == 0
    assert ran == ["a", "b"]
    (tmp_path / "x.toml").write_text("[run]\nsteps = 7\n")
    assert not batch.kept(batch.read_list(path)[0], tmp_path / "runs" / "a")


def test_the_list_of_the_fidelity_study_is_lawful_and_large_enough():
    runs = batch.read_list(testbed.SCRIPTS.parent / "exp_configs" / "fidelity" / "runs.toml")
    held_out = [run.experiment() for run in runs if not run.fit]
    assert len(held_out) >= 24
    assert {e.model.name for e in held_out} >= {"resnet20", "charlstm", "vgg16"}
    assert {e.compression.name for e in held_out} >= {"none", "topk", "sidco-e"}
    assert {e.compression.density for e in held_out} >= {0.1, 0.01, 0.001}
    assert any(e.faults.slow_worker for e in held_out)
    assert any(e.faults.slow_link for e in held_out)
    assert all(e.run.compute == "paced" for e in held_out)
