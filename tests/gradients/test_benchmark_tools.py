"""microbench and gradstats on real gradients: what they write, what they check, what they refuse."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from toolkit.errors import UserError
from toolkit.gradients import gradstats, methods, microbench, store
from toolkit.gradients.store import GradientFile
from toolkit.gradients.timing import Times, rounds
from toolkit.registry import COMPRESSORS

GRADS = Path(__file__).parents[2] / "grads"
ONE = str(GRADS / "digits_lenet_r0_gradients_iter_20.npy")


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_microbench_writes_what_it_measured(tmp_path: Path) -> None:
    names = "none,fp16,topk,sidco-e,torch-topk,torch:sidco-e"
    inputs = ["--grads", ONE, "--sizes", "5K", "--densities", "0.01", "--methods", names]
    assert microbench.main([*inputs, "--rounds", "6", "--out", str(tmp_path)]) == 0
    rows = read_csv(tmp_path / "microbench.csv")
    assert [row["Method"] for row in rows] == names.split(",") * 2
    assert {row["Elements"] for row in rows} == {"61706", "5000"}
    for row in rows:
        assert float(row["Compress mean"]) > 0
        assert float(row["Decompress mean"]) > 0
        assert row["Rounds"] == "6"
    by_name = {row["Method"]: row for row in rows[:6]}
    assert float(by_name["topk"]["Density achieved"]) == 617 / 61706
    assert float(by_name["topk"]["Payload bytes"]) == 4 + 8 * 617
    assert float(by_name["none"]["Payload bytes"]) == 4 * 61706
    assert by_name["torch-topk"]["torch.topk / compress"] == ""
    assert float(by_name["topk"]["torch.topk / compress"]) > 0
    assert [name for name, row in by_name.items() if row["Same in torch / compress"]] == ["sidco-e"]
    document = json.loads((tmp_path / "microbench.json").read_text())
    assert document["environment"]["cpu"]
    assert len(document["rows"][0]["Compress seconds"]) == 6
    assert (tmp_path / "microbench.png").stat().st_size > 10_000


def test_an_interrupted_microbench_writes_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    honest = microbench.Bench.run

    def interrupted(self: microbench.Bench) -> list[microbench.Row]:
        if self.density == 0.01:
            signal.raise_signal(signal.SIGINT)
        return honest(self)

    monkeypatch.setattr(microbench.Bench, "run", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    options = ["--methods", "topk,none", "--rounds", "2", "--out", str(tmp_path / "two")]
    with pytest.raises(KeyboardInterrupt):
        microbench.main(["--sizes", "5K", "--densities", "0.1,0.01,0.001", *options])
    assert [row["Ratio"] for row in read_csv(tmp_path / "two" / "microbench.csv")] == ["0.1", "0.1"]
    assert len(json.loads((tmp_path / "two" / "microbench.json").read_text())["rows"]) == 2
    with pytest.raises(KeyboardInterrupt):
        microbench.main(["--sizes", "5K", "--densities", "0.01", *options[:-1], str(tmp_path / "none")])
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("feedback", [False, True])
@pytest.mark.parametrize("names", ["sidco-e,torch:sidco-e", "torch:sidco-e", "torch:sidco-e,sidco-e,sidco-gp"])
def test_torch_operations_are_timed_in_the_kernels_steady_state(names: str, feedback: bool, tmp_path: Path) -> None:
    options = ["--grads", ONE, "--densities", "0.001", "--rounds", "1"] + ["--feedback"] * feedback
    args = microbench.arguments([*options, "--out", str(tmp_path)])
    x = torch.from_numpy(store.load(Path(ONE)))
    bench = microbench.Bench("one", x, 0.001, names.split(","), args)
    bench.run()
    alone = methods.Method("sidco-e", x, 0.001, 1, feedback)
    for _ in range(methods.WARM_UP + 3):
        alone.compress()
    side = next(side for side in bench.sides if side.name == "torch:sidco-e")
    assert side.step == alone.step
    assert side.compressor.state_dict()["tried"] == alone.compressor.state_dict()["tried"]
    assert side.compressor.telemetry["stages"] == alone.compressor.telemetry["stages"] > 1


@pytest.mark.parametrize("name", sorted(COMPRESSORS))
@pytest.mark.parametrize("density", [0.1, 0.001])
def test_every_method_agrees_with_the_reference(name: str, density: float) -> None:
    x = torch.from_numpy(store.load(Path(ONE)))
    methods.validate(name, x, density, 2)
    if COMPRESSORS[name].wire == "sparse":
        methods.validate(f"torch:{name}", x, density, 1)


def test_a_method_that_differs_from_the_reference_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit.compression.passes import KernelPasses

    honest = KernelPasses.topk_feedback

    def wrong(self: KernelPasses, gradient: torch.Tensor, residual: torch.Tensor, k: int):  # type: ignore[no-untyped-def]
        indices, values = honest(self, gradient, residual, k)
        return indices, values * (2.0 if self.kernels.__name__ == "cext" else 1.0)

    monkeypatch.setattr(KernelPasses, "topk_feedback", wrong)
    with pytest.raises(RuntimeError, match="topk"):
        methods.validate("topk", torch.randn(1000, generator=torch.Generator().manual_seed(0)), 0.01, 1)


def test_decompression_gives_what_the_payload_means() -> None:
    x = torch.from_numpy(store.load(Path(ONE)))
    for name in ("none", "fp16", "topk", "torch-topk", "sidco-p"):
        method = methods.Method(name, x, 0.01, 1, feedback=False)
        payload = method.compress()
        for _ in range(2):
            assert torch.equal(method.decompress(payload), payload.dense())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to time"),
        (["--sizes", "0"], "--sizes 0"),
        (["--sizes", "1e400"], "--sizes 1e400"),
        (["--sizes", "3G"], "--sizes 3G"),
        (["--sizes", "1M", "--densities", "2"], "--densities 2"),
        (["--sizes", "1M", "--densities", "nan"], "--densities nan"),
        (["--sizes", "1M", "--methods", "topkk"], "did you mean 'topk'"),
        (["--sizes", "1M", "--methods", "torch:none"], "--methods torch:none"),
        (["--sizes", "1M", "--threads", "0"], "--threads 0"),
        (["--grads", "nowhere"], "nowhere: no such file or folder"),
    ],
)
def test_bad_options_are_refused(arguments: list[str], words: str) -> None:
    with pytest.raises(UserError) as error:
        microbench.main(arguments)
    assert words in str(error.value)


def test_sizes() -> None:
    assert microbench.parse_sizes("0.27M,25.6m, 7,1.5K") == [270_000, 25_600_000, 7, 1500]


def test_times_compare_rounds_in_pairs() -> None:
    assert Times([2.0, 20.0, 4.0]).relative(Times([1.0, 10.0, 4.0])) == 2.0
    assert Times([3.0]).std == 0.0
    assert len(list(rounds(100, seconds=0.0, at_least=5))) == 5
    assert len(list(rounds(3, seconds=100.0))) == 3


def test_kolmogorov_distance_is_scipys() -> None:
    rng = np.random.default_rng(0)
    x = np.sort(rng.exponential(2.0, 3000))
    assert gradstats.kolmogorov_distance("exponential", x) == pytest.approx(
        stats.kstest(x, stats.expon(scale=x.mean()).cdf).statistic, abs=1e-9
    )
    normal = np.sort(np.abs(rng.standard_normal(3000)))
    assert gradstats.kolmogorov_distance("exponential", normal) > 0.08
    assert gradstats.kolmogorov_distance("pareto", normal) < 0.05
    half = np.concatenate((np.zeros(1500), np.sort(rng.exponential(1.0, 1500))))
    assert gradstats.kolmogorov_distance("exponential", half) >= 0.5 - 1e-9, "half of the mass is one atom at zero"


def test_gradstats_tells_the_counts_of_each_estimator(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for iteration in range(12):
        gradient = rng.laplace(size=20_000).astype(np.float32)
        store.save(GradientFile("made", "laplace", 0, iteration, tmp_path / "grads"), gradient)
    code = gradstats.main(
        [str(tmp_path / "grads"), "--methods", "sidco-e,topk", "--densities", "0.01", "--out", str(tmp_path / "out")]
    )
    assert code == 0
    rows = read_csv(tmp_path / "out" / "gradstats.csv")
    distances = {row["fit"]: float(row["distance"]) for row in rows if row["fit"]}
    assert max(distances.values()) < 0.02
    counts = [float(row["count_ratio"]) for row in rows if row["method"].startswith("sidco-e M=1")]
    assert len(counts) == 12
    assert np.mean(counts) == pytest.approx(1.0, abs=0.1)
    assert {float(row["count_ratio"]) for row in rows if row["method"] == "topk"} == {1.0}
    for kind in ("histograms", "counts"):
        assert (tmp_path / "out" / f"made_laplace_r0_{kind}.png").stat().st_size > 10_000


def test_gradstats_makes_the_steps_itself(tmp_path: Path) -> None:
    experiment = tmp_path / "small.toml"
    experiment.write_text('[model]\nname = "fcn5"\nhidden = 16\n[data]\nname = "digits"\n')
    options = ["--live", str(experiment), "--steps", "12", "--methods", "sidco-e", "--densities", "0.05"]
    assert gradstats.main([*options, "--out", str(tmp_path / "out")]) == 0
    rows = [row for row in read_csv(tmp_path / "out" / "gradstats.csv") if row["method"]]
    assert [int(row["iteration"]) for row in rows] == list(range(12))
    assert {row["method"] for row in rows} == {"sidco-e"}, "with feedback, stages adapt"
    assert (tmp_path / "out" / "digits_fcn5_r0_counts.png").exists()
    with pytest.raises(UserError, match="--steps 0"):
        gradstats.main([*options, "--steps", "0", "--out", str(tmp_path / "out")])


def test_gradstats_refuses_what_has_no_distribution(tmp_path: Path) -> None:
    first = GradientFile("d", "m", 0, 0, tmp_path)
    store.save(first, np.array([1.0, np.nan], np.float32))
    with pytest.raises(UserError, match="NaN or infinity"):
        gradstats.main([str(tmp_path), "--out", str(tmp_path / "out")])
    store.save(first, np.zeros(4, np.float32))
    store.save(GradientFile("d", "m", 0, 1, tmp_path), np.ones(5, np.float32))
    with pytest.raises(UserError, match="5 elements, but"):
        gradstats.main([str(tmp_path), "--out", str(tmp_path / "out")])
    for options in (["--stages", "40"], ["--methods", "none"], ["--densities", "0"]):
        with pytest.raises(UserError, match=options[0]):
            gradstats.main([str(tmp_path), "--out", str(tmp_path / "out"), *options])
