"""Sparse Adam: equal to its reference bit for bit and to torch on dense input; bad arguments change nothing."""

import numpy as np
import pytest

import cext
from cext import reference

SETTINGS = [{}, {"weight_decay": 0.01}, {"weight_decay": 0.01, "decoupled": True}, {"beta1": 0.0, "beta2": 0.5}]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("aged", [False, True])
@pytest.mark.parametrize("settings", SETTINGS)
def test_equals_reference_over_steps(level, threads, aged, settings, make, same):
    n = 1500
    states = [(make(n), np.zeros(2 * n, np.float32), np.zeros(n, np.int32) if aged else None) for _ in range(2)]
    rng = np.random.default_rng(4)
    for step, share in ((1, 0.3), (2, None), (3, 1.0), (900, 0.05), (5000, 0.6)):
        indices = None if share is None else np.sort(rng.choice(n, int(n * share), replace=False)).astype(np.int32)
        values = make(n if indices is None else len(indices), seed=step)
        for module, (parameters, moments, updates) in zip((cext, reference), states, strict=True):
            module.sparse_adam(parameters, moments, updates, indices, values, step, 0.01, threads=threads, **settings)
    assert same(states[0][0], states[1][0])
    assert same(states[0][1], states[1][1])
    assert not aged or np.array_equal(states[0][2], states[1][2])


def test_a_decay_that_float32_does_not_hold_is_none(level, make, same):
    n = 1000
    for indices in (None, np.flatnonzero(np.arange(n) % 3).astype(np.int32)):
        states = [(make(n, "infinite"), np.zeros(2 * n, np.float32)) for _ in range(2)]
        values = make(n if indices is None else len(indices), seed=1)
        for module, state in zip((cext, reference), states, strict=True):
            module.sparse_adam(*state, None, indices, values, 1, 0.01, weight_decay=1e-50)
        assert same(states[0][0], states[1][0])
        assert same(states[0][1], states[1][1])


def test_threads_agree_on_a_long_list_and_on_everything(level, make, same):
    n = 150_001
    for indices in (np.arange(0, n, 2, dtype=np.int32), None, np.arange(n, dtype=np.int32)):
        outcomes = []
        for threads in (1, 2):
            parameters, moments = make(n), np.abs(make(2 * n, seed=1))
            values = make(n if indices is None else len(indices), seed=2)
            cext.sparse_adam(parameters, moments, None, indices, values, 9, 0.1, threads=threads)
            outcomes.append((parameters, moments))
        assert same(outcomes[0][0], outcomes[1][0])
        assert same(outcomes[0][1], outcomes[1][1])


@pytest.mark.parametrize("aged", [False, True])
def test_the_way_through_memory_changes_no_bit(level, aged, mixed_list, make, same):
    n = 30_011
    indices = mixed_list(n)
    outcomes = []
    for order, threads in ((slice(None), 1), (slice(None), 2), (slice(None, None, -1), 2)):  # descending: one by one
        state = make(n), np.abs(make(2 * n, seed=1)), np.full(n, 2, np.int32) if aged else None
        values = make(len(indices), seed=2)
        cext.sparse_adam(*state, indices[order].copy(), values[order].copy(), 9, 0.1, weight_decay=0.1, threads=threads)
        outcomes.append(state)
    for other in outcomes[1:]:
        assert same(outcomes[0][0], other[0])
        assert same(outcomes[0][1], other[1])
        assert not aged or np.array_equal(outcomes[0][2], other[2])


@pytest.mark.parametrize("settings", SETTINGS)
def test_equals_torch_on_dense_gradients(level, settings, make):
    torch = pytest.importorskip("torch")
    n = 501
    ours, moments = make(n).copy(), np.zeros(2 * n, np.float32)
    parameter = torch.nn.Parameter(torch.from_numpy(make(n).copy()))
    family = torch.optim.AdamW if settings.get("decoupled") else torch.optim.Adam
    betas = settings.get("beta1", 0.9), settings.get("beta2", 0.999)
    optimizer = family([parameter], lr=0.01, betas=betas, weight_decay=settings.get("weight_decay", 0.0))
    for step in range(1, 21):
        gradient = make(n, seed=step)
        parameter.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
        cext.sparse_adam(ours, moments, None, np.arange(n, dtype=np.int32), gradient, step, 0.01, **settings)
    np.testing.assert_allclose(ours, parameter.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_only_listed_places_change(level, make, same):
    n = 777
    indices = np.array([0, 5, 16, 700, 776], np.int32)
    state = make(n), np.abs(make(2 * n, seed=1)), np.full(n, 2, np.int32)
    before = [a.copy() for a in state]
    cext.sparse_adam(*state, indices, make(5, seed=2), 7, 0.1)
    rest = np.setdiff1d(np.arange(n), indices)
    for now, then, width in zip(state, before, (1, 2, 1), strict=True):
        assert np.array_equal(now.reshape(n, width)[rest], then.reshape(n, width)[rest])
    assert (state[0][indices] != before[0][indices]).all()
    assert (state[2][indices] == 3).all()


def test_repeated_places_are_updated_one_after_the_other(level, same):
    results = []
    for module in (cext, reference):
        parameters, moments, updates = np.zeros(4, np.float32), np.zeros(8, np.float32), np.zeros(4, np.int32)
        indices, values = np.array([2, 2, 1], np.int32), np.array([1, 10, 3], np.float32)
        module.sparse_adam(parameters, moments, updates, indices, values, 1, 0.1, threads=2)
        results.append((parameters, moments, updates))
    assert all(same(a.view(np.float32), b.view(np.float32)) for a, b in zip(*results, strict=True))
    assert results[0][2].tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": 0}, "step = 0: allowed are 1 to"),
        ({"beta1": 1.0}, r"beta1 must be in \[0, 1\)"),
        ({"beta2": -0.1}, r"beta2 must be in \[0, 1\)"),
        ({"moments": np.zeros(7, np.float32)}, "moments"),
        ({"updates": np.zeros(3, np.int32)}, "updates"),
        ({"indices": np.array([4], np.int32)}, r"indices\[0\] = 4: allowed are 0 to 3"),
        ({"indices": None}, "values"),
    ],
)
def test_refusals(change, message):
    parameters = np.ones(4, np.float32)
    given = {"moments": np.zeros(8, np.float32), "updates": None, "indices": np.array([0], np.int32)}
    given |= {"values": np.ones(1, np.float32), "step": 1, "lr": 0.1}
    with pytest.raises(ValueError, match=message):
        cext.sparse_adam(parameters, **{**given, **change})
    assert (parameters == 1).all()
