"""`python -m toolkit bench`: what it times is fresh, aligned and validated, and its report names every goal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import cext
from toolkit.bench import datasets, goals, lines, main, sides, stored
from toolkit.compression import SparsePayload
from toolkit.gradients.methods import Method

N = 40_000


@pytest.mark.parametrize("name", list(datasets.DATA))
def test_data_are_aligned_finite_and_repeatable(name: str) -> None:
    x, again = datasets.make(name, N, 3), datasets.make(name, N, 3)
    assert x.dtype == np.float32
    assert x.shape == (N,)
    assert x.ctypes.data % 64 == 0
    assert np.isfinite(x).all()
    assert np.array_equal(x, again)


def test_data_are_what_they_say() -> None:
    assert np.mean(datasets.make("mostly zeros", N, 1) == 0) == pytest.approx(0.6, abs=0.02)
    assert np.mean(np.abs(datasets.make("laplace", N, 1)) > 3) == pytest.approx(np.exp(-3), rel=0.2)
    assert np.abs(datasets.make("student", N, 1)).max() > 10
    assert np.ptp(datasets.make("equal", N, 1)) == 0
    assert np.abs(datasets.make("hidden", N, 1)).max() > 1e5


def test_every_call_gets_another_gradient_and_conserves_it() -> None:
    stream = torch.from_numpy(datasets.make("normal", N + 1600, 1))
    method = Method("topk", stream, 0.01, 1, feedback=True, spare=1600)
    assert method.residual is not None
    total, seen = torch.zeros(N, dtype=torch.float64), set()
    for _ in range(30):
        gradient = method.gradient()
        assert gradient.data_ptr() % 64 == 0
        seen.add(gradient.data_ptr())
        total += gradient
        payload = method.compress()
        assert isinstance(payload, SparsePayload)
        total -= payload.dense()
    assert len(seen) == 30
    torch.testing.assert_close(method.residual.double(), total, rtol=1e-5, atol=1e-5)


def test_a_method_goes_on_from_another_of_its_kind() -> None:
    stream = torch.from_numpy(datasets.make("laplace", N + 1600, 1))
    ours, torchs = (Method(name, stream, 0.01, 1, True, 1600) for name in ("sidco-e", "torch:sidco-e"))
    for _ in range(12):
        ours.compress()
    torchs.go_on_from(ours)
    for _ in range(3):
        a, b = ours.compress(), torchs.compress()
        assert isinstance(a, SparsePayload)
        assert isinstance(b, SparsePayload)
        assert torch.equal(a.indices, b.indices)


@pytest.mark.parametrize("kernel", ["topk_select", "threshold_select_feedback", "merge_sorted"])
@pytest.mark.parametrize("density", [0.5, 0.1, 0.001])
def test_a_kernel_that_differs_from_the_reference_is_not_timed(
    kernel: str, density: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = sides.Sides(N, density, 2, 1)
    bench.validate()
    honest = getattr(cext, kernel)

    def wrong(*arguments):  # type: ignore[no-untyped-def]
        count = honest(*arguments)
        for values in [a for a in arguments if isinstance(a, np.ndarray) and a.dtype == np.float32][-1:]:
            values[count - 1] *= 2
        return count

    monkeypatch.setattr(cext, kernel, wrong)
    with pytest.raises(RuntimeError, match="differs from the NumPy reference"):
        bench.validate()


def test_sides_on_other_data_are_timed_on_them() -> None:
    bench = sides.Sides(N, 0.01, 1, 1)
    bench.prepare("exact top-k on equal")
    assert bench.call("exact top-k on equal")() == N // 100
    assert bench.call("threshold select")() == pytest.approx(N // 100, abs=2)


def test_the_report_names_each_goal_and_what_was_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main, "LARGE", N)
    monkeypatch.setattr(main, "WARM_SIZE", 0)
    report = tmp_path / "B.json"
    arguments = ["--sizes", "40K", "--densities", "0.01", "--rounds", "1", "--only", "exact", "--json", str(report)]
    code = main.main([*arguments, "--check-goals"])
    outcomes = json.loads(report.read_text())["outcomes"]
    wanted = [g for g in (*goals.LARGE_GOALS, *goals.DATA_GOALS) if "exact" in g.side]
    assert sorted((o["side"], o["base"]) for o in outcomes) == sorted((g.side, g.base) for g in wanted)
    assert code == (0 if all(o["holds"] for o in outcomes) else 1)
    assert all(o["low"] <= o["ratio"] <= o["high"] for o in outcomes)
    printed = capsys.readouterr().out
    assert f"of {len(wanted)} goals hold" in printed
    assert torch.cuda.is_available() or "no GPU here" in printed


def test_a_sparse_step_is_timed_beside_its_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main, "LARGE", N)
    monkeypatch.setattr(main, "WARM_SIZE", 0)
    assert main.main(["--sizes", "40K", "--densities", "0.01", "--rounds", "1", "--only", "lines of a"]) == 0
    assert "bare touching of its cache lines" in capsys.readouterr().out
    rates = lines.line_rates(N, 0.01, 1, 3, 1)
    k = N // 100
    assert k < rates["lines"] <= 2 * k, "a parameter and a pair of moments a place, of which some share a line"
    assert rates["lines_ms"] > 0
    assert rates["adam_ms"] > 0


def test_residuals_of_both_kinds_are_timed_beside_an_add(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main, "LARGE", N)
    monkeypatch.setattr(main, "WARM_SIZE", 0)
    assert main.main(["--sizes", "40K", "--densities", "0.01", "--rounds", "1", "--only", "bf16"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in stored.NAMES)
    rates = stored.stored_rates(N, 0.01, 1, 3, 1)
    assert [rate["name"] for rate in rates] == list(stored.NAMES)
    for rate in rates:
        assert rate["fp32_ms"] / rate["fp32_adds"] == pytest.approx(rate["bf16_ms"] / rate["bf16_adds"])
