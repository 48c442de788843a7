"""The compiled kernels, and which instruction set they use."""

from __future__ import annotations

import os

try:
    from cext import _kernels
except ImportError as missing:
    raise ImportError(
        f"cext is not compiled ({missing}): run `pip install -e . --no-build-isolation` in the clone"
    ) from missing

__all__ = ["LEVELS", "_kernels", "capabilities", "simd", "use"]

LEVELS = ("serial", "avx2", "avx512")


def capabilities() -> tuple[str, ...]:
    """The instruction sets that this processor can run, slowest first."""
    return tuple(level for level in LEVELS if _kernels.supported(level))


def use(level: str) -> None:
    """Switches the whole process to one instruction set; ValueError names those that are allowed here."""
    if level not in capabilities():
        raise ValueError(f"SANDTABLE_SIMD = {level}: allowed on this processor: {', '.join(capabilities())}")
    _kernels.use(level)


def simd() -> str:
    """The instruction set in use."""
    level: str = _kernels.simd()
    return level


if os.environ.get("SANDTABLE_SIMD"):
    use(os.environ["SANDTABLE_SIMD"])
