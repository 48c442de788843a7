"""Helper threads: one call's own, whoever else calls; none after a fork; where the caller may run; deaf to signals."""

import json
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cext

N = 3_200_007
linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="asks /proc about threads")


def selected(seed: int, threads: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(seed).standard_normal(N, dtype=np.float32)
    k = N // 50
    indices, values = np.zeros(k, np.int32), np.zeros(k, np.float32)
    cext.topk_select(x, k, indices, values, np.zeros(cext.topk_workspace(N, k), np.uint8), threads)
    return indices, values


def asked(program: str) -> Any:
    """What a Python program of its own prints, as JSON."""
    text = "import json, os, signal, numpy as np, cext\nx = np.ones(3_000_000, np.float32)\n" + textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_calls_at_the_same_time_do_not_meet(threads: int) -> None:
    wanted = [selected(seed, 1) for seed in range(4)]
    with ThreadPoolExecutor(8) as pool:
        for seed, found in enumerate(pool.map(lambda i: selected(i % 4, threads), range(48))):
            for got, expected in zip(found, wanted[seed % 4], strict=True):
                np.testing.assert_array_equal(got, expected)


def test_more_threads_than_the_work_has_parts() -> None:
    for got, expected in zip(selected(1, 256), selected(1, 1), strict=True):
        np.testing.assert_array_equal(got, expected)


@linux
def test_the_child_of_a_fork_has_helpers_of_its_own() -> None:
    found = asked("""
        before = float(cext.max_abs(x, 2))
        child = os.fork()
        if child == 0:
            x[7] = 3
            right = all(float(cext.max_abs(x, 2)) == 3 for _ in range(20))
            os._exit(0 if right and len(os.listdir("/proc/self/task")) == 2 else 1)
        print(json.dumps([before, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), float(cext.max_abs(x, 2))]))
    """)
    assert found == [1.0, 0, 1.0]


def test_denormals_count_as_torch_has_set_the_caller_whenever_that_changes() -> None:
    """Each thread has a mode of its own: a helper takes the caller's in every call."""
    torch = pytest.importorskip("torch")
    gradient = np.full(N, 1e-39, np.float32)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor has no such mode")
    try:
        for flush in (True, False, True, False):
            torch.set_flush_denormal(flush)
            residual = gradient.copy()
            for _ in range(5):  # a helper may come late
                residual[:] = gradient
                cext.add(gradient, residual, 3)
                assert not flush or not residual.view(np.int32).any()
                assert flush or residual.view(np.int32).all()
    finally:
        torch.set_flush_denormal(False)


@linux
def test_one_helper_serves_all_calls_that_follow_each_other() -> None:
    found = asked("""
        count = lambda: len(os.listdir("/proc/self/task"))
        alone = count()
        for _ in range(50):
            cext.max_abs(x, 2)
        print(json.dumps([count() - alone]))
    """)
    assert found == [1]


@linux
def test_a_helper_runs_where_its_caller_may_and_takes_no_signals() -> None:
    found = asked("""
        allowed = sorted(os.sched_getaffinity(0))
        own = set(os.listdir("/proc/self/task"))
        cext.max_abs(x, 2)
        (helper,) = set(os.listdir("/proc/self/task")) - own
        masks = []
        for some in (allowed[:1], allowed[-1:], allowed):
            os.sched_setaffinity(0, some)
            cext.max_abs(x, 2)
            masks.append(set(os.sched_getaffinity(int(helper))) <= set(some))
        status = dict(line.split(":", 1) for line in open(f"/proc/self/task/{helper}/status"))
        blocked = int(status["SigBlk"], 16)
        print(json.dumps([masks, *(blocked >> number - 1 & 1 for number in (signal.SIGINT, signal.SIGSEGV))]))
    """)
    assert found == [[True, True, True], 1, 0]


@linux
@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="the sanitizer itself ends without memory")
def test_fewer_threads_do_the_same_where_no_more_are_to_be_had() -> None:
    found = asked("""
        import resource
        x[11] = 5
        threads = len(os.listdir("/proc/self/task"))
        used = 4096 * int(open("/proc/self/statm").read().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (used, used))  # no room for another stack
        largest = [float(cext.max_abs(x, 4)) for _ in range(3)]
        print(json.dumps([largest, len(os.listdir("/proc/self/task")) - threads]))
    """)
    assert found == [[5.0, 5.0, 5.0], 0]
