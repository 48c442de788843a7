"""What a sample says of thresholds to come: the errors are those of Tukey's jackknife over groups, to first order."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import cext
from cext import reference
from toolkit.compression.fits import FITS, KERNEL_FITS, Fit, Shape, stage_ratios

GROUPS, EACH, RATIO = 16, 320, 0.05
LAWS = {
    "exponential": lambda rng, n: rng.laplace(size=n),
    "normal": lambda rng, n: rng.standard_normal(n),
    "gamma": lambda rng, n: rng.gamma(0.6, size=n) * rng.choice((-1, 1), n),
}
both = pytest.mark.parametrize("module", [cext, reference], ids=["kernel", "reference"])


def draw(law: str, n: int, seed: int = 0) -> NDArray[np.float32]:
    made: NDArray[np.float32] = LAWS[law](np.random.default_rng(seed), n).astype(np.float32)
    return made


def stage(fit: Fit, ratio: float, by_kernel: bool = True) -> cext.StageFit:
    code = KERNEL_FITS.get(fit, cext.FIT_OTHER) if by_kernel else cext.FIT_OTHER
    return code, ratio, lambda count, mean, square, log, _: fit(Shape.of_means(count, mean, square, log), ratio)


def plan(names: str, density: float = 0.01, by_kernel: bool = True) -> list[cext.StageFit]:
    fits = [FITS[name] for name in names.split()]
    ratios = stage_ratios(density, len(fits), 0.25)
    return [stage(fit, ratio, by_kernel) for fit, ratio in zip(fits, ratios, strict=True)]


def only(of: Callable[..., float]) -> list[cext.StageFit]:
    return [(cext.FIT_OTHER, RATIO, of)]


def assert_alike(a: Any, b: Any) -> None:
    assert (a is None) == (b is None)
    if a is None:
        return
    np.testing.assert_allclose(a[:2], b[:2], rtol=1e-6)
    np.testing.assert_allclose(a.brackets, b.brackets, rtol=2.0**-19)
    assert len(a.brackets) == len(b.brackets)
    np.testing.assert_allclose(a[3:], b[3:], rtol=0.01, atol=2)  # elements at a bracket's ends


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(
    "fits", ["exponential", "pareto pareto", "gamma pareto pareto", "exponential exponential exponential exponential"]
)
def test_kernel_equals_reference(level: str, law: str, fits: str) -> None:
    for n in (GROUPS * 32, 4999, 65_536):
        sample = draw(law, n + 1)[1:]
        wanted = reference.predict_stages(sample, GROUPS, plan(fits), 4.0, 16)
        got = cext.predict_stages(sample, GROUPS, plan(fits), 4.0, 16)
        assert_alike(got, wanted)
        # Fits that a kernel computes by itself are those of Python.
        assert_alike(got, cext.predict_stages(sample, GROUPS, plan(fits, by_kernel=False), 4.0, 16))
        assert n < 65_536 or got is not None


def test_every_instruction_set_says_the_same_to_the_bit() -> None:
    sample, said, before = draw("normal", 20_000), [], cext.simd()
    for level in cext.capabilities():
        cext.use(level)
        said.append(cext.predict_stages(sample, GROUPS, plan("pareto pareto"), 4.0, 16))
    cext.use(before)
    assert said[0] is not None
    assert all(each == said[0] for each in said)


@both
def test_brackets_ascend_around_their_thresholds_and_counts_are_true(module: ModuleType) -> None:
    sample = draw("exponential", 65_536)
    told = module.predict_stages(sample, GROUPS, plan("exponential exponential exponential"), 4.0, 16)
    bounds = [bound for bracket in told.brackets for bound in bracket]
    assert bounds == sorted(bounds)
    assert told.brackets[-1][0] < told.threshold < told.brackets[-1][1]
    assert told.threshold - told.brackets[-1][0] == pytest.approx(4.0 * told.error)
    assert all(cext.short_above(high) == high for _, high in told.brackets)
    assert told.brackets[-1][1] == cext.short_above(told.threshold + 4.0 * told.error)
    magnitudes = np.abs(sample)
    assert told.above == np.count_nonzero(magnitudes > told.brackets[-1][0])
    assert told.inside == sum(np.count_nonzero((magnitudes > a) & (magnitudes <= b)) for a, b in told.brackets[:-1])


@both
def test_of_a_mean_the_error_is_the_jackknifes_exactly(module: ModuleType) -> None:
    sample = draw("normal", GROUPS * EACH + 7)
    told = module.predict_stages(sample, GROUPS, only(lambda _, mean, *__: mean), 1.0, 1)
    means = np.abs(sample[: GROUPS * EACH].astype(np.float64)).reshape(GROUPS, EACH).mean(1)
    rest = (means.sum() - means) / (GROUPS - 1)
    assert told.threshold == pytest.approx(means.mean())
    assert told.error == pytest.approx(math.sqrt((GROUPS - 1) / GROUPS * ((rest - rest.mean()) ** 2).sum()))


@both
def test_somebody_elses_fit_is_asked_with_the_means(module: ModuleType) -> None:
    sample, asked = draw("normal", GROUPS * EACH), []

    def of(*means: float) -> float:
        asked.append(means)
        return 1.0 + means[1]

    module.predict_stages(sample, GROUPS, [(cext.FIT_OTHER, 0.2, of)] * 2, 1.0, 1)
    x, first = sample.astype(np.float64), asked[0]
    logs = np.log(np.abs(sample) + np.float32(2.2e-16), dtype=np.float64)
    np.testing.assert_allclose(first, (len(x), np.abs(x).mean(), (x * x).mean(), logs.mean(), x.mean()), rtol=1e-9)
    excess = np.abs(x)[np.abs(x) > 1.0 + first[1]] - (1.0 + first[1])
    later = next(means for means in asked if math.isnan(means[3]))
    np.testing.assert_allclose(later[:3], (len(excess), excess.mean(), (excess**2).mean()), rtol=1e-9)
    assert math.isnan(later[4])


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("law", LAWS)
def test_of_a_fit_the_error_is_near_the_jackknife_and_the_truth(fit: str, law: str) -> None:
    values, errors = [], []
    for seed in range(60):
        sample = draw(law, GROUPS * EACH, seed)
        told = cext.predict_stages(sample, GROUPS, [stage(FITS[fit], RATIO)], 1.0, 1)
        assert told is not None
        parts = np.abs(sample.astype(np.float64)).reshape(GROUPS, EACH)
        assert told.threshold == pytest.approx(_threshold(FITS[fit], parts))
        rest = np.array([_threshold(FITS[fit], np.delete(parts, g, 0)) for g in range(GROUPS)])
        jackknife = math.sqrt((GROUPS - 1) / GROUPS * ((rest - rest.mean()) ** 2).sum())
        assert told.error == pytest.approx(jackknife, rel=0.25)
        values.append(told.threshold)
        errors.append(told.error)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(values), rel=0.35)


def _threshold(fit: Fit, parts: NDArray[np.float64]) -> float:
    logs = np.log(parts + 2.2e-16).mean()
    return fit(Shape.of_means(parts.size, float(parts.mean()), float((parts**2).mean()), float(logs)), RATIO)


@both
def test_neighbours_that_resemble_each_other_widen_it(module: ModuleType) -> None:
    alone = draw("exponential", GROUPS * EACH, 3)
    alike = np.repeat(alone[: GROUPS * EACH // 32], 32)
    errors = [module.predict_stages(x, GROUPS, plan("exponential"), 1.0, 1).error for x in (alone, alike)]
    assert errors[1] > 3 * errors[0]


@both
@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_what_cannot_be_told_is_not(module: ModuleType, value: float) -> None:
    sample = draw("normal", GROUPS * EACH)
    for fits in ("exponential", "pareto pareto", "gamma pareto"):
        everywhere = np.full_like(sample, value)
        sample[1234] = value
        assert module.predict_stages(everywhere, GROUPS, plan(fits), 4.0, 16) is None
        assert value == 0.0 or module.predict_stages(sample, GROUPS, plan(fits), 4.0, 16) is None


@both
def test_too_little_says_nothing(module: ModuleType) -> None:
    sample, deep = draw("normal", GROUPS * 40), plan("exponential exponential exponential", 0.0001)
    assert module.predict_stages(sample, GROUPS, deep, 4.0, 16) is None  # too few survivors
    assert module.predict_stages(sample[:9], GROUPS, plan("exponential"), 4.0, 0) is None  # empty groups
    assert module.predict_stages(sample[:0], GROUPS, plan("exponential"), 4.0, 0) is None
    assert module.predict_stages(sample, GROUPS, [], 4.0, 16) is None
    close = plan("exponential exponential exponential", 0.24)
    assert module.predict_stages(sample, GROUPS, close, 40.0, 16) is None  # one stage cannot be told from the next


def test_what_a_fit_raises_comes_through() -> None:
    sample = draw("normal", GROUPS * EACH)

    def fails(*_: float) -> float:
        raise RuntimeError("no such threshold")

    with pytest.raises(RuntimeError, match="no such threshold"):
        cext.predict_stages(sample, GROUPS, only(fails), 4.0, 16)
    with pytest.raises(TypeError, match="a fit's threshold must be a number, not str"):
        cext.predict_stages(sample, GROUPS, only(lambda *_: "much"), 4.0, 16)  # type: ignore[arg-type, return-value]


def test_a_fit_may_change_the_list_that_it_is_called_from() -> None:
    """What is asked in between holds on to nothing of the caller's."""
    sample, stages = draw("normal", GROUPS * EACH), []

    class Clears:
        def __call__(self, *means: float) -> float:
            stages.clear()
            return 1.0 + 0.5 * means[1]

    stages += [(cext.FIT_OTHER, 0.2, Clears()), (cext.FIT_OTHER, 0.2, Clears())]
    told = cext.predict_stages(sample, GROUPS, stages, 1.0, 1)
    assert told is not None
    assert len(told.brackets) == 2


