"""How much of the processors others used while something ran: what a measurement on shared cores must know."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

STAT = Path("/proc/stat")


class Bystanders:
    """Starts watching when created; `share` tells what has come together since.

    Counted are user and system time of all processes less that of this process and of its children that have ended; the
    kernel's own work for the network (interrupts) is nobody's.
    """

    def __init__(self) -> None:
        self._began = (time.monotonic(), *_seconds())

    def share(self) -> float:
        """Seconds of other processes over those of all processors, 0 to 1."""
        began, everybody, own = self._began
        after_all, after_own = _seconds()
        foreign = (after_all - everybody) - (after_own - own)
        room = (time.monotonic() - began) * (os.cpu_count() or 1)
        return min(1.0, max(0.0, foreign / room)) if room > 0 else 0.0


def _seconds() -> tuple[float, float]:
    """(user, nice and system time of all processes, that of this one and its ended children), s."""
    fields = STAT.read_text(encoding="ascii").split("\n", 1)[0].split()
    everybody = sum(map(int, fields[1:4])) / os.sysconf("SC_CLK_TCK")
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return everybody, sum(part.ru_utime + part.ru_stime for part in parts)
