"""Leaves torch's compiler out of processes that never compile.

The first optimizer that torch constructs imports torch._dynamo, and sympy with it, only to tell the compiler where not
to look: as much processor time in every rank as `import torch` itself. Until someone asks for more than that, a
stand-in answers; whoever does gets the real module.
"""

from __future__ import annotations

import importlib
import sys
import threading
from types import ModuleType
from typing import Any

import torch

NAME = "torch._dynamo"
_loading = threading.RLock()


class _NotLoaded(ModuleType):
    """torch._dynamo as far as optimizers call it; any other attribute loads it."""

    @staticmethod
    def graph_break(*_: Any, **__: Any) -> None:
        """Nothing is traced, so nothing breaks."""

    @staticmethod
    def disable(function: Any = None, *_: Any, **__: Any) -> Any:
        """What is never compiled needs no wrapper; without a function, the decorator that does nothing."""
        return (lambda decorated: decorated) if function is None else function

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # what inspect and others ask of every module there is
            raise AttributeError(name)
        return getattr(_load(), name)


def _load() -> ModuleType:
    with _loading:
        if isinstance(sys.modules.get(NAME), _NotLoaded):
            del sys.modules[NAME]
        return importlib.import_module(NAME)


def leave_compiler_unloaded() -> None:
    """Before the first optimizer; does nothing where torch._dynamo is there already."""
    if NAME not in sys.modules:
        sys.modules[NAME] = torch._dynamo = _NotLoaded(NAME)
