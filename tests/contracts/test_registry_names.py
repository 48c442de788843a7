"""Names a user may write: each stands for code that exists, and a misspelt one is answered with the nearest."""

import importlib.util
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit import registry
from toolkit.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
TABLES = {
    "MODELS": registry.MODELS,
    "DATASETS": registry.DATASETS,
    "COMPRESSORS": {name: entry.target for name, entry in registry.COMPRESSORS.items()},
    "EXCHANGES": {name: entry.target for name, entry in registry.EXCHANGES.items()},
    "OPTIMIZERS": registry.OPTIMIZERS,
}
TARGETS = [(f"{table}:{name}", target) for table, names in TABLES.items() for name, target in names.items()]


@pytest.mark.parametrize("target", [t for _, t in TARGETS], ids=[name for name, _ in TARGETS])
def test_every_target_is_a_file_of_the_house_and_resolves(target: str) -> None:
    module, attribute = target.split(":")
    assert (ROOT / (module.replace(".", "/") + ".py")).is_file()
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed; the file exists")
    found = registry.resolve(target)
    assert callable(found)
    assert found.__name__ == attribute


def test_no_two_names_stand_for_the_same_code() -> None:
    targets = [target for _, target in TARGETS]
    assert len(set(targets)) == len(targets)


def test_names_are_lower_case_and_shell_safe() -> None:
    for names in TABLES.values():
        for name in names:
            assert name == name.lower()
            assert name.replace("-", "").isalnum()


def test_facts_about_payloads_are_within_the_law() -> None:
    for entry in registry.COMPRESSORS.values():
        assert entry.wire in {exchange.wire for exchange in registry.EXCHANGES.values()}
        assert entry.value_bytes in (2, 4)


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(sorted(TABLES)), st.data())
def test_a_name_with_one_wrong_letter_is_recognized(table: str, data: st.DataObject) -> None:
    names = [name for name in TABLES[table] if len(name) >= 4]
    name = data.draw(st.sampled_from(names))
    place = data.draw(st.integers(0, len(name) - 1))
    misspelt = name[:place] + "?" + name[place + 1 :]
    with pytest.raises(UserError) as caught:
        registry.check_name("exp.toml: [x] name", misspelt, names)
    text = str(caught.value)
    assert text.startswith(f"exp.toml: [x] name = '{misspelt}': allowed are {', '.join(names)}; did you mean '")
    nearest = text.split("did you mean '")[1].split("'")[0]
    distance = [a == b for a, b in zip(nearest, misspelt, strict=False)].count(False)
    assert distance <= 2 or nearest == name


def test_a_known_name_is_returned_and_a_strange_one_gets_no_hint() -> None:
    for names in TABLES.values():
        for name in names:
            assert registry.check_name("x", name, names) == name
    with pytest.raises(UserError) as caught:
        registry.check_name("x", "wwwwwwww", registry.MODELS)
    assert "did you mean" not in str(caught.value)


def test_the_near_and_the_far() -> None:
    assert registry.nearest("resnt20", registry.MODELS) == "; did you mean 'resnet20'?"
    assert registry.nearest("sidcoe", registry.COMPRESSORS) == "; did you mean 'sidco-e'?"
    assert registry.nearest("", registry.MODELS) == ""
    assert registry.nearest("x", []) == ""
