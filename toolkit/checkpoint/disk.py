"""Atomic checkpoints on disk: every rank writes its part, then one rename makes the whole folder valid.

checkpoints/step-00000100/{manifest.json, model.safetensors, rank0.safetensors, ...}. The manifest holds every file's
SHA-256; a folder without the final name never counts. Killed at any moment, the last complete one is there.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from toolkit.checkpoint.state import load_state, save_state, sync_folder, write_durably
from toolkit.errors import UserError

SCHEMA = "sandtable-checkpoint/3"  # 2: examples behind the running statistics; 3: SIDCo's predictions


class CheckpointStore:
    """The checkpoints of a run folder. All ranks call every method together."""

    def __init__(self, out: Path, comm: Any, keep: int) -> None:
        self.folder = out / "checkpoints"
        self.comm = comm
        self.keep = keep

    def save(self, step: int, shared: Any, own: Any) -> int:
        """Write `shared` (rank 0's) and each rank's `own` state after `step` steps; returns this rank's bytes."""
        if self.comm.rank == 0:
            self.discard_unfinished()
        self.comm.barrier()
        parts = {f"rank{self.comm.rank}": own} | ({"model": shared} if self.comm.rank == 0 else {})
        digests, written = self.write(step, parts)
        gathered = self.comm.gather(digests)
        if self.comm.rank == 0:
            self.seal(step, {file: digest for part in gathered for file, digest in part.items()})
        self.comm.barrier()
        return written

    def write(self, step: int, parts: dict[str, Any]) -> tuple[dict[str, str], int]:
        """Write some of a checkpoint's files; returns their SHA-256 by name, for `seal`, and their bytes. Needs no
        other rank, so workers that do not wait for each other may each write their own."""
        folder = self._unfinished(step)
        folder.mkdir(parents=True, exist_ok=True)
        files = {f"{name}.safetensors": state for name, state in parts.items()}
        digests = {file: save_state(folder / file, state) for file, state in files.items()}
        return digests, sum((folder / file).stat().st_size for file in digests)

    def seal(self, step: int, files: dict[str, str]) -> None:
        """Make a checkpoint count, all files of which are written; one rank does so."""
        temporary, final = self._unfinished(step), self.folder / f"step-{step:08d}"
        manifest = {"schema": SCHEMA, "step": step, "workers": self.comm.size, "files": files}
        write_durably(temporary / "manifest.json", json.dumps(manifest, indent=1).encode())
        sync_folder(temporary)
        shutil.rmtree(final, ignore_errors=True)  # left by a run that went on past an older checkpoint
        temporary.rename(final)
        sync_folder(self.folder)
        self._prune()

    def discard_unfinished(self) -> None:
        """Remove what a killed run, or a phase that ended before all had written, left half-written."""
        for folder in self.folder.glob(".step-*.tmp"):
            shutil.rmtree(folder, ignore_errors=True)

    def _unfinished(self, step: int) -> Path:
        return self.folder / f".step-{step:08d}.tmp"

    def _prune(self) -> None:
        for folder in self._complete()[: -self.keep]:
            shutil.rmtree(folder, ignore_errors=True)

    def _complete(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("step-*") if (path / "manifest.json").is_file())

    def clear(self) -> None:
        """Forget all checkpoints: a fresh run begins in this folder."""
        if self.comm.rank == 0:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.comm.barrier()

    def load(self) -> tuple[int, Any, Any] | None:
        """The last complete checkpoint: its step, the shared state and this rank's own; None if there is none."""
        latest = self.comm.broadcast(str(self._complete()[-1]) if self._complete() else None)
        if latest is None:
            return None
        problem: UserError | None = None
        loaded = None
        try:
            loaded = self._read(Path(latest))
        except UserError as error:
            problem = error
        self.comm.agree(problem)
        return loaded

    def _read(self, folder: Path) -> tuple[int, Any, Any]:
        path = folder / "manifest.json"
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            step, workers, files = manifest["step"], manifest["workers"], manifest["files"]
            schema = manifest["schema"]
            if not isinstance(files, dict):
                raise KeyError("files")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: damaged checkpoint manifest: {error}; remove its folder") from None
        if schema != SCHEMA:
            raise UserError(
                f"{path}: schema = {schema!r}: allowed is {SCHEMA!r}; another version wrote it: remove its folder"
            )
        if workers != self.comm.size:
            raise UserError(
                f"{path}: workers = {workers}, but this run has {self.comm.size}: residuals belong to their rank, so "
                f"resume with -np {workers}"
            )
        own = f"rank{self.comm.rank}.safetensors"
        if not {own, "model.safetensors"} <= files.keys():
            raise UserError(f"{path}: damaged checkpoint manifest: no {own}; remove its folder")
        shared = load_state(folder / "model.safetensors", files["model.safetensors"])
        return step, shared, load_state(folder / own, files[own])
