"""torch's compiler stays out of processes that never compile, and is there whole for who asks."""

import subprocess
import sys

import pytest

PREPARE = """
import sys
import torch
from toolkit.experiment import OptimizerSection
from toolkit.optim import create
parameter = torch.nn.Parameter(torch.ones(3))
optimizer = create(OptimizerSection(name={name!r}), [parameter])
for _ in range(2):
    parameter.grad = torch.ones(3)
    optimizer.step()
    optimizer.zero_grad()
torch.optim.lr_scheduler.StepLR(optimizer, 2).get_last_lr()
optimizer.load_state_dict(optimizer.state_dict())
"""


def output(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "sparse-sgd", "sparse-adam"])
def test_an_optimizer_steps_without_it(name):
    code = PREPARE.format(name=name) + "print('sympy' in sys.modules, parameter.grad, parameter.tolist())"
    assert output(code).startswith("False None [")


@pytest.mark.parametrize(
    "use",
    [
        "print(torch.compile(lambda x: 2 * x, backend='eager')(torch.ones(2)).tolist())",
        "import torch._dynamo.config; print([2.0] * 2 if torch._dynamo.config.__file__ else None)",
        "torch._dynamo.reset(); print([2.0] * 2 if torch._dynamo.__file__ else None)",
        "from torch._dynamo import is_compiling; print([2.0 - is_compiling()] * 2)",
    ],
)
def test_whoever_asks_gets_the_real_one(use):
    code = PREPARE.format(name="sgd") + use + "\nassert 'sympy' in sys.modules\noptimizer.step()"
    assert output(code) == "[2.0, 2.0]\n"


def test_what_is_loaded_stays():
    code = (
        "import torch, torch._dynamo as real"
        + PREPARE.format(name="sgd")
        + "print(sys.modules['torch._dynamo'] is real)"
    )
    assert output(code) == "True\n"


def test_looking_at_all_modules_does_not_load_it():
    code = PREPARE.format(name="sgd") + "import inspect; inspect.getmodule(create); print('sympy' in sys.modules)"
    assert output(code) == "False\n"
