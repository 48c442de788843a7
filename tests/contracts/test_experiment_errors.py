"""Every way to write an experiment file wrongly: one line that names file, section, key, value and what is allowed."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import UserError
from toolkit.experiment import SECTIONS, load, parse

Write = Callable[..., Path]
KEYS = [(section, spec) for section, kind in SECTIONS.items() for spec in dataclasses.fields(kind)]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def file(text: str | bytes) -> Path:
        path = tmp_path / "exp.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return file


def message(path: Path, *overrides: str) -> str:
    """The error of loading this file, which must be one line and begin with the file's name."""
    with pytest.raises(UserError) as caught:
        load(path, overrides)
    text = str(caught.value)
    assert "\n" not in text
    return text


BAD_VALUES = [
    ("compression", "density", "0", "0.0", ["> 0.0", "<= 1.0"]),
    ("compression", "density", "2", "2.0", ["> 0.0", "<= 1.0"]),
    ("compression", "density", "-0.1", "-0.1", ["> 0.0", "<= 1.0"]),
    ("compression", "density", "nan", "nan", ["a finite value", "> 0.0"]),
    ("compression", "density", "inf", "inf", ["a finite value"]),
    ("compression", "density", "true", "True", ["a number is wanted"]),
    ("compression", "density", '"0.1"', "'0.1'", ["a number is wanted"]),
    ("compression", "density", "[0.1]", "[0.1]", ["a number is wanted"]),
    ("compression", "error_feedback", "1", "1", ["true or false"]),
    ("compression", "error_feedback", '"true"', "'true'", ["true or false"]),
    ("compression", "name", '"top-k"', "'top-k'", ["allowed are none", "did you mean 'topk'?"]),
    ("compression", "name", "3", "3", ["a name in quotes", "sidco-e"]),
    ("compression", "granularity", '"layers"', "'layers'", ["layer, merged, model", "did you mean 'layer'?"]),
    ("compression", "exchange", '"allgahter"', "'allgahter'", ["auto, dense", "did you mean 'allgather'?"]),
    ("compression", "threads", "1.0", "1.0", ["a whole number"]),
    ("compression", "merge_elements", "0", "0", [">= 1"]),
    ("compression", "stages", "33", "33", [">= 0", "<= 32"]),
    ("model", "name", '"resnet2O"', "'resnet2O'", ["fcn5, lenet, resnet8, resnet20", "did you mean 'resnet20'?"]),
    ("model", "name", '"zzzzzz"', "'zzzzzz'", ["allowed are fcn5"]),
    ("model", "name", '""', "''", ["allowed are fcn5"]),
    ("model", "name", '"a\\nb"', "'a b'", ["allowed are fcn5"]),  # the line break is taken out
    ("model", "hidden", "-1", "-1", [">= 0"]),
    ("data", "name", '"cifar-10"', "'cifar-10'", ["did you mean 'cifar10'?"]),
    ("data", "root", "5", "5", ["a text in quotes"]),
    ("data", "batch_size", "true", "True", ["a whole number"]),
    ("data", "batch_size", "32.0", "32.0", ["a whole number"]),
    ("data", "batch_size", '"32"', "'32'", ["a whole number"]),
    ("cluster", "workers", "0", "0", [">= 1", "<= 1000000"]),
    ("cluster", "workers", "false", "False", ["a whole number"]),
    ("cluster", "bandwidth", "1000000", "1000000", ["a rate is written like", "200 Mbit/s", "Gbit/s"]),
    ("cluster", "bandwidth", '"1000000"', "'1000000'", ["a rate is written like"]),
    ("cluster", "bandwidth", '"1 GB"', "'1 GB'", ["a rate is written like"]),
    ("cluster", "bandwidth", '"0 Gbit/s"', "'0 B/s'", ["a finite value > '0 B/s'"]),
    ("cluster", "latency", "0.00005", "5e-05", ["a time is written like", "50 us"]),
    ("cluster", "latency", '"-1 us"', "'-1 us'", ["a time is written like"]),
    ("cluster", "cycle_time", '"0 ms"', "'0 s'", ["> '0 s'"]),
    ("optimizer", "milestones", "80", "80", ["a list of numbers"]),
    ("optimizer", "milestones", '[80, "120"]', "[80, '120']", ["a list of numbers"]),
    ("optimizer", "milestones", "[true]", "[True]", ["a list of numbers"]),
    ("optimizer", "milestones", "[80.0, nan]", "(80.0, nan)", ["a finite value"]),
    ("optimizer", "learning_rate", "0", "0.0", ["> 0.0"]),
    ("optimizer", "momentum", "1.5", "1.5", [">= 0.0", "<= 1.0"]),
    ("optimizer", "name", '"adm"', "'adm'", ["sgd, adam", "did you mean 'adam'?"]),
    ("sync", "policy", '"bps"', "'bps'", ["allowed are bsp", "did you mean 'bsp'?"]),
    ("run", "seed", "-1", "-1", [">= 0"]),
    ("run", "steps", "1" + "0" * 400, "1" + "0" * 400, ["a whole number"]),
    ("run", "steps", "1979-05-27", "datetime.date(1979, 5, 27)", ["a whole number"]),
]


