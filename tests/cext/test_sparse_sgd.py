"""Sparse SGD: equal to its reference bit for bit, to torch on dense input, and only the listed places change."""

import numpy as np
import pytest

import cext
from cext import reference

SETTINGS = [
    {},
    {"weight_decay": 0.01},
    {"momentum": 0.9},
    {"momentum": 0.9, "dampening": 0.5, "weight_decay": 1e-4},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4},
    {"momentum": 0.9, "lazy_decay": True},
    {"momentum": 0.99, "lazy_decay": True, "nesterov": True},
]
# Lazy decay without the step of the last touch is refused: test_refusals.
CASES = [(s, touched) for s in SETTINGS for touched in (True, False) if touched or not s.get("lazy_decay")]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("settings", "touched"), CASES)
def test_equals_reference_over_steps(level, threads, settings, touched, make, same):
    n = 2000
    states = [(make(n), np.zeros(n, np.float32), np.full(n, -1, np.int32) if touched else None) for _ in range(2)]
    rng = np.random.default_rng(4)
    for step in (0, 1, 2, 300, 1000):
        indices = np.sort(rng.choice(n, 400, replace=False)).astype(np.int32)
        values = make(400, seed=step)
        for module, (parameters, buffer, last) in zip((cext, reference), states, strict=True):
            arguments = indices, values, step, 0.1
            module.sparse_sgd(parameters, buffer, last, *arguments, threads=threads, **settings)
    assert same(states[0][0], states[1][0])
    assert same(states[0][1], states[1][1])
    assert touched is False or np.array_equal(states[0][2], states[1][2])


def test_threads_agree_on_a_long_list(level, make, same):
    n = 300_000
    outcomes = []
    for threads in (1, 2):
        parameters, buffer, last = make(n), make(n, seed=1), np.full(n, 3, np.int32)
        indices = np.arange(0, n, 2, dtype=np.int32)
        state = parameters, buffer, last, indices, make(len(indices), seed=2)
        cext.sparse_sgd(*state, 9, 0.1, 0.9, lazy_decay=True, threads=threads)
        outcomes.append((parameters, buffer))
    assert same(outcomes[0][0], outcomes[1][0])
    assert same(outcomes[0][1], outcomes[1][1])


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_way_through_memory_changes_no_bit(level, settings, mixed_list, make, same):
    n = 30_011
    indices = mixed_list(n)
    outcomes = []
    for order, threads in ((slice(None), 1), (slice(None), 2), (slice(None, None, -1), 2)):  # descending: one by one
        last = (np.arange(n, dtype=np.int32) % 5) - 1
        state = make(n), make(n, seed=1), last
        values = make(len(indices), seed=2)
        cext.sparse_sgd(*state, indices[order].copy(), values[order].copy(), 9, 0.1, threads=threads, **settings)
        outcomes.append(state)
    for other in outcomes[1:]:
        assert all(same(a.view(np.float32), b.view(np.float32)) for a, b in zip(outcomes[0], other, strict=True))


@pytest.mark.parametrize("settings", SETTINGS)
def test_no_list_means_every_place(level, settings, make, same):
    n = 1003
    outcomes = []
    for module, indices in ((cext, None), (cext, np.arange(n, dtype=np.int32)), (reference, None)):
        state = make(n), make(n, seed=1), np.full(n, 3, np.int32)
        module.sparse_sgd(*state, indices, make(n, seed=2), 5, 0.1, **settings)
        outcomes.append(state)
    for other in outcomes[1:]:
        assert all(same(a.view(np.float32), b.view(np.float32)) for a, b in zip(outcomes[0], other, strict=True))


@pytest.mark.parametrize("settings", [s for s in SETTINGS if not s.get("lazy_decay")])
def test_equals_torch_on_dense_gradients(level, settings, make):
    torch = pytest.importorskip("torch")
    n = 501
    parameter = torch.nn.Parameter(torch.from_numpy(make(n).copy()))
    optimizer = torch.optim.SGD([parameter], lr=0.05, **settings)
    ours, buffer, last = make(n).copy(), np.zeros(n, np.float32), np.full(n, -1, np.int32)
    for step in range(20):
        gradient = make(n, seed=step)
        parameter.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
        cext.sparse_sgd(ours, buffer, last, np.arange(n, dtype=np.int32), gradient, step, 0.05, **settings)
    np.testing.assert_allclose(ours, parameter.detach().numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("settings", SETTINGS)
def test_only_listed_places_change(level, settings, make, same):
    n = 777
    indices = np.array([0, 5, 16, 700, 776], np.int32)
    state = make(n), make(n, seed=1), np.full(n, 2, np.int32)
    before = [a.copy() for a in state]
    cext.sparse_sgd(*state, indices, make(5, seed=2), 7, 0.1, **settings)
    rest = np.setdiff1d(np.arange(n), indices)
    for now, then in zip(state, before, strict=True):
        assert same(now[rest].view(np.float32), then[rest].view(np.float32))
    assert (state[0][indices] != before[0][indices]).all()
    assert (state[2][indices] == 7).all()


def test_repeated_places_are_updated_one_after_the_other(level, same):
    got, wanted = np.zeros(4, np.float32), np.zeros(4, np.float32)
    indices, values = np.array([2, 2, 1], np.int32), np.array([1, 10, 3], np.float32)
    for module, parameters in ((cext, got), (reference, wanted)):
        module.sparse_sgd(parameters, None, None, indices, values, 0, 0.1, threads=2, weight_decay=0.5)
    assert same(got, wanted)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"momentum": 0.9, "buffer": False}, "momentum needs momentum_buffer"),
        ({"momentum": 0.9, "lazy_decay": True, "touched": False}, "lazy_decay needs last_touched"),
        ({"nesterov": True}, "nesterov needs momentum"),
        ({"momentum": -0.1}, "momentum must be 0 or more"),
        ({"momentum": 0.9, "lazy_decay": True, "step": 1}, "step = 1, but index 0 was touched in step 3"),
        ({"step": -1}, "step = -1: allowed are 0 to"),
        ({"indices": np.array([3], np.int32)}, r"indices\[0\] = 3: allowed are 0 to 2"),
        ({"indices": np.array([-1], np.int32)}, r"indices\[0\] = -1: allowed are 0 to 2"),
        ({"indices": None}, "parameters has 3 elements, values has 1"),
    ],
)
def test_refusals(arguments, message):
    arguments = dict(arguments)
    buffer = np.zeros(3, np.float32) if arguments.pop("buffer", True) else None
    touched = np.full(3, 3, np.int32) if arguments.pop("touched", True) else None
    parameters, step = np.ones(3, np.float32), arguments.pop("step", 5)
    lists = arguments.pop("indices", np.array([0], np.int32)), np.ones(1, np.float32)
    with pytest.raises(ValueError, match=message):
        cext.sparse_sgd(parameters, buffer, touched, *lists, step, 0.1, **arguments)
    assert (parameters == 1).all()
