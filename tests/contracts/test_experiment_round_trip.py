"""An experiment file: all keys have lawful defaults, and what is dumped reads back as the same experiment."""

import dataclasses
import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit import registry, units
from toolkit.errors import UserError
from toolkit.experiment import LANGUAGE_DATA, LANGUAGE_MODELS, SECTIONS, Experiment, check, dump, load, parse

KEYS = [(section, spec) for section, kind in SECTIONS.items() for spec in dataclasses.fields(kind)]
NAMES = [f"{section}.{spec.name}" for section, spec in KEYS]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def values_of(spec: dataclasses.Field[Any]) -> st.SearchStrategy[Any]:
    """Every value, in base units, that a key allows."""
    rules = spec.metadata
    if rules["table"]:
        return st.just(())  # tests/contracts/test_experiment_tables.py draws rows
    if rules["choices"]:
        return st.sampled_from(rules["choices"])
    if isinstance(spec.default, bool):
        return st.booleans()
    if isinstance(spec.default, int):
        return st.integers(int(max(rules["low"], -(2**63))), int(min(rules["high"], 2**63 - 1)))
    if isinstance(spec.default, float):
        low = max(rules["low"], rules["above"], -1e300)
        floats = st.floats(low, min(rules["high"], 1e300), exclude_min=rules["above"] == low)
        return floats.map(lambda value: value + 0.0)
    if isinstance(spec.default, tuple):
        low = max(rules["low"], rules["above"], -1e300)
        return st.lists(st.floats(low, min(rules["high"], 1e300), exclude_min=rules["above"] == low), max_size=4).map(
            tuple
        )
    return texts


def lawful(experiment: Experiment) -> bool:
    try:
        check(experiment, "drawn")
    except UserError:
        return False
    return True


@st.composite
def experiments(draw: st.DrawFn) -> Experiment:
    sections = {}
    for section, kind in SECTIONS.items():
        sections[section] = kind(**{spec.name: draw(values_of(spec)) for spec in dataclasses.fields(kind)})
    language = sections["model"].name in LANGUAGE_MODELS
    fitting = [name for name in registry.DATASETS if (name in LANGUAGE_DATA) == language]
    sections["data"] = dataclasses.replace(sections["data"], name=draw(st.sampled_from(fitting)))
    exchange = draw(st.sampled_from(["auto", *registry.exchanges_of(sections["compression"].name)]))
    sections["compression"] = dataclasses.replace(sections["compression"], exchange=exchange)
    if sections["optimizer"].momentum > 0 or "adam" in sections["optimizer"].name:
        sections["compression"] = dataclasses.replace(sections["compression"], momentum=0.0)
    corrected = sections["compression"].momentum > 0
    sections["compression"] = dataclasses.replace(
        sections["compression"],
        nesterov=corrected and sections["compression"].nesterov,
        error_feedback=corrected or sections["compression"].error_feedback,
    )
    corrected = draw(st.booleans())  # momentum is the compressor's or the optimizer's, never both
    compression = {"momentum": 0.0, "nesterov": False}
    optimizer: dict[str, Any] = {
        "momentum": 0.0,
        "nesterov": False,
        "name": draw(st.sampled_from(["sgd", "sparse-sgd"])),
    }
    if corrected and sections["compression"].momentum > 0:
        compression = {"error_feedback": True}
    elif sections["optimizer"].momentum > 0:
        optimizer = {}
    sections["compression"] = dataclasses.replace(sections["compression"], **compression)
    sections["optimizer"] = dataclasses.replace(sections["optimizer"], **optimizer)
    decays = sections["optimizer"].name == "sparse-sgd" and sections["optimizer"].momentum > 0
    lazy = decays and sections["optimizer"].lazy_decay
    sections["optimizer"] = dataclasses.replace(sections["optimizer"], lazy_decay=lazy)
    experiment = Experiment(**sections)
    for section in ("faults", "sync", "pipeline", "offload", "checkpoint", "control"):
        if lawful(experiment):
            break
        experiment = dataclasses.replace(experiment, **{section: SECTIONS[section]()})
    return experiment


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(experiments())
def test_a_dumped_experiment_reads_back_equal(experiment: Experiment) -> None:
    assert lawful(experiment)
    assert parse(tomllib.loads(dump(experiment)), "dumped") == experiment


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(experiments())
def test_a_dump_writes_every_key_and_is_stable(experiment: Experiment) -> None:
    text = dump(experiment)
    document = tomllib.loads(text)
    assert {s: set(c) for s, c in document.items()} == {
        s: {spec.name for spec in dataclasses.fields(kind)} for s, kind in SECTIONS.items()
    }
    assert dump(parse(document, "dumped")) == text


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(experiments())
def test_overrides_of_every_key_say_the_same_as_the_file(tmp_path_factory: Any, experiment: Experiment) -> None:
    empty = tmp_path_factory.getbasetemp() / "empty.toml"
    empty.write_text("")
    overrides: list[str] = []
    section = ""
    for line in dump(experiment).split("\n"):
        if line.startswith("["):
            section = line.strip("[]")
        elif line:
            overrides.append(f"{section}.{line}")
    assert len(overrides) == len(KEYS)
    assert load(empty, overrides) == experiment