@pytest.mark.parametrize(("section", "key", "toml", "shown", "allowed"), BAD_VALUES)
def test_a_bad_value_in_a_file(write: Write, section: str, key: str, toml: str, shown: str, allowed: list[str]) -> None:
    path = write(f"[{section}]\n{key} = {toml}\n")
    text = message(path)
    assert text.startswith(f"{path}: [{section}] {key} = {shown}: ")
    assert all(words in text.split(f"= {shown}: ", 1)[1] for words in allowed), text


@pytest.mark.parametrize(
    ("override", "shown"),
    [
        ("compression.density=2", "[compression] density = 2.0: "),
        ("model.name=resnt20", "[model] name = 'resnt20': "),
        ("model.nmae=lenet", "[model] nmae = 'lenet': "),
        ("cluster.bandwidth=5", "[cluster] bandwidth = 5: "),
        ("modle.name=lenet", "[modle] is not a section"),
        ("a.b.c=1", "[a] is not a section"),
        ("run.steps=", "[run] steps = '': "),
        ("run.error={x = 1}", "[run] error = {'x': 1}: "),
    ],
)
def test_a_bad_override_says_that_it_stands_on_the_command_line(write: Write, override: str, shown: str) -> None:
    path = write('[model]\nname = "lenet"\n')
    assert message(path, override).startswith(f"{path} (--set): {shown}")


@pytest.mark.parametrize(
    "override", ["", "x", "=", "=1", ".a=1", "a.=1", "density=0.1", "compression.density", " . =1"]
)
def test_a_malformed_override(write: Write, override: str) -> None:
    assert message(write(""), override) == f"--set {override}: write section.key=value"


def test_an_override_cannot_hide_that_the_file_is_wrong(write: Write) -> None:
    path = write('model = "lenet"\n')
    assert message(path, "model.name=lenet").startswith(f"{path}: model = 'lenet': [model] is a section, not a key")


@pytest.mark.parametrize(("section", "spec"), KEYS, ids=[f"{s}.{spec.name}" for s, spec in KEYS])
def test_no_key_takes_a_value_of_another_type(write: Write, section: str, spec: dataclasses.Field[Any]) -> None:
    wrong = ["{a = 1}", "[[1]]", "1979-05-27"]
    wrong += ["true"] if not isinstance(spec.default, bool) else ["1", "0"]
    wrong += ['"some text"'] if spec.metadata["unit"] or not isinstance(spec.default, str) else ["1", "1.5"]
    wrong += ["1.5"] if type(spec.default) is int else []
    for toml in wrong:
        path = write(f"[{section}]\n{spec.name} = {toml}\n")
        assert message(path).startswith(f"{path}: [{section}] {spec.name} = "), toml


@pytest.mark.parametrize(("section", "spec"), KEYS, ids=[f"{s}.{spec.name}" for s, spec in KEYS])
def test_a_misspelt_key_names_the_nearest(write: Write, section: str, spec: dataclasses.Field[Any]) -> None:
    misspelt = spec.name + "q"
    path = write(f"[{section}]\n{misspelt} = 1\n")
    text = message(path)
    assert text.startswith(f"{path}: [{section}] {misspelt} = 1: unknown key")
    assert f"did you mean '{spec.name}'?" in text
    assert all(known.name in text for known in dataclasses.fields(SECTIONS[section]))


@pytest.mark.parametrize("section", SECTIONS)
def test_a_misspelt_section_names_the_nearest(write: Write, section: str) -> None:
    path = write(f"[{section}x]\n")
    text = message(path)
    assert text.startswith(f"{path}: [{section}x] is not a section: allowed are {', '.join(SECTIONS)}")
    assert text.endswith(f"did you mean '{section}'?")


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("steps = 5", "steps = 5: a key stands in a section"),
        ('model = "lenet"', "model = 'lenet': [model] is a section, not a key"),
        ("[[model]]\nname = 'lenet'", "model = [{'name': 'lenet'}]: [model] is a section, not a key"),
        ('["mo\\ndel"]', "[mo del] is not a section"),
    ],
)
def test_a_document_of_the_wrong_shape(write: Write, toml: str, words: str) -> None:
    path = write(toml)
    assert message(path).startswith(f"{path}: {words}")


@pytest.mark.parametrize(
    "toml",
    [
        "[model\n",
        "[model]\nname = lenet\n",
        "[model]\nname = 'a'\nname = 'b'\n",
        "[model]\n[model]\n",
        "[run]\nseed = 2026-13-45\n",
        "[run]\nseed = " + "1" * 5000,
        "[run]\nseed = " + "[" * 100_000,
        '[data]\nroot = "\\ud800"\n',
    ],
    ids=["bracket", "bare word", "key twice", "section twice", "date", "digits", "nesting", "surrogate"],
)
def test_a_file_that_is_no_toml(write: Write, toml: str) -> None:
    path = write(toml)
    assert message(path).startswith(f"{path}: not valid TOML: ")


