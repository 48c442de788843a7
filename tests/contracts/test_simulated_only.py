"""What only the simulator does is refused by the trainer, with key, value and where to go."""

import pytest

from toolkit.errors import UserError
from toolkit.experiment import Experiment
from toolkit.sections.simulated import refuse_in_training


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"control": {"name": "stellatrain"}}, "[control] name = 'stellatrain'"),
        ({"checkpoint": {"replicas": 2}}, "[checkpoint] replicas = 2"),
        ({"faults": {"failures_per_day": 8.0}}, "[faults] failures_per_day = 8.0"),
        ({"faults": {"failure": [{"at": 5.0}]}}, "[faults] failure = 1 of them"),
        ({"offload": {"method": "stronghold", "window": 2}}, "[offload] method = 'stronghold'"),
    ],
)
def test_the_trainer_refuses_what_is_simulated_only(sections, words):
    with pytest.raises(UserError) as refused:
        refuse_in_training(Experiment().replace(**sections), "file.toml")
    assert str(refused.value).startswith(f"file.toml: {words}: ")
    assert "python -m simulator" in str(refused.value)


def test_the_default_experiment_trains():
    refuse_in_training(Experiment(), "file.toml")