@pytest.mark.parametrize("text", ["\x7f", "\U0001f600", "\u3000ü", 'a"b\\c', "\t\r\n\x00\x1f", "\x85\u2028", "#=[]"])
def test_every_text_survives_a_dump(text: str) -> None:
    experiment = Experiment().replace(data={"root": text})
    assert parse(tomllib.loads(dump(experiment)), "dumped") == experiment


def test_an_empty_file_is_the_default_experiment(tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.write_text("")
    assert load(path) == Experiment()
    assert lawful(Experiment())


@pytest.mark.parametrize(("section", "spec"), KEYS, ids=NAMES)
def test_every_key_is_explained_and_its_default_is_allowed(section: str, spec: dataclasses.Field[Any]) -> None:
    assert spec.metadata["help"]
    default = spec.default
    unit = spec.metadata["unit"]
    plain = units.render(unit, default) if unit else list(default) if isinstance(default, tuple) else default
    assert getattr(getattr(parse({section: {spec.name: plain}}, "default"), section), spec.name) == default


def test_sections_are_those_of_the_contract() -> None:
    assert " ".join(SECTIONS) == (
        "model data cluster compression optimizer sync pipeline offload checkpoint faults control run"
    )


def test_whole_numbers_stand_for_floats_but_are_stored_as_floats() -> None:
    experiment = parse({"optimizer": {"learning_rate": 1, "milestones": [80, 120]}}, "x")
    assert type(experiment.optimizer.learning_rate) is float
    assert experiment.optimizer.milestones == (80.0, 120.0)
    assert all(type(item) is float for item in experiment.optimizer.milestones)


def test_an_override_wins_over_the_file_and_the_last_one_over_the_first(tmp_path: Path) -> None:
    path = tmp_path / "exp.toml"
    path.write_text('[model]\nname = "lenet"\n[cluster]\nworkers = 2\n')
    experiment = load(path, ["cluster.workers=8", "cluster.workers=16", "cluster.bandwidth=200 Mbit/s"])
    assert (experiment.model.name, experiment.cluster.workers) == ("lenet", 16)
    assert experiment.cluster.bandwidth == 25e6


def test_quotes_and_spaces_of_an_override_are_optional(tmp_path: Path) -> None:
    path = tmp_path / "exp.toml"
    path.write_text("")
    for override in ("compression.name=topk", 'compression.name="topk"', " compression . name = topk "):
        assert load(path, [override]).compression.name == "topk"


def test_experiments_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Experiment().run = SECTIONS["run"]()  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        Experiment().run.seed = 2  # type: ignore[misc]


@pytest.mark.parametrize("name", registry.COMPRESSORS)
def test_the_automatic_exchange_carries_the_compressors_payload(name: str) -> None:
    experiment = parse({"compression": {"name": name}}, "x")
    wire = registry.COMPRESSORS[name].wire
    assert experiment.exchange == {"dense": "dense", "linear": "linear", "sparse": "allgather"}[wire]


def test_replace_changes_only_what_is_named() -> None:
    changed = Experiment().replace(cluster={"workers": 64, "bandwidth": 1e9}, run={"seed": 7})
    assert (changed.cluster.workers, changed.cluster.bandwidth, changed.run.seed) == (64, 1e9, 7)
    assert changed.replace(cluster={"workers": 4, "bandwidth": 1.25e8}, run={"seed": 1}) == Experiment()


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"cluster": {"workers": 0}}, ["[cluster] workers = 0", ">= 1"]),
        ({"cluster": {"latency": -1.0}}, ["[cluster] latency = '-1.0 s'", ">= '0 s'"]),
        ({"cluster": {"bandwidth": math.nan}}, ["[cluster] bandwidth = 'nan B/s'", "> '0 B/s'"]),
        ({"cluster": {"wrokers": 1}}, ["[cluster] wrokers = 1", "did you mean 'workers'?"]),
        ({"clutser": {"workers": 1}}, ["[clutser]", "did you mean 'cluster'?"]),
        ({"model": {"name": "gpt"}}, ["[data] name = 'digits'", "pysource, ptb"]),
    ],
)
def test_replace_is_checked_like_a_file(sections: dict[str, dict[str, Any]], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        Experiment().replace(**sections)
    assert all(word in str(caught.value) for word in words), str(caught.value)
