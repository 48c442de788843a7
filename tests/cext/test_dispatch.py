"""Run-time dispatch, the arguments that are refused, the released GIL, and that both modules have the same face."""

import inspect
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import cext
from cext import reference


def test_every_kernel_has_a_reference_of_the_same_signature():
    types = {"Collected", "Moments", "Predicted", "StageFit"}
    not_kernels = types | {"DRAW_BLOCK", "LEVELS", "capabilities", "huge_pages", "short_above", "simd", "use"}
    for name in set(cext.__all__) - not_kernels:
        if name.startswith(("SUM_", "FIT_", "HALF_")) or name.endswith("_SQUARED"):
            continue
        assert inspect.signature(getattr(cext, name)) == inspect.signature(getattr(reference, name)), name


def test_levels(level):
    assert cext.simd() == level
    assert cext.capabilities()[0] == "serial"


def test_an_unknown_level_is_refused():
    with pytest.raises(ValueError, match="SANDTABLE_SIMD = sse9: allowed on this processor: serial"):
        cext.use("sse9")


@pytest.mark.parametrize("name", cext.capabilities())
def test_the_environment_forces_a_level(name):
    code = "import cext; print(cext.simd())"
    environment = {**os.environ, "SANDTABLE_SIMD": name}
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == name


def test_the_environment_cannot_force_what_is_not_there():
    environment = {**os.environ, "SANDTABLE_SIMD": "neon"}
    shown = subprocess.run([sys.executable, "-c", "import cext"], env=environment, capture_output=True, text=True)
    assert shown.returncode != 0
    assert "SANDTABLE_SIMD = neon: allowed on this processor" in shown.stderr.splitlines()[-1]


F, INDEX = np.zeros(8, np.float32), np.zeros(8, np.int32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: cext.moments(F.astype(np.float64)), TypeError, "x must be a one-dimensional float32 array"),
        (lambda: cext.moments(F.reshape(2, 4)), TypeError, "x must be a one-dimensional"),
        (lambda: cext.moments(F[::2]), TypeError, "x must be a C-contiguous float32 array"),
        (lambda: cext.moments([1.0]), TypeError, "x must be a C-contiguous float32 array, not list"),
        (lambda: cext.moments(F, 0), ValueError, "threads = 0: allowed are 1 to 256"),
        (lambda: cext.moments(F, 1.5), TypeError, "threads must be an integer, not float"),
        (lambda: cext.threshold_select(F, "a", INDEX, F.copy()), TypeError, "threshold must be a number, not str"),
        (lambda: cext.threshold_select(F, np.nan, INDEX, F.copy()), ValueError, "threshold = nan"),
        (lambda: cext.tail_moments(F, np.nan), ValueError, "threshold = nan"),
        (lambda: cext.count_above(F, np.nan), ValueError, "threshold = nan"),
        (lambda: cext.count_above(F[::2], 1.0), TypeError, "x must be a C-contiguous float32 array"),
        (lambda: cext.threshold_select(F, 0.1, INDEX.astype(np.int64), F), TypeError, "out indices must be .* int32"),
        (lambda: cext.threshold_select(F, 0.1, INDEX, F), ValueError, "x and out values share memory"),
        (lambda: cext.threshold_select(F, 0.1, INDEX, F[:3].copy()), ValueError, "has 8 elements, out values has 3"),
        (lambda: cext.moments_feedback(F, F), ValueError, "gradient and residual share memory"),
        (lambda: cext.moments_feedback(F, F[:3].copy()), ValueError, "gradient has 8 elements, residual has 3"),
        (lambda: cext.topk_workspace(5, 6), ValueError, "k = 6: allowed are 0 to 5"),
        (lambda: cext.topk_predictable(5, 6), ValueError, "k = 6: allowed are 0 to 5"),
        (
            lambda: cext.topk_select(F, 9, INDEX, F.copy(), np.empty(0, np.uint8)),
            ValueError,
            "k = 9: allowed are 0 to 8",
        ),
        (lambda: cext.topk_select(F, 8, INDEX[:2], F[:2].copy(), np.empty(0, np.uint8)), ValueError, "has room for 2"),
        (
            lambda: cext.topk_select(F, 8, INDEX, F.copy(), np.empty(3, np.uint8)),
            ValueError,
            "workspace has room for 3",
        ),
        (lambda: cext.zero_at(F, np.zeros(2, np.int64)), TypeError, "indices must be a one-dimensional int32 array"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_read_only_output_is_refused():
    values = F.copy()
    values.flags.writeable = False
    with pytest.raises(TypeError, match="out values must be a writable"):
        cext.threshold_select(F, 0.1, INDEX, values)


def test_an_odd_address_is_refused():
    odd = np.frombuffer(bytes(9), np.uint8)[1:].view(np.float32)
    with pytest.raises(ValueError, match="x must be aligned to its 4-byte elements"):
        cext.moments(odd)


def test_the_gil_is_released():
    """A kernel call of some 10 ms must not stop another Python thread that counts; with the GIL held it could not."""
    sys.setswitchinterval(1e-5)
    x = np.random.default_rng(0).standard_normal(20_000_000).astype(np.float32)
    seen, counted, done = [], [0], threading.Event()

    def count() -> None:
        while not done.is_set():
            counted[0] += 1

    counter = threading.Thread(target=count)
    counter.start()
    before, level = cext.simd(), "serial"
    cext.use(level)  # the slowest, to leave the other thread time
    for _ in range(10):
        start = counted[0]
        cext.moments(x)
        seen.append(counted[0] - start)
    done.set()
    counter.join()
    cext.use(before)
    sys.setswitchinterval(0.005)
    assert max(seen) > 1000