def test_a_fit_may_call_kernels_and_be_interrupted() -> None:
    sample = draw("normal", GROUPS * EACH)
    told = cext.predict_stages(
        sample, GROUPS, only(lambda _, mean, *__: mean + cext.moments(sample[:99]).max_abs), 1.0, 1
    )
    assert told is not None

    class Interrupted:
        def __float__(self) -> float:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cext.predict_stages(sample, GROUPS, only(lambda *_: Interrupted()), 1.0, 1)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("stages", "error", "message"),
    [
        ([(9, 0.1, abs)], ValueError, "fit = 9: allowed are 0 to 2"),
        ([(1, 0.0, abs)], ValueError, "ratio must be above 0 and at most 1"),
        ([(1, math.nan, abs)], ValueError, "ratio must be above 0"),
        ([(1, 0.1)], TypeError, "every stage must be a tuple"),
        (7, TypeError, "stages must be a sequence"),
        ([(1, 0.5, abs)] * 18, ValueError, "18 stages: at most 17 are allowed"),
    ],
)
def test_wrong_stages_are_refused(stages: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        cext.predict_stages(np.ones(999, np.float32), GROUPS, stages, 4.0, 16)


@both
@pytest.mark.parametrize("width", [-1.0, math.nan])
def test_a_width_is_not_negative(module: ModuleType, width: float) -> None:
    with pytest.raises(ValueError, match="width must be 0 or more"):
        module.predict_stages(np.ones(999, np.float32), GROUPS, plan("exponential"), width, 16)


@pytest.mark.parametrize("groups", [0, 1, 257])
def test_groups_are_two_to_256(groups: int) -> None:
    with pytest.raises(ValueError, match="groups = "):
        cext.predict_stages(np.ones(999, np.float32), groups, plan("exponential"), 4.0, 16)
