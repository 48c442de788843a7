"""Profiles: written and read back equal, refused with file and key; derived ones follow their formula."""

import json

import pytest

from simulator.compute import derive, examples_of, memory_costs
from simulator.profile import NetworkFit, Profile
from toolkit import registry
from toolkit.errors import UserError
from toolkit.policies.devices import load_device, read_network


def test_round_trip(make_profile, tmp_path):
    profile = make_profile(network=NetworkFit(1e-5, 1e9, 1e-3, 2e-4), host={"cores": 2}, fits={"data_s": {"n": 3}})
    profile.save(tmp_path / "p.json")
    assert Profile.load(tmp_path / "p.json") == profile
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]


def change(document, path, value):
    *parents, last = path
    for key in parents:
        document = document[key]
    if value is KeyError:
        del document[last]
    else:
        document[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["schema"], "sandtable-profile/9", r"schema = 'sandtable-profile/9': 'sandtable-profile/1' is wanted"),
        (["layers"], [], r"layers = \[\]: a list with at least one layer"),
        (["layers", 1, "forward_s"], -1.0, r"layers\[1\].forward_s = -1.0: a finite number >= 0"),
        (["layers", 0, "elements"], 0, r"layers\[0\].elements = 0: a whole number >= 1"),
        (["layers", 0, "elements"], True, r"layers\[0\].elements = True"),
        (["data_s"], float("nan"), "data_s = nan"),
        (["model"], "resnet21", "did you mean 'resnet20'"),
        (["model"], KeyError, "model: this key is missing"),
        (["speed"], 1, "speed: unknown key"),
        (["compress", "topk", "cal_s"], 1.0, "cal_s: unknown key; did you mean 'call_s'"),
        (["compress", "topq"], {}, "did you mean 'topk'"),
        (["network", "bandwidth"], 0.0, "network.bandwidth = 0.0: a finite number > 0"),
        (["batch_size"], 0, "batch_size = 0"),
    ],
)
def test_a_damaged_profile_is_refused(make_profile, tmp_path, path, value, message):
    document = make_profile(network=NetworkFit(1e-5, 1e9, 1e-3)).to_json()
    document = json.loads(json.dumps(document))
    change(document, path, value)
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(document))
    with pytest.raises(UserError, match=message) as error:
        Profile.load(file)
    assert str(error.value).startswith(f"{file}:")
    assert "\n" not in str(error.value)


def test_no_profile_and_no_json(tmp_path):
    with pytest.raises(UserError, match="no such profile"):
        Profile.load(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(UserError, match="not a profile"):
        Profile.load(tmp_path / "text.json")


def test_derived_layers_follow_flops_and_rate(tmp_path):
    (tmp_path / "lenet.csv").write_text(
        "# network=lenet\ntensor,module,shape,elements,forward_flops\na,Conv2d,2x3,6,1000000\nb,Conv2d,2,2,0\n"
    )
    device = load_device("v100-32g")
    profile = derive("lenet", 8, 60_000, device, tmp_path)
    forward = 8e6 / (15.7e12 * 0.6) + device.launch_s
    assert [layer.forward_s for layer in profile.layers] == pytest.approx([forward, 0.0])
    assert [layer.backward_s for layer in profile.layers] == pytest.approx([2 * forward, 0.0])
    assert (profile.source, profile.elements, profile.examples) == ("derived", 8, 60_000)


@pytest.mark.parametrize("text", ["tensor,elements\na,3\n", "tensor,elements,forward_flops\na,x,1\n", "# nothing\n"])
def test_a_damaged_layer_table_is_refused(tmp_path, text):
    (tmp_path / "lenet.csv").write_text(text)
    with pytest.raises(UserError, match=r"lenet\.csv"):
        read_network("lenet", tmp_path)


@pytest.mark.parametrize("model", registry.MODELS)
def test_every_network_has_a_layer_table(model):
    rows = read_network(model)
    assert sum(elements for _, elements, _ in rows) > 1000
    assert sum(flops for *_, flops in rows) > 0


def test_every_name_has_a_derived_cost():
    compress, merge, optimize = memory_costs(load_device("cpu-core"))
    assert compress.keys() == registry.COMPRESSORS.keys()
    assert optimize.keys() == registry.OPTIMIZERS.keys()
    assert merge.keys() == {"dense", "sparse"}
    assert all(cost.seconds(1000, 10) > 0 for table in (compress, merge, optimize) for cost in table.values())


def test_every_data_set_has_a_size():
    assert all(examples_of(name, 64) > 0 for name in registry.DATASETS)


def test_an_unknown_device_is_refused():
    with pytest.raises(UserError, match="did you mean 'a100'"):
        load_device("a1000")


def test_a_derived_optimizer_pays_for_what_it_touches():
    optimize = memory_costs(load_device("cpu-core"))[2]
    for name, cost in optimize.items():
        sparse = name.startswith("sparse")
        assert (cost.element_s == 0, cost.entry_s > 0) == (sparse, sparse), name
