"""The loss penalty of compression and batch: a Gaussian process through measured points, kept as JSON."""

import json

import pytest

from toolkit.errors import UserError
from toolkit.policies.penalty import SCHEMA, Penalty, Point, Profile, load, smoothed


def truth(rate, batch):
    from math import log2, log10

    return 0.05 * -log10(1 - rate) + 0.02 * log2(batch) ** 2


@pytest.fixture
def profile():
    points = [Point(r, b, truth(r, b)) for r in (0.0, 0.5, 0.9, 0.97, 0.99, 0.999) for b in (0.25, 0.5, 1, 2, 4)]
    return Profile(tuple(points), {"experiment": "made"})


def test_the_process_passes_near_its_points_and_between_them(profile):
    g = Penalty(profile)
    for rate, batch in ((0.9, 1.0), (0.95, 1.5), (0.995, 0.7), (0.2, 3.0)):
        assert g(rate, batch) == pytest.approx(truth(rate, batch), abs=0.01)
    assert g.deviation(0.9, 1.0) < g.deviation(0.9, 64.0)


def test_a_profile_is_written_and_read_again(profile, tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(profile.to_json()))
    assert load(path) == profile


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not a penalty profile"),
        ('{"schema": "other", "points": []}', "not a penalty profile"),
        (json.dumps({"schema": SCHEMA, "points": [{"rate": 1.0, "batch": 1, "penalty": 0}]}), "point 1"),
        (json.dumps({"schema": SCHEMA, "points": [{"rate": 0.5, "batch": 1, "penalty": 0}]}), "at least 4"),
        (json.dumps({"schema": SCHEMA, "points": [{"rate": 0.5}]}), "not a penalty profile"),
    ],
)
def test_what_is_no_profile_is_refused(tmp_path, text, words):
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        load(path)
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path / "none.json")


def test_the_smoothed_loss_of_a_constant_is_the_constant():
    assert smoothed([2.0] * 7) == pytest.approx(2.0)
    assert 1.0 < smoothed([3.0] * 50 + [1.0] * 50) < 3.0
