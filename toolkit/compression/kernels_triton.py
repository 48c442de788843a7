"""What passes_triton.py launches: passes over float32 vectors on a GPU, in Triton.

Magnitudes are compared by their bits as integers ("keys"), as the C kernels do: that is the order of the numbers, with
NaN above infinity. Counts are integers and places follow from counts, so neither the order in which programs run nor
their number can change a selection; sums are added lane by lane, then program by program, in a fixed order.

x, float32 (n,), is what a pass goes over; gradient: None, or what is first added to it, in place. TILE: elements that
a program has in hand at a time, a power of two. A cut, int32 (2,), says what is taken: keys above the first number,
and of those that equal it as many as the second says, from the lowest index on.
"""

from __future__ import annotations

import triton
import triton.language as tl

LN2 = tl.constexpr(0.693147180559945309417232121458)
LOG_EPSILON = tl.constexpr(2.2e-16)  # fits.LOG_EPSILON; kernels may look at constexpr globals only


@triton.jit
def _keys(entries: tl.tensor) -> tl.tensor:
    return entries.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def _entries(x: tl.tensor, gradient: tl.tensor, at: tl.tensor, inside: tl.tensor) -> tl.tensor:
    """x there, 0 outside; after x += gradient, if there is one."""
    entries = tl.load(x + at, mask=inside, other=0.0)
    if gradient is not None:
        entries += tl.load(gradient + at, mask=inside, other=0.0)
        tl.store(x + at, entries, mask=inside)
    return entries


@triton.jit
def add_up(x: tl.tensor, n: tl.tensor, gradient: tl.tensor, sums: tl.tensor, TILE: tl.constexpr) -> None:
    """One row a program of sums, float64 (programs, 6): non-zeros, x, |x|, x², ln(|x| + 2.2e-16), largest key.

    A logarithm is an exponent and that of a mantissa in [1, 2): exponents are added, mantissas multiplied, lane by
    lane, so that one logarithm a lane is left at the end. A program may take 1000 tiles before a product overflows.
    """
    lanes = tl.arange(0, TILE)
    nonzero = tl.zeros([TILE], tl.int32)
    largest = tl.zeros([TILE], tl.int32)
    exponent = tl.zeros([TILE], tl.int32)
    total = tl.zeros([TILE], tl.float64)
    total_abs = tl.zeros([TILE], tl.float64)
    squares = tl.zeros([TILE], tl.float64)
    mantissa = tl.full([TILE], 1.0, tl.float64)
    for tile in range(tl.program_id(0), tl.cdiv(n, TILE), tl.num_programs(0)):
        at = tile * TILE + lanes
        inside = at < n
        entries = _entries(x, gradient, at, inside)
        keys = _keys(entries)
        wide = entries.to(tl.float64)
        bits = (tl.abs(entries) + LOG_EPSILON).to(tl.int32, bitcast=True)
        exponent += tl.where(inside, (bits >> 23) - 127, 0)
        mantissa *= tl.where(inside, ((bits & 0x7FFFFF) | 0x3F800000).to(tl.float32, bitcast=True), 1.0).to(tl.float64)
        nonzero += (keys != 0).to(tl.int32)
        largest = tl.maximum(largest, keys)
        total += wide
        total_abs += tl.abs(wide)
        squares += wide * wide
    row = sums + tl.program_id(0) * 6
    tl.store(row, tl.sum(nonzero, 0).to(tl.float64))
    tl.store(row + 1, tl.sum(total, 0))
    tl.store(row + 2, tl.sum(total_abs, 0))
    tl.store(row + 3, tl.sum(squares, 0))
    tl.store(row + 4, tl.sum(tl.log(mantissa), 0) + tl.sum(exponent.to(tl.float64), 0) * LN2)
    tl.store(row + 5, tl.max(largest, 0).to(tl.float64))


@triton.jit(do_not_specialize=("key", "limit"))
def add_up_tail(
    x: tl.tensor,
    n: tl.tensor,
    high: tl.tensor,
    low: tl.tensor,
    key: tl.tensor,
    limit: tl.tensor,
    sums: tl.tensor,
    TILE: tl.constexpr,
) -> None:
    """One row a program of sums, float64 (programs, 3), over keys in (key, limit]: count, excess and its square.

    The excess is |x| − (high + low): two float32 numbers hold a threshold that one, as Triton passes it, does not.
    """
    lanes = tl.arange(0, TILE)
    count = tl.zeros([TILE], tl.int32)
    total, squares = tl.zeros([TILE], tl.float64), tl.zeros([TILE], tl.float64)
    for tile in range(tl.program_id(0), tl.cdiv(n, TILE), tl.num_programs(0)):
        at = tile * TILE + lanes
        inside = at < n
        entries = tl.load(x + at, mask=inside, other=0.0)
        keys = _keys(entries)
        chosen = inside & (keys > key) & (keys <= limit)
        excess = tl.where(chosen, tl.abs(entries).to(tl.float64) - high - low, 0.0)
        count += chosen.to(tl.int32)
        total += excess
        squares += excess * excess
    row = sums + tl.program_id(0) * 3
    tl.store(row, tl.sum(count, 0).to(tl.float64))
    tl.store(row + 1, tl.sum(total, 0))
    tl.store(row + 2, tl.sum(squares, 0))


