"""`python -m toolkit doctor`: what of Sandtable works on this machine, each line checked by doing it.

A line is ok, FAILED (with what to do) or absent (not there, and only some parts of the house want it). The ranks of the
MPI and Horovod lines are real processes under mpirun, so this module itself imports neither.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MPI_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 10.0

MPI_PROGRAM = (
    "from mpi4py import MPI; c = MPI.COMM_WORLD; total = c.allreduce(c.rank + 1);"
    "v = MPI.Get_library_version().split(',')[0].strip();"
    "c.rank == 0 and print(f'sum {total} over {c.size} ranks, {v}')"
)
HOROVOD_PROGRAM = "from toolkit.comm import self_test; self_test()"


class Absent(Exception):
    """The thing is not on this machine, which is no failure; the message says who would want it."""


@dataclass(frozen=True)
class Check:
    """One line of the report: a name, the function that does the thing, and whether a failure fails the whole."""

    name: str
    run: Callable[[], str]
    required: bool = True


@dataclass(frozen=True)
class Finding:
    """What a check found: status "ok", "FAILED" or "absent", one line of detail, and the seconds it took."""

    name: str
    status: str
    detail: str
    required: bool
    seconds: float


def check_python() -> str:
    """The interpreter is one that the house is written for."""
    if sys.version_info[:2] != (3, 11):
        raise RuntimeError(f"this is {sys.version.split()[0]}; Horovod 0.28.1 is built and tested with 3.11 only")
    return f"{sys.version.split()[0]} at {sys.executable}"


def check_torch() -> str:
    """A matrix product's gradient by torch equals the closed form."""
    import torch

    generator = torch.Generator().manual_seed(7)
    x = torch.randn(64, 32, generator=generator)
    w = torch.randn(32, 16, generator=generator, requires_grad=True)
    (x @ w).square().sum().backward()
    torch.testing.assert_close(w.grad, 2 * x.T @ (x @ w.detach()))
    return f"{torch.__version__}, a gradient equal to its closed form, {torch.get_num_threads()} threads"


def mpirun_command(ranks: int, program: str) -> list[str]:
    """How to run a line of Python on `ranks` local ranks: by the clone's script, or by the mpirun in PATH."""
    script = ROOT / "run_scripts" / "mpirun.sh"
    if script.exists():
        launcher = [str(script)]
    elif found := shutil.which("mpirun"):
        launcher = [found, "--oversubscribe", "--bind-to", "none"]
    else:
        raise RuntimeError("no mpirun in PATH: run ./run_scripts/setup.sh")
    return [*launcher, "-np", str(ranks), sys.executable, "-c", program]


def last_lines(text: str, count: int = 3) -> str:
    """The last lines that say something, joined to one: without the frames that mpirun draws."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and set(line.strip()) != {"-"}]
    return " / ".join(lines[-count:]) or "no output"


def end_job(process: subprocess.Popen[str], grace_s: float = 10.0) -> None:
    """End mpirun and its ranks. Only mpirun can reach the ranks (each has a session of its own): ask it first."""
    process.terminate()
    try:
        process.communicate(timeout=grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def error_line(err: str) -> str:
    """The line of a job's errors that says most: a rank that is ended while it writes leaves its own cut short."""
    errors = [line.strip() for line in err.splitlines() if "Error" in line]
    told = [line for line in errors if "Error: " in line]
    return (told or errors or [last_lines(err)])[-1]


