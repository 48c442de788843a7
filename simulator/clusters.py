"""Cluster files: a [cluster] section on its own, laid over an experiment (exp_configs/clusters/)."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

from toolkit.errors import UserError
from toolkit.experiment import Experiment, load, parse


def load_on(file: str, cluster: str | None, overrides: Sequence[str]) -> Experiment:
    """An experiment on the cluster of another file; overrides come last. UserError names what is wrong."""
    return load(file, [*(cluster_overrides(cluster) if cluster else ()), *overrides])


def cluster_overrides(file: str) -> list[str]:
    """A cluster file as "cluster.key=value" texts, checked under its own name."""
    try:
        document = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file}: no such cluster file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{file}: not a cluster file: {error}") from None
    other = [name for name in document if name != "cluster"]
    if other or not isinstance(document.get("cluster"), dict):
        raise UserError(
            f"{file}: sections {', '.join(document) or 'none'}: a cluster file holds [cluster] and no other"
        )
    parse(document, file)
    return [f"cluster.{key}={_toml(value)}" for key, value in document["cluster"].items()]


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else repr(value)
