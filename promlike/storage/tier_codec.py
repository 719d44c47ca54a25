"""Columns of rollup rows as bytes: what stores keep of the rows that a series has in one stretch of time.

The bytes of n values are a byte for the form (its low half) and the first plane f (its high half), a byte for the number of planes w, a
base (int64, big-endian) and w planes of n bytes: byte i of plane k is byte f + k, counted from the lowest, of what value i is above the
base. Bytes that are 0 in all values, above and below, are left out. A form below BITS means decimals: a value is (base + above) / 10^form.
BITS means the bits of a float64. Counters and gauges that go up and down by little take one or two bytes a value this way, what never
changes takes none, and planes are read as fast as memory.

Axis letters: P packed stretches, B rows.
"""

import numpy as np
from numpy.typing import NDArray

from promlike.kernel import inlined, kernel
from promlike.model.blocks import Bool, Float64, Int32, Int64

Bytes = NDArray[np.uint8]

BITS = 7
HEADER = 10
POWERS = np.array([1.0, 10.0, 100.0, 1000.0])
"""Tried in this order: counts, tenths, cents, milliseconds."""
LARGEST = 2.0**53
LARGEST_INTEGER = 2**63 - 1


@inlined
def _decimals(values: Float64, bits: Int64, low: int, high: int, out: Int64) -> int:
    """The form in which these values are integers without losing a bit; `out` are the integers."""
    for form in range(len(POWERS)):
        power = POWERS[form]
        whole = True
        for i in range(low, high):
            scaled = np.rint(values[i] * power)
            if not abs(scaled) <= LARGEST or scaled / power != values[i] or (scaled == 0.0 and bits[i] != 0):
                whole = False
                break
            out[i] = np.int64(scaled)
        if whole:
            return form
    for i in range(low, high):
        out[i] = bits[i]
    return 7


@kernel("(f8[::1], i8[::1], i8[::1], i8[::1], u1[::1])")
def to_integers(values: Float64, bits: Int64, offsets: Int64, out: Int64, forms: Bytes) -> None:
    """Integers `out int64[B]` for values, whose bits are `bits`, and `forms uint8[P]` of each stretch `offsets[p]:offsets[p+1]`."""
    for p in range(len(offsets) - 1):
        forms[p] = _decimals(values, bits, offsets[p], offsets[p + 1], out)


@kernel("(i8[::1], i8[::1], i8[::1], i8[::1], i8[::1])")
def measure(integers: Int64, offsets: Int64, bases: Int64, firsts: Int64, widths: Int64) -> None:
    """Base, first plane and number of planes of each stretch. Values that span more than an int64 are their own bytes, above 0."""
    for p in range(len(offsets) - 1):
        least, most = integers[offsets[p]], integers[offsets[p]]
        for i in range(offsets[p], offsets[p + 1]):
            least = min(least, integers[i])
            most = max(most, integers[i])
        if least < 0 and most > least + LARGEST_INTEGER:
            bases[p], firsts[p], widths[p] = 0, 0, 8
            continue
        used = np.int64(0)
        for i in range(offsets[p], offsets[p + 1]):
            used |= integers[i] - least
        first, end = 0, 0
        while end < 8 and used >> (8 * end) != 0:
            end += 1
        while first < end and (used >> (8 * first)) & 255 == 0:
            first += 1
        bases[p], firsts[p], widths[p] = least, first, end - first


@kernel("(i8[::1], i8[::1], u1[::1], i8[::1], i8[::1], i8[::1], i8[::1], u1[::1])")
def write_planes(
    integers: Int64, offsets: Int64, forms: Bytes, bases: Int64, firsts: Int64, widths: Int64, starts: Int64, data: Bytes
) -> None:
    """Write each stretch to `data` from `starts int64[P]` on: HEADER + width * rows bytes."""
    for p in range(len(offsets) - 1):
        low, rows, at = offsets[p], offsets[p + 1] - offsets[p], starts[p]
        data[at] = np.int64(forms[p]) | firsts[p] << 4
        data[at + 1] = widths[p]
        for k in range(8):
            data[at + 2 + k] = (bases[p] >> (56 - 8 * k)) & 255
        for k in range(widths[p]):
            plane, shift = at + 10 + k * rows, 8 * (firsts[p] + k)
            for i in range(rows):
                data[plane + i] = ((integers[low + i] - bases[p]) >> shift) & 255


