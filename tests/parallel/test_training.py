"""What a training run must be, whoever runs it: the same on more workers, repeatable, fair to every example."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytestmark = [pytest.mark.parallel, pytest.mark.timeout(300)]


def test_four_workers_equal_one_with_the_whole_batch(train):
    four = train(4, name="four")
    one = train(1, "data.batch_size=64", name="one")
    # Data is dealt out round robin, so a step sees the same 64 examples; only the order of the sums differs.
    np.testing.assert_allclose(four["training"]["losses"], one["training"]["losses"], rtol=1e-4)
    assert four["training"]["losses"][-1] < four["training"]["losses"][0]


def test_accumulation_equals_a_larger_batch(train):
    whole = train(2, "data.batch_size=32", name="whole")
    parts = train(2, "data.batch_size=8", "pipeline.accumulation=4", name="parts")
    np.testing.assert_allclose(parts["training"]["losses"], whole["training"]["losses"], rtol=1e-4)


@pytest.mark.parametrize("compressor", ["none", "fp16", "bf16", "topk", "powersgd"])
def test_workers_that_run_out_of_data_do_not_hang(train, compressor):
    # 1437 examples on 4 ranks are shards of 360, 359, 359, 359: in each second step only rank 0 has an example.
    name = f"compression.name={compressor}"
    result = train(4, name, "data.batch_size=359", "run.steps=4", name=compressor)
    assert result["steps"] == 4
    assert all(loss > 0 for loss in result["training"]["losses"])


def test_the_same_seed_gives_the_same_run(train):
    settings = ("compression.name=sidco-e", "compression.granularity=model")
    first, second = (train(4, *settings, name=name) for name in ("first", "second"))
    assert first["training"] == second["training"]
    other = train(4, *settings, "run.seed=2", name="other")
    assert other["training"]["losses"] != first["training"]["losses"]


def test_top_k_of_everything_is_dense_training(train):
    dense = train(2, name="dense")
    whole = train(2, "compression.name=topk", "compression.density=1.0", name="whole")
    np.testing.assert_allclose(whole["training"]["losses"], dense["training"]["losses"], rtol=1e-5)
    assert whole["bytes_sent_per_worker"] == dense["bytes_sent_per_worker"]


def test_result_has_the_keys_of_the_contract(train, tmp_path):
    result = train(2, "compression.name=topk", name="run")
    contract = ("schema", "seed", "workers", "steps", "total_time_s", "iteration_time_s", "samples_per_s")
    contract += ("bytes_sent_per_worker", "phases", "time_share", "events")
    assert set(contract) <= result.keys()
    assert sum(result["time_share"].values()) == pytest.approx(1.0)
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files >= {"config.toml", "environment.json", "trace", "result.json", "model.safetensors"}
    environment = json.loads((tmp_path / "run/environment.json").read_text())
    assert environment["packages"]["torch"]
