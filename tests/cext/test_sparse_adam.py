"""Sparse Adam: equal to its reference bit for bit, to torch on dense input, and only the listed places change."""

import numpy as np
import pytest

import cext
from cext import reference

SETTINGS = [{}, {"weight_decay": 0.01}, {"weight_decay": 0.01, "decoupled": True}, {"beta1": 0.5, "epsilon": 1e-3}]


def start(make, n, inside):
    """Parameters (None where they live in the state) and the state of n elements."""
    state = np.zeros(4 * n, np.float32)
    if inside:
        state[::4] = make(n)
    return None if inside else make(n), state


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("own_age", [True, False])
@pytest.mark.parametrize("settings", SETTINGS)
def test_equals_reference_over_steps(level, inside, own_age, settings, make, same):
    n = 1500
    states = [start(make, n, inside) for _ in range(2)]
    rng = np.random.default_rng(4)
    for step in (1, 2, 3, 700):
        indices = np.sort(rng.choice(n, 300, replace=False)).astype(np.int32)
        for module, (parameters, state) in zip((cext, reference), states, strict=True):
            arguments = indices, make(300, seed=step), step, 0.01
            module.sparse_adam(parameters, state, *arguments, own_age=own_age, **settings)
    assert same(states[0][1], states[1][1])
    assert inside or same(states[0][0], states[1][0])


def test_ages_beyond_the_table(level, same):
    outcomes = []
    for module in (cext, reference):
        state = np.tile(np.array([1, 0.1, 0.2, 600], np.float32), 2)
        module.sparse_adam(None, state, np.array([1], np.int32), np.ones(1, np.float32), 1, 0.01, own_age=True)
        outcomes.append(state)
    assert same(*outcomes)
    assert outcomes[0][7] == 601


@pytest.mark.parametrize("settings", SETTINGS)
def test_equals_torch_on_dense_gradients(level, settings, make):
    torch = pytest.importorskip("torch")
    n, settings = 501, dict(settings)
    ours, state = start(make, n, False)
    parameter = torch.nn.Parameter(torch.from_numpy(make(n).copy()))
    family = torch.optim.AdamW if settings.get("decoupled") else torch.optim.Adam
    betas = settings.get("beta1", 0.9), 0.999
    decay, epsilon = settings.get("weight_decay", 0.0), settings.get("epsilon", 1e-8)
    optimizer = family([parameter], lr=0.01, betas=betas, eps=epsilon, weight_decay=decay)
    for step in range(1, 21):
        gradient = make(n, seed=step)
        parameter.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
        cext.sparse_adam(ours, state, np.arange(n, dtype=np.int32), gradient, step, 0.01, **settings)
    np.testing.assert_allclose(ours, parameter.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_threads_agree_and_only_listed_places_change(level, make, same):
    n = 200_000
    indices = np.arange(0, n, 3, dtype=np.int32)
    outcomes = []
    for threads in (1, 2):
        parameters, state = start(make, n, False)
        cext.sparse_adam(parameters, state, indices, make(len(indices), seed=2), 5, 0.01, threads=threads)
        outcomes.append((parameters, state))
    assert same(outcomes[0][0], outcomes[1][0])
    assert same(outcomes[0][1], outcomes[1][1])
    rest = np.setdiff1d(np.arange(n), indices)
    assert same(outcomes[0][0][rest], make(n)[rest])
    assert not outcomes[0][1].reshape(-1, 4)[rest].any()
    assert (outcomes[0][0][indices] != make(n)[indices]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": 0}, "step = 0: allowed are 1 to"),
        ({"beta1": 1.0}, "beta1 and beta2 must be in"),
        ({"state": np.zeros(11, np.float32)}, "whole lines of four"),
        ({"state": np.zeros(8, np.float32)}, "state has 8 elements, four for each parameter has 12"),
        ({"indices": np.array([3], np.int32)}, r"indices\[0\] = 3: allowed are 0 to 2"),
    ],
)
def test_refusals(changes, message):
    parameters = np.ones(3, np.float32)
    given = {"state": np.zeros(12, np.float32), "indices": np.array([0], np.int32), "step": 1, "lr": 0.1, **changes}
    with pytest.raises(ValueError, match=message):
        cext.sparse_adam(parameters, values=np.ones(1, np.float32), **given)
    assert (parameters == 1).all()
