"""Files that commands leave: whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from toolkit.errors import UserError


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON atomically; UserError where it cannot be written."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text atomically; UserError where it cannot be written."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