@triton.jit
def tally(
    x: tl.tensor, n: tl.tensor, gradient: tl.tensor, cut: tl.tensor, counts: tl.tensor, TILE: tl.constexpr
) -> None:
    """counts, int32 (2, tiles): each tile's keys above the cut's, and those that equal it. One program a tile."""
    tile, key = tl.program_id(0), tl.load(cut)
    at = tile * TILE + tl.arange(0, TILE)
    inside = at < n
    keys = _keys(_entries(x, gradient, at, inside))
    tl.store(counts + tile, tl.sum((inside & (keys > key)).to(tl.int32), 0))
    tl.store(counts + tl.num_programs(0) + tile, tl.sum((inside & (keys == key)).to(tl.int32), 0))


@triton.jit
def take(
    x: tl.tensor,
    n: tl.tensor,
    cut: tl.tensor,
    ends: tl.tensor,
    places: tl.tensor,
    residual: tl.tensor,
    indices: tl.tensor,
    values: tl.tensor,
    TILE: tl.constexpr,
) -> None:
    """What the cut takes goes to indices (int32) and values, in the order of x. One program a tile.

    ends: `tally`'s counts, added up along the tiles. places: None, or the index of each entry of x, int32 (n,).
    residual: None, or where every taken index becomes 0; it may be x.
    """
    tile, tiles = tl.program_id(0), tl.num_programs(0)
    key, ties = tl.load(cut), tl.load(cut + 1)
    above_before = tl.load(ends + tile - 1, mask=tile > 0, other=0)
    equal_before = tl.load(ends + tiles + tile - 1, mask=tile > 0, other=0)
    first = above_before + tl.minimum(equal_before, ties)
    last = tl.load(ends + tile) + tl.minimum(tl.load(ends + tiles + tile), ties)
    if last > first:  # otherwise there is nothing to read this tile for
        at = tile * TILE + tl.arange(0, TILE)
        inside = at < n
        entries = tl.load(x + at, mask=inside, other=0.0)
        keys = _keys(entries)
        equal = inside & (keys == key)
        rank = equal_before + tl.cumsum(equal.to(tl.int32), 0)  # from 1 on
        taken = (inside & (keys > key)) | (equal & (rank <= ties))
        to = first + tl.cumsum(taken.to(tl.int32), 0) - 1
        index = at
        if places is not None:
            index = tl.load(places + at, mask=taken, other=0)
        tl.store(indices + to, index, mask=taken)
        tl.store(values + to, entries, mask=taken)
        if residual is not None:
            tl.store(residual + index, 0.0, mask=taken)


@triton.jit
def histogram(
    x: tl.tensor,
    n: tl.tensor,
    gradient: tl.tensor,
    state: tl.tensor,
    counts: tl.tensor,
    TILE: tl.constexpr,
    SHIFT: tl.constexpr,
    BITS: tl.constexpr,
) -> None:
    """Counts, into int32 (2^BITS,), the digits key >> SHIFT of the keys whose higher bits are those of state[0]."""
    lanes = tl.arange(0, TILE)
    digits = tl.arange(0, 1 << BITS)
    prefix = tl.load(state) >> (SHIFT + BITS)
    found = tl.zeros([1 << BITS], tl.int32)
    for tile in range(tl.program_id(0), tl.cdiv(n, TILE), tl.num_programs(0)):
        at = tile * TILE + lanes
        inside = at < n
        keys = _keys(_entries(x, gradient, at, inside))
        mine = inside & ((keys >> (SHIFT + BITS)) == prefix)
        found += tl.histogram((keys >> SHIFT) & ((1 << BITS) - 1), 1 << BITS, mask=mine)
    tl.atomic_add(counts + digits, found, mask=found > 0, sem="relaxed")  # integers: in any order the same


@triton.jit
def pick(counts: tl.tensor, state: tl.tensor, SHIFT: tl.constexpr, BITS: tl.constexpr) -> None:
    """One program. Finds the digit of the state[1]-th largest key of a histogram, and moves state, int32 (3,), to it:
    the key's bits that are known, how many of the keys with these bits are wanted, and how many reach them at least.
    """
    wanted = tl.load(state + 1)
    reach = tl.cumsum(tl.load(counts + tl.arange(0, 1 << BITS)), 0, reverse=True)  # keys with this digit or a higher
    enough = reach >= wanted
    digit = tl.sum(enough.to(tl.int32), 0) - 1
    tl.store(state, tl.load(state) | (digit << SHIFT))
    tl.store(state + 1, wanted - tl.max(tl.where(enough, 0, reach), 0))
    tl.store(state + 2, tl.min(tl.where(enough, reach, 0x7FFFFFFF), 0))
