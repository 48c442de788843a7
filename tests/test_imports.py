"""Who may import whom: the walls between the rooms, read from the source and tried in a process without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SIMULATOR_MAY = {
    "toolkit.errors",
    "toolkit.registry",
    "toolkit.units",
    "toolkit.experiment",
    "toolkit.keys",
    "toolkit.sections",
    "toolkit.trace",
    "toolkit.policies",
}
MPI_WORLD = {"horovod", "mpi4py"}
LEARNING = "simulator.learning"  # the optional extra that needs torch: the one exception

BLOCKED_IMPORT = """
import importlib, pkgutil, sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "horovod", "mpi4py"}:
            raise ImportError(f"{name} is behind the wall")

sys.meta_path.insert(0, Wall())
try:
    import torch
except ImportError:
    pass
else:
    sys.exit("the wall does not hold")
import simulator

names = [m.name for m in pkgutil.walk_packages(simulator.__path__, "simulator.") if not m.name.endswith("__main__")]
names = [name for name in names if not name.startswith("simulator.learning.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def module_name(path: Path) -> str:
    """The dotted name of a source file below the root."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports anywhere in it, functions included; `from a import b` gives a and a.b."""
    found: set[str] = set()
    package = module_name(path).split(".") if path.name == "__init__.py" else module_name(path).split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            found |= {origin} | {f"{origin}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"importlib.import_module", "__import__"}:
            found |= {
                arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
            }
    return found


def sources(package: str) -> list[Path]:
    """The Python files of a package; a package that is not there is an error, not an empty success."""
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"no Python file in {package}/: the walls cannot be checked"
    return files


def inside(name: str, package: str) -> bool:
    """Whether a dotted name is a package or something below it."""
    return name == package or name.startswith(package + ".")


def breaches(files: list[Path], *forbidden: str) -> list[str]:
    """Each import of a forbidden package, as "file imports name"."""
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in sorted(imports_of(path))
        if any(inside(name, package) for package in forbidden)
    ]


def test_only_comm_imports_horovod_and_mpi4py():
    files = [path for package in ("toolkit", "simulator", "cext") for path in sources(package)]
    comm = ROOT / "toolkit" / "comm.py"
    assert comm in files
    assert breaches([comm], *MPI_WORLD), "comm.py no longer imports them: this test would check nothing"
    assert breaches([path for path in files if path != comm], *MPI_WORLD) == []


def test_toolkit_never_imports_the_simulator():
    assert breaches(sources("toolkit"), "simulator") == []


def test_kernels_import_neither_world():
    assert breaches(sources("cext"), "toolkit", "simulator", "torch", *MPI_WORLD) == []


def test_compression_and_optim_know_no_communicator():
    for package in ("toolkit/compression", "toolkit/optim"):
        assert breaches(sources(package), "toolkit.comm", "toolkit.exchange", *MPI_WORLD, "torch.distributed") == []


def test_simulator_imports_only_the_shared_part_of_toolkit():
    files = [path for path in sources("simulator") if not inside(module_name(path), LEARNING)]
    assert breaches(files, "torch", *MPI_WORLD) == []
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in sorted(imports_of(path))
        if inside(name, "toolkit") and name != "toolkit" and not any(inside(name, may) for may in SIMULATOR_MAY)
    ]
    assert wrong == []


def test_learning_in_simulated_time_needs_no_mpi_and_nobody_needs_it():
    files = sources("simulator")
    extra = [path for path in files if inside(module_name(path), LEARNING)]
    assert breaches(extra, "torch"), "it no longer imports torch: this exception would be none"
    assert breaches(extra, *MPI_WORLD, "toolkit.comm", "toolkit.exchange", "toolkit.reducer", "toolkit.sync") == []
    assert breaches([path for path in files if path not in extra], LEARNING) == []


def test_simulator_imports_without_torch_horovod_and_mpi4py():
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED_IMPORT], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import horovod.torch as hvd", "horovod.torch"),
        ("from mpi4py import MPI", "mpi4py"),
        ("def f():\n    from ..comm import Communicator", "toolkit.comm"),
        ("from .. import comm", "toolkit.comm"),
        ("import importlib\nimportlib.import_module('torch')", "torch"),
    ],
)
def test_the_scan_sees_every_form_of_import(text, expected, monkeypatch, tmp_path):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "toolkit" / "optim" / "sgd.py"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert expected in imports_of(path)