def test_a_syntax_error_names_its_line(write: Write) -> None:
    assert "line 3" in message(write("[model]\nname = 'lenet'\nhidden = = 3\n"))


def test_a_missing_file_a_folder_and_foreign_bytes(write: Write, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere.toml"
    assert message(missing) == f"{missing}: no such experiment file"
    assert message(tmp_path).startswith(f"{tmp_path}: cannot be read: ")
    path = write(b"[data]\nroot = '\xff'\n")
    assert message(path).startswith(f"{path}: cannot be read: ")


@pytest.mark.parametrize(
    ("model", "data", "allowed"),
    [
        ("gpt", "digits", "pysource, ptb"),
        ("lstm", "cifar10", "pysource, ptb"),
        ("charlstm", "imagefolder", "pysource, ptb"),
        ("resnet20", "pysource", "digits, mnist, cifar10, imagefolder"),
        ("fcn5", "ptb", "digits, mnist, cifar10, imagefolder"),
    ],
)
def test_a_network_and_data_of_different_kinds(write: Write, model: str, data: str, allowed: str) -> None:
    path = write(f'[model]\nname = "{model}"\n[data]\nname = "{data}"\n')
    assert message(path) == f"{path}: [data] name = '{data}': '{model}' trains on {allowed}"


def test_powersgd_needs_all_workers_in_a_step(write: Write) -> None:
    text = message(write('[compression]\nname = "powersgd"\n[sync]\npolicy = "asp"\n'))
    assert "name = 'powersgd'" in text
    assert text.endswith("use [sync] policy = 'bsp', not 'asp'")


@pytest.mark.parametrize(
    ("name", "exchange", "wire"),
    [
        ("topk", "dense", "sparse"),
        ("sidco-e", "linear", "sparse"),
        ("none", "allgather", "dense"),
        ("powersgd", "dense", "linear"),
        ("randomk", "gtopk", "linear"),
    ],
)
def test_an_exchange_that_cannot_carry_the_payload(write: Write, name: str, exchange: str, wire: str) -> None:
    path = write(f'[compression]\nname = "{name}"\nexchange = "{exchange}"\n')
    text = message(path)
    allowed = {"dense": "dense", "linear": "linear", "sparse": "allgather, gtopk, oktopk"}[wire]
    said = f"the payloads of '{name}' are {wire}; allowed are auto, {allowed}"
    assert text == f"{path}: [compression] exchange = '{exchange}': {said}"


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[optimizer]\nnesterov = true\nmomentum = 0", "[optimizer] nesterov = true: needs momentum > 0"),
        ("[compression]\nnesterov = true", "[compression] nesterov = true: needs [compression] momentum > 0"),
        (
            "[compression]\nmomentum = 0.9",
            "[compression] momentum = 0.9: would be applied twice; use sgd or sparse-sgd",
        ),
        (
            "[compression]\nmomentum = 0.9\nerror_feedback = false\n[optimizer]\nmomentum = 0",
            "[compression] momentum = 0.9: needs error_feedback = true",
        ),
        (
            '[compression]\nmomentum = 0.9\n[optimizer]\nname = "adam"\nmomentum = 0',
            "[compression] momentum = 0.9: would be applied twice",
        ),
    ],
)
def test_momenta_that_contradict_each_other(write: Write, toml: str, words: str) -> None:
    path = write(toml)
    assert message(path).startswith(f"{path}: {words}")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(KEYS), plain)
def test_whatever_a_key_is_given_it_is_taken_or_refused_in_one_line(pair: Any, value: Any) -> None:
    section, spec = pair
    refused = ""
    try:
        taken = getattr(getattr(parse({section: {spec.name: value}}, "exp.toml"), section), spec.name)
    except UserError as error:
        refused = str(error)
    if refused:
        assert refused.startswith("exp.toml: [")
        assert "\n" not in refused
    else:
        assert type(taken) is type(spec.default)
        assert not isinstance(taken, float) or math.isfinite(taken)


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=60))
def test_whatever_a_file_holds_is_read_or_refused_in_one_line(tmp_path_factory: Any, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    refused = f"{path}: "
    try:
        load(path)
    except UserError as error:
        refused = str(error)
    assert refused.startswith(f"{path}: ")
    assert "\n" not in refused


def test_a_user_error_is_a_value_error_in_one_line() -> None:
    assert issubclass(UserError, ValueError)
    assert str(UserError("exp.toml: first\nsecond\r\nthird")) == "exp.toml: first second third"
    assert json.dumps(str(UserError(""))) == '""'
