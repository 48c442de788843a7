"""Keys whose value is a list of tables: read, refused with place and reason, written and read again."""

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import UserError
from toolkit.experiment import dump, load, parse

rows = st.lists(
    st.fixed_dictionaries(
        {"worker": st.integers(0, 3), "factor": st.floats(1e-6, 1e6)},
        optional={"from_step": st.integers(0, 50), "to_step": st.integers(51, 90)},
    ),
    max_size=5,
)


@settings(deadline=None, max_examples=50)
@given(rows)
def test_a_table_is_written_and_read_again(content):
    experiment = parse({"faults": {"slow_worker": content}}, "file")
    assert [row.worker for row in experiment.faults.slow_worker] == [row["worker"] for row in content]
    assert parse(tomllib.loads(dump(experiment)), "file") == experiment
    assert experiment.replace(faults={"slow_worker": content}) == experiment


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("3", "slow_worker = 3: a list of tables is wanted"),
        ("[3]", "slow_worker = [3]: a list of tables is wanted"),
        ("[{factor=2.0}]", "slow_worker 1: worker: this key is missing"),
        ("[{worker=0,factor=2.0},{worker=1}]", "slow_worker 2: factor: this key is missing"),
        ("[{worker=0,factor=-2.0}]", "slow_worker 1: factor = -2.0: a finite value > 0.0 is wanted"),
        ("[{worker=0,factor=2.0,to_stp=1}]", "did you mean 'to_step'"),
        ("[{worker=4,factor=2.0}]", "slow_worker 1: worker = 4: the cluster has 4, counted from 0"),
        ("[{worker=0,factor=2.0,from_step=3,to_step=3}]", "slow_worker 1: to_step = 3: a step after from_step = 3"),
    ],
)
def test_a_bad_table_is_refused_with_its_place(tmp_path, value, reason):
    path = tmp_path / "x.toml"
    path.write_text("")
    with pytest.raises(UserError) as refused:
        load(path, [f"faults.slow_worker={value}"])
    assert str(refused.value).startswith(str(path))
    assert "[faults]" in str(refused.value)
    assert reason in str(refused.value)
