"""Where results are printed: as wide as the terminal, and wide enough for a table where there is none (files, pipes)."""

from __future__ import annotations

from rich.console import Console

WIDE = 150


def console() -> Console:
    """A console for tables: a terminal's own width, WIDE columns elsewhere."""
    found = Console(highlight=False, soft_wrap=False)
    return found if found.is_terminal else Console(highlight=False, width=WIDE)