def run_ranks(ranks: int, program: str, timeout_s: float = MPI_TIMEOUT_S) -> str:
    """Run `program` on `ranks` ranks and return its output; RuntimeError where it fails or takes too long."""
    process = subprocess.Popen(
        mpirun_command(ranks, program),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        end_job(process)
        raise RuntimeError(f"no answer in {timeout_s:.0f} s from {ranks} ranks") from None
    if process.returncode != 0:
        raise RuntimeError(f"mpirun ended with {process.returncode}: {error_line(err)}")
    return out.strip()


def check_mpi() -> str:
    """Two processes add their numbers by MPI."""
    out = run_ranks(2, MPI_PROGRAM)
    if not out.startswith("sum 3 over 2 ranks"):
        raise RuntimeError(f"expected 'sum 3 over 2 ranks', got '{last_lines(out)}'")
    return f"two-rank allreduce: {out}"


def check_horovod() -> str:
    """Two processes add their tensors by Horovod."""
    out = run_ranks(2, HOROVOD_PROGRAM)
    if not out.startswith("ok"):
        raise RuntimeError(f"expected 'ok …' of two ranks, got '{last_lines(out)}'")
    return f"two-rank allreduce of the trainer's own communicator: {last_lines(out, 1)}"


def check_cext() -> str:
    """A kernel at every instruction-set level selects what the NumPy reference selects."""
    import numpy as np

    import cext
    from cext import reference

    x = np.random.default_rng(7).standard_normal(10_007).astype(np.float32)

    def selection(threshold_select: Callable[..., int]) -> tuple[bytes, bytes]:
        indices, values = np.empty(x.size, np.int32), np.empty(x.size, np.float32)
        count = threshold_select(x, 1.5, indices, values)
        return indices[:count].tobytes(), values[:count].tobytes()

    expected = selection(reference.threshold_select)
    active = cext.simd()
    try:
        for level in cext.capabilities():
            cext.use(level)
            if selection(cext.threshold_select) != expected:
                raise RuntimeError(f"threshold_select at level {level} differs from the reference")
    finally:
        cext.use(active)
    count = len(expected[0]) // 4
    return f"level {active} of {', '.join(cext.capabilities())}; {count} of {x.size} selected at each, as the reference"


def check_data() -> str:
    """The data sets that are in every install load."""
    from toolkit.data import digits

    pictures, _ = digits.read()
    sources = list(Path(os.__file__).parent.glob("*.py"))
    if pictures.shape != (1797, 8, 8):
        raise RuntimeError(f"digits: expected 1797 pictures of 8x8, got an array of shape {pictures.shape}")
    if not sources:
        raise RuntimeError(f"pysource: no *.py in {Path(os.__file__).parent}: this Python comes without its sources")
    return f"digits: {len(pictures)} pictures; pysource: {len(sources)} modules"


def cache_folder() -> Path:
    """Where set-up keeps the built Horovod: SANDTABLE_CACHE, else sandtable in the user's cache folder."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("SANDTABLE_CACHE") or home / "sandtable")


def check_cache() -> str:
    """A file can be written to the cache folder."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"sandtable")
    except OSError as error:
        raise Absent(f"{folder} cannot be written ({error.strerror}): every set-up will build Horovod again") from error
    return f"{folder} can be written"


def check_gpu() -> str:
    """A matrix product on the first GPU equals the CPU's."""
    import torch

    if not torch.cuda.is_available():
        raise Absent("no GPU that this torch can use; the trainer runs on the CPU")
    a = torch.randn(256, 256, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    torch.testing.assert_close((a.cuda() @ a.cuda()).cpu(), a @ a)
    return f"{torch.cuda.get_device_name(0)}: a product equal to the CPU's; {torch.cuda.device_count()} device(s)"


def check_triton() -> str:
    """On the first GPU, the Triton passes take what the C kernels take."""
    import torch

    from toolkit.compression.passes import KernelPasses, triton_passes

    passes = triton_passes()
    if passes is None:
        raise Absent("not installed: CUDA tensors are compressed in torch operations")
    import triton

    if not torch.cuda.is_available():
        raise Absent(f"{triton.__version__} is installed, but there is no GPU for it; only CUDA tensors want it")
    x = torch.randn(1_000_003, generator=torch.Generator().manual_seed(7))
    found, expected = passes.topk(x.cuda(), 1000), KernelPasses(1).topk(x, 1000)
    if not all(torch.equal(a.cpu(), b) for a, b in zip(found, expected, strict=True)):
        raise RuntimeError("the top-k of 1,000,003 elements on the GPU differs from the C kernels'")
    return f"{triton.__version__}: top-k of {x.numel():,} elements on the GPU as in C"


def run_command(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a system command and return its outcome, whatever the exit code."""
    return subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)


def check_testbed() -> str:
    """A network namespace with a shaped interface can be made and removed again."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        raise Absent("needs root and iproute2; only the emulated cluster wants it")
    name = f"sandtable-doctor-{os.getpid()}"
    made = run_command("ip", "netns", "add", name)
    if made.returncode != 0:
        raise Absent(f"'ip netns add' is refused ({last_lines(made.stderr, 1)}); only the emulated cluster wants it")
    try:
        shape = ("ip", "netns", "exec", name, "tc", "qdisc", "replace", "dev", "lo", "root")
        rate = run_command(*shape, "tbf", "rate", "100mbit", "burst", "16kb", "latency", "50ms")
        delay = run_command(*shape, "netem", "delay", "1ms")
    finally:
        removed = run_command("ip", "netns", "delete", name)
    if removed.returncode != 0:
        raise RuntimeError(f"network namespace {name} cannot be removed: {last_lines(removed.stderr, 1)}")
    if rate.returncode != 0:
        raise Absent(f"a rate cannot be set ({last_lines(rate.stderr, 1)}); only the emulated cluster wants it")
    return f"namespace made and removed, rate limit set; added latency (netem): {'no' if delay.returncode else 'yes'}"


CHECKS = (
    Check("Python", check_python),
    Check("torch", check_torch),
    Check("MPI", check_mpi),
    Check("Horovod", check_horovod),
    Check("kernels", check_cext),
    Check("data", check_data),
    Check("cache", check_cache, required=False),
    Check("GPU", check_gpu, required=False),
    Check("Triton", check_triton, required=False),
    Check("testbed", check_testbed, required=False),
)


def examine(check: Check) -> Finding:
    """Do one check; whatever it raises becomes its finding, since the other lines are still wanted."""
    began = time.perf_counter()
    try:
        status, detail = "ok", check.run()
    except Absent as reason:
        status, detail = "absent", str(reason)
    except Exception as error:
        first = (str(error).strip().splitlines() or ["no message"])[0]
        hint = "; run ./run_scripts/setup.sh" if isinstance(error, ImportError) else ""
        status, detail = "FAILED", f"{type(error).__name__}: {first}{hint}"
    return Finding(check.name, status, detail, check.required, round(time.perf_counter() - began, 3))


def doctor(argv: Sequence[str], checks: Sequence[Check] = CHECKS) -> int:
    """Report every check on stdout, as lines or as JSON; 0 unless a required one FAILED, then 1."""
    parser = argparse.ArgumentParser(
        prog="python -m toolkit doctor", description="Say what works on this machine, each line checked by doing it."
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout instead of lines")
    options = parser.parse_args(argv)
    findings = []
    for check in checks:
        finding = examine(check)
        findings.append(finding)
        if not options.json:
            print(f"{finding.status:<7} {finding.name:<8} {finding.detail} ({finding.seconds:.2f} s)", flush=True)
    healthy = not any(finding.required and finding.status == "FAILED" for finding in findings)
    if options.json:
        print(json.dumps({"ok": healthy, "checks": [asdict(finding) for finding in findings]}, indent=2))
    return 0 if healthy else 1
