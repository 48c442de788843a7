"""State on disk: nested dicts and lists of tensors and plain numbers, as one safetensors file. Never a pickle."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from toolkit.errors import UserError


def save_state(path: Path, state: Any) -> str:
    """Write `state` to `path`, flushed to the disk; returns the file's SHA-256."""
    content = pack_state(state)
    write_durably(path, content)
    return hashlib.sha256(content).hexdigest()


def pack_state(state: Any) -> bytes:
    """`state` as the content of a safetensors file."""
    tensors: dict[str, torch.Tensor] = {}
    plain = json.dumps(_encode(state, tensors))
    return safetensors.torch.save(tensors, metadata={"state": plain})


def unpack_state(content: bytes) -> Any:
    """What `pack_state` was given, lists for tuples. Tensors and JSON are read, no code is run, whatever the bytes."""
    size = int.from_bytes(content[:8], "little")
    plain = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["state"])
    return _decode(plain, safetensors.torch.load(content))


def load_state(path: Path, sha256: str) -> Any:
    """Read what `save_state` wrote; UserError where the file is missing or is not the one with that SHA-256."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: checkpoint file cannot be read: {error.strerror}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise UserError(
            f"{path}: damaged checkpoint: SHA-256 {found[:12]}… but {sha256[:12]}… was written; remove its folder to "
            "resume from the one before"
        )
    return unpack_state(content)


def write_durably(path: Path, content: bytes) -> None:
    """Write and flush to the disk, so that a later rename never shows an empty file."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, content: bytes) -> None:
    """Replace `path` whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    write_durably(temporary, content)
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries: renames in it survive a crash."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _encode(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        name = f"t{len(tensors)}"
        tensors[name] = value.detach().clone().contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[_encode(k, tensors), _encode(v, tensors)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"list": [_encode(item, tensors) for item in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a checkpoint holds tensors and plain numbers, not {type(value).__name__}")


def _decode(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "dict" in value:
        return {_decode(k, tensors): _decode(v, tensors) for k, v in value["dict"]}
    return [_decode(item, tensors) for item in value["list"]]
