"""How results are printed: as wide as the terminal, wide enough for a table elsewhere; times in a unit that fits."""

from __future__ import annotations

from rich.console import Console

WIDE = 150


def console() -> Console:
    """A console for tables: a terminal's own width, WIDE columns elsewhere."""
    found = Console(highlight=False, soft_wrap=False)
    return found if found.is_terminal else Console(highlight=False, width=WIDE)


def duration(seconds: float) -> str:
    """Four digits in the unit that fits: "12.34 ms", "2.046 min"."""
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3)):
        if seconds >= size * (2.0 if size > 1 else 1.0):
            return f"{seconds / size:.4g} {unit}"
    return f"{seconds * 1e6:.4g} us"