@inlined
def _unpack(data: Bytes, at: int, rows: int, skip: int, take: int, out: Int64) -> None:
    """The integers skip..skip+take-1 of a stretch of so many rows."""
    base, shift, width = np.int64(0), np.int64(data[at] >> 4) * 8, np.int64(data[at + 1])
    for k in range(8):
        base = (base << 8) | np.int64(data[at + 2 + k])
    begin = at + 10 + skip
    if width == 0:
        for i in range(take):
            out[i] = base
        return
    # The first two planes at once: more are rare.
    low = data[begin : begin + take]
    if width == 1:
        for i in range(take):
            out[i] = base + (np.int64(low[i]) << shift)
        return
    high = data[begin + rows : begin + rows + take]
    for i in range(take):
        out[i] = base + ((np.int64(low[i]) | np.int64(high[i]) << 8) << shift)
    for k in range(2, width):
        plane = data[begin + k * rows : begin + k * rows + take]
        above = shift + 8 * k
        for i in range(take):
            out[i] += np.int64(plane[i]) << above


@inlined
def _longest(takes: Int64) -> int:
    longest = 0
    for p in range(len(takes)):
        longest = max(longest, int(takes[p]))
    return longest


@kernel("(u1[::1], i8[::1], i8[::1], i8, i8, i8[::1], i8[::1], i8[::1])")
def clip(data: Bytes, starts: Int64, rows: Int64, resolution: int, after: int, upto: Int64, skips: Int64, takes: Int64) -> None:
    """Which rows of each stretch end in (after, upto[p]]: `takes[p]` from `skips[p]` on; `data` are ends as `read_ends` reads them."""
    ends = np.empty(_longest(rows), np.int64)
    for p in range(len(starts)):
        count = rows[p]
        _unpack(data, starts[p], count, 0, count, ends)
        low = 0
        while low < count and (ends[low] + low) * resolution <= after:
            low += 1
        high = count
        while high > low and (ends[high - 1] + high - 1) * resolution > upto[p]:
            high -= 1
        skips[p] = low
        takes[p] = high - low


@kernel("(u1[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8, i8[::1])")
def read_ends(data: Bytes, starts: Int64, rows: Int64, skips: Int64, takes: Int64, places: Int64, resolution: int, out: Int64) -> None:
    """Ends of buckets: kept by number, less their place in the stretch, so that buckets without a gap take no bytes.

    Here as below, rows `skips[p]`.. of stretch p go to `out[places[p]:places[p]+takes[p]]`.
    """
    for p in range(len(starts)):
        part = out[places[p] : places[p] + takes[p]]
        _unpack(data, starts[p], rows[p], skips[p], takes[p], part)
        for i in range(takes[p]):
            part[i] = (part[i] + skips[p] + i) * resolution


@kernel("(u1[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1])")
def read_times(data: Bytes, starts: Int64, rows: Int64, skips: Int64, takes: Int64, places: Int64, ends: Int64, out: Int64) -> None:
    """Times, kept as distances from the ends of their buckets, which `ends` has already."""
    for p in range(len(starts)):
        low, high = places[p], places[p] + takes[p]
        _unpack(data, starts[p], rows[p], skips[p], takes[p], out[low:high])
        for i in range(low, high):
            out[i] += ends[i]


@kernel("(u1[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i4[::1])")
def read_counts(data: Bytes, starts: Int64, rows: Int64, skips: Int64, takes: Int64, places: Int64, out: Int32) -> None:
    buffer = np.empty(_longest(takes), np.int64)
    for p in range(len(starts)):
        _unpack(data, starts[p], rows[p], skips[p], takes[p], buffer)
        for i in range(takes[p]):
            out[places[p] + i] = buffer[i]


@kernel("(u1[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], b1[::1])")
def read_flags(data: Bytes, starts: Int64, rows: Int64, skips: Int64, takes: Int64, places: Int64, out: Bool) -> None:
    buffer = np.empty(_longest(takes), np.int64)
    for p in range(len(starts)):
        _unpack(data, starts[p], rows[p], skips[p], takes[p], buffer)
        for i in range(takes[p]):
            out[places[p] + i] = buffer[i] != 0


@kernel("(u1[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], f8[::1], i8[::1])")
def read_floats(data: Bytes, starts: Int64, rows: Int64, skips: Int64, takes: Int64, places: Int64, out: Float64, out_bits: Int64) -> None:
    """`out_bits` is the memory of `out`."""
    buffer = np.empty(_longest(takes), np.int64)
    for p in range(len(starts)):
        low, high = places[p], places[p] + takes[p]
        form = np.int64(data[starts[p]]) & 15
        if form >= len(POWERS):
            _unpack(data, starts[p], rows[p], skips[p], takes[p], out_bits[low:high])
            continue
        _unpack(data, starts[p], rows[p], skips[p], takes[p], buffer)
        power = POWERS[form]
        part = out[low:high]
        for i in range(takes[p]):
            part[i] = np.float64(buffer[i]) / power
