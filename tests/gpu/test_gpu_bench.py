"""The bench's GPU part: the same code on a GPU, or on a tiny vector in the interpreter; times are not judged."""

from __future__ import annotations

import io
import statistics

import pytest
import torch
from rich.console import Console

from toolkit.bench import gpu
from toolkit.bench.main import arguments


@pytest.fixture(scope="module")
def rows(device) -> list[gpu.Row]:
    return gpu.measure(400, 0.1, 3, 1, device, warm_up=1)


def test_every_method_is_measured_beside_torch_topk(rows) -> None:
    assert [row.method for row in rows] == ["topk", "sidco-e", "sidco-p", "sidco-gp"]
    for row in rows:
        assert row.ms > 0
        assert row.low <= row.faster <= row.high
    assert len({row.base_ms for row in rows}) == 1  # they share its rounds
    assert rows[0].count_ratio == 1.0
    assert 0.3 < statistics.fmean(row.count_ratio for row in rows) < 3.0


def test_the_table_has_a_line_a_method(rows) -> None:
    out = io.StringIO()
    Console(file=out, width=110).print(gpu.table(rows, "a device"))
    for row in rows:
        assert f"{row.faster:.2f}" in out.getvalue()
        assert row.method in out.getvalue()


def test_nothing_wrong_is_timed(device, monkeypatch) -> None:
    from toolkit.compression.passes_triton import TritonPasses

    above = TritonPasses.above_feedback
    topk = TritonPasses.topk_feedback
    monkeypatch.setattr(TritonPasses, "topk_feedback", lambda self, g, r, k: above(self, g, r, 1.0))
    with pytest.raises(RuntimeError, match=r"triton:topk: .* differ"):
        gpu.measure(400, 0.1, 1, 1, device, ["topk"], warm_up=0)
    monkeypatch.setattr(TritonPasses, "topk_feedback", topk)
    assert gpu.measure(400, 0.1, 1, 1, device, ["topk"], warm_up=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so(capsys) -> None:
    assert gpu.report([400], [0.1], arguments([])) == []
    assert capsys.readouterr().out == "no GPU here: the passes on CUDA tensors (Triton) are not measured\n"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("density", [0.1, 0.001])
def test_large_vectors_on_a_gpu(device, density: float) -> None:
    """25.6 M elements, the size of ResNet-50: validated and timed, one round."""
    for row in gpu.measure(25_600_000, density, 1, 1, device):
        assert 0.1 < row.count_ratio < 10
