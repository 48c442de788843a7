"""Learning in simulated time: BSP is large-batch SGD, one worker is one worker, staleness is felt, runs repeat."""

import json

import pytest

from toolkit.errors import UserError

torch = pytest.importorskip("torch")


def by_hand(workers, steps, learning_rate=0.05, momentum=0.9, batch=16):
    """Losses of plain SGD on the union of all workers' batches."""
    from toolkit import data, models
    from toolkit.experiment import parse
    from toolkit.sampler import ShardedSampler

    experiment = parse({"model": {"name": "fcn5", "hidden": 32}, "data": {"name": "digits"}}, "test")
    torch.manual_seed(1)
    task = data.load_task(experiment.data, 1)
    model = models.build(experiment.model, task)
    sampler = ShardedSampler(len(task.train), workers, batch, 1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=momentum)
    losses = []
    for step in range(steps):
        indices = torch.cat([sampler.indices(step, 0, rank) for rank in range(workers)])
        inputs, targets = task.train.batch(indices, sampler.generator(step, 0, 0))
        optimizer.zero_grad()
        loss = models.loss(task.kind, model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("workers", [1, 4])
def test_bsp_is_sgd_on_the_union_of_the_batches(learned, workers):
    result = learned(cluster={"workers": workers}, run={"steps": 30})
    assert result["training"]["losses"] == pytest.approx(by_hand(workers, 30), rel=1e-4)


@pytest.mark.parametrize("compressor", ["none", "topk", "sidco-e"])
@pytest.mark.parametrize("policy", ["asp", "ssp"])
def test_one_worker_learns_alike_under_every_policy(learned, compressor, policy):
    def losses(**sync):
        run = learned(cluster={"workers": 1}, compression={"name": compressor}, sync=sync, run={"steps": 20})
        return run["training"]["losses"]

    assert losses(policy=policy, staleness=0) == pytest.approx(losses(policy="bsp"), rel=1e-5)


def test_everything_sent_is_dense_training(learned):
    dense = learned(run={"steps": 20})["training"]["losses"]
    whole = learned(compression={"name": "topk", "density": 1.0}, run={"steps": 20})["training"]["losses"]
    assert whole == pytest.approx(dense, rel=1e-5)


@pytest.mark.parametrize("compressor", ["topk", "powersgd"])
def test_compressed_bsp_learns(learned, compressor):
    result = learned(compression={"name": compressor, "density": 0.2}, run={"steps": 60})
    assert result["training"]["accuracy"] > 0.8


def test_asp_is_stale_and_learns_all_the_same(learned):
    asp = learned(0.3, sync={"policy": "asp"}, run={"steps": 60, "evaluate_every": 20})
    assert asp["sync"]["staleness"]["mean"] == pytest.approx(3, abs=0.5)
    assert len(asp["training"]["losses"]) == 240
    assert asp["training"]["accuracy"] > 0.8
    tests = asp["training"]["evaluations"]
    assert [row["step"] for row in tests] == [20, 40, 60]
    times = [row["time_s"] for row in tests]
    assert times == sorted(times)
    assert times[-1] == asp["total_time_s"]


def test_a_switched_run_begins_as_bsp_and_goes_on_from_there(learned):
    bsp = learned(run={"steps": 10})["training"]["losses"]
    switched = learned(sync={"policy": "switch", "switch_at": 0.5}, run={"steps": 10})
    assert switched["training"]["losses"][:5] == bsp[:5]
    assert [(row["name"], row["steps"]) for row in switched["phases"]] == [("bsp", 5), ("asp", 20)]
    assert switched["training"]["losses"][5] < bsp[0]


def test_sparse_optimizers_take_lists(learned):
    dense = learned(compression={"name": "topk"}, optimizer={"name": "sgd", "momentum": 0.0}, run={"steps": 20})
    sparse = learned(compression={"name": "topk"}, optimizer={"name": "sparse-sgd", "momentum": 0.0}, run={"steps": 20})
    assert sparse["training"]["losses"] == pytest.approx(dense["training"]["losses"], rel=1e-4)


def test_runs_repeat_and_seeds_differ(learned):
    settings = {"sync": {"policy": "ssp", "staleness": 1}, "compression": {"name": "sidco-e"}}
    assert learned(0.3, **settings) == learned(0.3, **settings)
    other = learned(0.3, **settings, run={"seed": 2})
    assert other["training"]["losses"] != learned(0.3, **settings)["training"]["losses"]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"compression": {"name": "topk", "exchange": "gtopk"}}, "exchange = 'gtopk': learning knows auto, allgather"),
        ({"compression": {"name": "topk", "wire_values": "bf16"}}, "wire_values = 'bf16': learning knows fp32"),
        ({"compression": {"name": "randomk"}, "sync": {"policy": "asp"}}, "needs policy = 'bsp'"),
        ({"faults": {"traffic": [{"source": 0, "target": 1}]}, "sync": {"policy": "asp"}}, "other traffic"),
    ],
)
def test_what_it_does_not_know_is_refused(learned, sections, message):
    with pytest.raises(UserError, match=message):
        learned(**sections)


def test_the_command_line_learns_with_a_network_of_any_size(tmp_path, capsys):
    from simulator.cli import main

    out, plot = tmp_path / "out.json", tmp_path / "out.png"
    asked = ["learn", "tests/parallel/small.toml", "--set", "sync.policy=asp", "--seeds", "2"]
    assert main([*asked, "--json", str(out), "--plot", str(plot)]) == 0
    assert "4 virtual workers" in capsys.readouterr().out
    runs = json.loads(out.read_text())["runs"]
    assert [run["seed"] for run in runs] == [1, 2]
    assert runs[0]["training"]["parameters"] == 3498 - 32
    assert plot.stat().st_size > 5000


def test_tune_searches_the_switch(tmp_path, capsys):
    from simulator.cli import main

    out = tmp_path / "out.json"
    asked = ["tune", "tests/parallel/small.toml", "--over", "sync.switch_at=search", "--json", str(out)]
    assert main([*asked, "--runs", "2", "--settings", "3", "--tolerance", "1.0"]) == 0
    assert "found: [sync] switch_at = 0.125" in capsys.readouterr().out
    book = json.loads(out.read_text())
    assert [trial["share"] for trial in book["state"]["trials"]] == [1.0, 0.5, 0.25, 0.125]
    seconds = [sum(time for _, time in trial["outcomes"]) / 2 for trial in book["state"]["trials"]]
    assert book["found"]["cost_bsp_runs"] == pytest.approx(2 * sum(seconds) / seconds[0])
