"""[faults] slow_link: read with its unit, refused with its place, written and read again."""

import tomllib

import pytest

from toolkit.errors import UserError
from toolkit.experiment import dump, parse


def of(rows, workers=4):
    return parse({"cluster": {"workers": workers}, "faults": {"slow_link": rows}}, "file")


def test_a_slow_link_is_read_written_and_read_again():
    experiment = of([{"host": 2, "bandwidth": "100 Mbit/s"}])
    assert experiment.faults.link_rates(4, 125e6) == (125e6, 125e6, 12.5e6, 125e6)
    assert parse(tomllib.loads(dump(experiment)), "file") == experiment


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"host": 4, "bandwidth": "1 Mbit/s"}], "slow_link 1: host = 4: the cluster has 4, counted from 0"),
        ([{"host": 1, "bandwidth": 5}], "slow_link 1: bandwidth = 5"),
        ([{"host": 1}], "slow_link 1: bandwidth: this key is missing"),
        ([{"host": 1, "bandwidth": "1 Mbit/s"}] * 2, "one slow_link a host"),
    ],
)
def test_a_bad_slow_link_is_refused_with_its_place(rows, reason):
    with pytest.raises(UserError) as refused:
        of(rows)
    assert reason in str(refused.value)


def test_slow_workers_multiply_within_their_steps():
    rows = [{"worker": 1, "factor": 2.0, "from_step": 3, "to_step": 5}, {"worker": 1, "factor": 3.0, "from_step": 4}]
    faults = parse({"faults": {"slow_worker": rows}}, "file").faults
    assert [faults.slowdown(1, step) for step in range(2, 7)] == [1.0, 2.0, 6.0, 3.0, 3.0]
    assert faults.slowdown(0, 4) == 1.0
