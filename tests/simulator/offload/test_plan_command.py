"""`python -m simulator plan`: the published model, a machine and a profile of one's own, bad input."""

import json

import pytest

from simulator.cli import main
from simulator.offload.measured import reached_flops
from simulator.profile import Layer, Profile
from toolkit.errors import UserError

FILE = "exp_configs/gpt_1.7b.toml"
MACHINE = """
[h100]
memory = "16 GiB"
reserved = "1 GiB"
half_flops = 1e14
half_efficiency = 0.5
reached_flops = 2e13
to_device = "20 GB/s"
to_host = "20 GB/s"
cores = 8
host_memory = "64 GiB"
host_memory_bandwidth = "50 GB/s"
disk = "1 TB"
disk_read = "3 GB/s"
disk_write = "3 GB/s"
"""


def plan(tmp_path, *more):
    out = tmp_path / "plan.json"
    assert main(["plan", FILE, *more, "--json", str(out)]) == 0
    return json.loads(out.read_text())


def test_the_published_model_on_the_published_machine(tmp_path, capsys):
    found = plan(tmp_path, "--set", "cluster.device=v100-32g")
    rows = {row["method"]: row for row in found["methods"]}
    assert list(rows) == ["megatron-lm", "l2l", "zero-offload", "zero-infinity", "stronghold"]
    published = {"megatron-lm": 32, "l2l": 78, "zero-offload": 48, "zero-infinity": 48}
    for method, layers in published.items():
        assert abs(rows[method]["largest_layers"] - layers) <= 4
        assert rows[method]["fits"]
        assert rows[method]["window"] is None
    best = rows["stronghold"]
    assert best["largest_layers"] >= 100
    assert best["window"] >= 15
    assert best["iteration_time_s"] < 5.96
    assert best["not_hidden"] == ["rate of updating"]
    assert 0.01 < best["relative_error"] < 0.10
    what_if = {(row["variant"], row["method"]): row for row in found["counterfactuals"]}
    assert what_if["fused CPU Adam", "zero-offload"]["iteration_time_s"] < rows["zero-offload"]["iteration_time_s"]
    assert what_if["bf16", "zero-offload"]["largest_layers"] > rows["zero-offload"]["largest_layers"]
    assert what_if["NVMe tier", "stronghold"]["largest_layers"] > best["largest_layers"]
    assert what_if["NVMe tier", "zero-infinity"]["iteration_time_s"] > rows["zero-infinity"]["iteration_time_s"]
    text = capsys.readouterr().out
    assert "megatron-lm holds this model" in text
    assert "the published rule would take window 3 for stronghold; rate of updating" in text
    assert all(method in text for method in rows)


def test_an_iteration_is_drawn(tmp_path, capsys):
    picture = tmp_path / "lanes.png"
    asked = ["--set", "model.layers=12", "--set", "offload.method=stronghold", "--set", "offload.window=2"]
    assert main(["plan", FILE, *asked, "--plot", str(picture)]) == 0
    assert picture.stat().st_size > 10_000
    assert main(["plan", FILE, "--set", "model.layers=200", "--plot", str(picture)]) == 2
    assert "megatron-lm does not hold this model" in capsys.readouterr().err


def test_what_fits_nowhere_says_why(tmp_path, capsys):
    found = plan(tmp_path, "--set", "model.layers=200", "--set", "offload.method=stronghold")
    assert not any(row["fits"] for row in found["methods"])
    assert all("out of memory" in row["why_not"] for row in found["methods"])
    assert "stronghold does not hold this model; no method does" in capsys.readouterr().out


def test_with_a_fused_optimizer_rule_and_simulation_agree(tmp_path, capsys):
    row = plan(tmp_path, "--set", "offload.optimizer=fused")["methods"][-1]
    assert row["window"] == row["policy_window"] == 2
    assert row["not_hidden"] == []
    assert "hides all that moves" in capsys.readouterr().out


def test_a_given_window_is_kept(tmp_path):
    found = plan(tmp_path, "--set", "offload.window=4")
    row = found["methods"][-1]
    assert (row["window"], row["largest_window"], row["largest_layers"]) == (4, 4, 102)


def test_machines_of_one_s_own(tmp_path, capsys):
    file = tmp_path / "machines.toml"
    file.write_text(MACHINE)
    found = plan(tmp_path, "--machines", str(file), "--set", "cluster.device=h100")
    assert found["machine"]["memory"] == 16 * 2**30
    assert found["machine"]["flops"] == 2e13
    assert "errors were measured on v100-32g" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('memory = "16 GiB"', "memory = 16", "[h100] memory = 16: a size is written like"),
        ("cores = 8", "cores = 0", "[h100] cores = 0: a number > 0 is wanted"),
        ("cores = 8", "", "[h100] cores: this key is missing"),
        ("cores = 8", "cores = 8\nspeed = 1", "[h100] speed: unknown key"),
        ("[h100]", "[h100", "not a file of machines"),
        ("[h100]", "[h200]", "cluster] device = 'h100': allowed are h200"),
    ],
)
def test_a_bad_machine_is_refused(tmp_path, capsys, old, new, words):
    file = tmp_path / "machines.toml"
    file.write_text(MACHINE.replace(old, new, 1))
    assert main(["plan", FILE, "--machines", str(file), "--set", "cluster.device=h100"]) == 2
    text = capsys.readouterr().err
    assert words in text
    assert text.count("\n") == 1


def test_other_models_are_refused(capsys):
    assert main(["plan", "exp_configs/quickstart.toml", "--set", "cluster.device=t4"]) == 2
    assert "layers are offloaded of 'gpt' only" in capsys.readouterr().err


def measured(**changes):
    shapes = {"token.weight": (98, 64), "position.weight": (32, 64), "blocks.0.qkv.weight": (192, 64)}
    layers = tuple(Layer(name, 1, 0.1, 0.2, shape) for name, shape in shapes.items())
    return Profile(
        **({"model": "gpt", "batch_size": 2, "source": "measured", "examples": 9, "layers": layers} | changes)
    )


def test_a_measured_profile_gives_the_rate(tmp_path):
    tokens = 2 * 32
    forward = 24 * tokens * 64**2 + 4 * tokens * 32 * 64 + 2 * tokens * 64 * 98
    assert reached_flops(measured(), "p.json") == pytest.approx(3 * forward / 0.9)
    with pytest.raises(UserError, match=r"p.json: of 'lenet'"):
        reached_flops(measured(model="lenet"), "p.json")


def test_a_plan_takes_a_profile_s_rate(tmp_path, capsys):
    file = tmp_path / "profile.json"
    measured().save(file)
    found = plan(tmp_path, "--profile", str(file))
    assert found["machine"]["flops"] == pytest.approx(reached_flops(measured(), "p.json"))
    assert any("profile.json measured" in note for note in found["notes"])
    assert main(["plan", FILE, "--profile", str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
