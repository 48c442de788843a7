"""When the bytes of an in-memory checkpoint travel: in the network's idle spans of an iteration (GEMINI, SOSP 2023, 5).

`schedule` cuts the state into chunks that fit a sub-buffer and fills the idle spans with them in order, each to a share
gamma of its length. What does not fit is still sent: in the last span, beyond its end, or, with `amortise`, in the same
spans of as many more iterations as it takes. No byte is ever left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MODES = ("interleaved", "blocking", "none")


@dataclass(frozen=True)
class Span:
    """An idle span of the network within an iteration, seconds from its start."""

    start: float
    length: float


@dataclass(frozen=True)
class Link:
    """What a chunk costs. alpha: seconds a chunk. bandwidth: of the network. copy_bandwidth: device to host, bytes/s.

    With one sub-buffer a chunk is received and then copied; with more, one is copied while the next is received.
    """

    alpha: float
    bandwidth: float
    copy_bandwidth: float = math.inf
    pipelined: bool = True

    def seconds(self, size: int) -> float:
        """f(chunk), seconds in the span."""
        received, copied = self.alpha + size / self.bandwidth, size / self.copy_bandwidth
        return max(received, copied) if self.pipelined else received + copied

    def fits(self, seconds: float) -> int:
        """The largest chunk, bytes, that takes at most so long; 0 if none does."""
        if self.pipelined:
            size = min((seconds - self.alpha) * self.bandwidth, seconds * self.copy_bandwidth)
        else:
            size = (seconds - self.alpha) / (1 / self.bandwidth + 1 / self.copy_bandwidth)
        whole = math.floor(size) if size > 0 else 0
        while whole > 0 and self.seconds(whole) > seconds:  # a rounding up in the last bit
            whole -= 1
        return whole


@dataclass(frozen=True)
class Chunk:
    """Bytes sent from `start` on, seconds within iteration `iteration` of the checkpoint, in span `span`."""

    iteration: int
    span: int
    start: float
    seconds: float
    size: int


@dataclass(frozen=True)
class Schedule:
    """A checkpoint's chunks in order. overrun: seconds beyond the last span's share, which training waits for."""

    chunks: tuple[Chunk, ...]
    iterations: int
    overrun: float

    @property
    def size(self) -> int:
        return sum(chunk.size for chunk in self.chunks)

    @property
    def seconds(self) -> float:
        """Time on the wire."""
        return math.fsum(chunk.seconds for chunk in self.chunks)


def idle_spans(profiles: Sequence[Sequence[Span]], threshold: float = 0.0) -> tuple[Span, ...]:
    """The spans to rely on: of each span its latest start and shortest length over the profiled iterations.

    profiles: some 20 iterations of equally many spans. Spans shorter than `threshold` seconds are dropped. ValueError
    where the iterations differ in their number of spans.
    """
    if len({len(spans) for spans in profiles}) != 1:
        raise ValueError("profiled iterations must have equally many idle spans")
    found = [Span(max(s.start for s in same), min(s.length for s in same)) for same in zip(*profiles, strict=True)]
    return tuple(span for span in found if span.length > 0 and span.length >= threshold)


def schedule(
    spans: Sequence[Span], size: int, link: Link, buffer: int, *, gamma: float = 0.8, amortise: bool = False
) -> Schedule:
    """Fill idle spans with `size` bytes in chunks of at most `buffer` bytes, each span to gamma of its length.

    buffer: of one sub-buffer (R / p). amortise: spread what does not fit over more iterations instead of sending it in
    the last span; needs spans in which at least one byte fits. Raises ValueError where nothing could ever be sent.
    """
    if size < 0 or buffer < 1 or not 0 < gamma <= 1:
        raise ValueError(f"size {size}, buffer {buffer}, gamma {gamma}")
    chunks: list[Chunk] = []
    left, iteration = size, 0
    while True:
        before = left
        for number, span in enumerate(spans):
            left = _fill(chunks, (iteration, number, span), left, link, buffer, gamma * span.length)
        if not left or not amortise or left == before:
            break
        iteration += 1
    overrun = 0.0
    if left:
        if not spans:
            raise ValueError("no idle span to send a checkpoint in")
        number, span = len(spans) - 1, spans[-1]
        allowed = span.start + gamma * span.length
        _fill(chunks, (iteration, number, span), left, link, buffer, math.inf)
        overrun = max(0.0, chunks[-1].start + chunks[-1].seconds - allowed)
    return Schedule(tuple(chunks), iteration + 1, overrun)


def _fill(chunks: list[Chunk], place: tuple[int, int, Span], left: int, link: Link, buffer: int, allowed: float) -> int:
    """Put chunks into one span until `allowed` seconds of it are used; the bytes that are left."""
    iteration, number, span = place
    last = chunks[-1] if chunks else None
    same = last is not None and (last.iteration, last.span) == (iteration, number)
    used = last.start + last.seconds - span.start if last is not None and same else 0.0
    while left:
        size = min(left, buffer, link.fits(allowed - used) if math.isfinite(allowed) else left)
        while size > 0 and used + link.seconds(size) > allowed:  # the sum may round up where the rest did not
            size -= 1
        if size <= 0:
            break
        seconds = link.seconds(size)
        chunks.append(Chunk(iteration, number, span.start + used, seconds, size))
        used += seconds
        left -= size
    return left
