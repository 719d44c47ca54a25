"""The kernel that reads an exposition: one pass over its text, series found by their bytes.

A body is `uint8[n + PADDING]`, the padding zero, so that looking a few bytes ahead needs no bound of its own. Indices into bytes are
unsigned, as in `remote_write/kernels.py`, whose table of series (slots, entries, used, arena) is read here too. The functions that read
that table stand here again, because Numba's on-disk cache notices changes of a kernel's own file only.
"""

import numpy as np
from numpy.typing import NDArray

from promlike.kernel import inlined, kernel
from promlike.model.blocks import Float64, Int32, Int64
from promlike.scrape.admission import NO_TIME

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Index = int | np.int64

PADDING = 32
OK, BAD_LINE, NO_VALUE, AFTER_VALUE, NO_SERIES, BLANK_LINE, UNKNOWN_COMMENT, AFTER_EOF = range(8)
"""How a pass ended; all but OK are what is wrong with the line at POSITION."""

COUNTS = 7
STATUS, SAMPLES, SPANS, POSITION, ENTRY, METADATA_HASH, EOF = range(COUNTS)
"""Places in `counts int64[COUNTS]`. ENTRY is the last series found, going in and out: the order of one scrape helps the next."""

UNSEEN, VALUE, TIME, METADATA, EXEMPLAR = range(5)
"""Kinds of span: a series not in the table; a value or a time that is read in Python; a HELP, TYPE or UNIT line; an exemplar."""

OFFSET, LENGTH, SLOT, NEXT = range(4)
"""Places in `entries int64[E, 4]`."""

TAB, NEWLINE, SPACE, QUOTE, HASH, BACKSLASH, OPEN, CLOSE = 9, 10, 32, 34, 35, 92, 123, 125
POWERS = np.array([10.0**i for i in range(23)])
"""The powers of ten that a float64 holds exactly."""


@inlined
def word_at(body: Bytes, at: np.uint64) -> np.uint64:
    """Eight bytes, little-endian; LLVM makes one load of it."""
    word = np.uint64(0)
    for i in range(8):
        word |= np.uint64(body[at + np.uint64(i)]) << np.uint64(8 * i)
    return word


@inlined
def hash_bytes(body: Bytes, start: Index, end: Index, seed: np.uint64) -> np.uint64:
    """The hash of `remote_write/kernels.py`."""
    h = seed ^ (np.uint64(end - start) * np.uint64(0x9E3779B97F4A7C15))
    at = np.uint64(start)
    whole = np.uint64(start + ((end - start) & ~7))
    while at < whole:
        h = (h ^ word_at(body, at)) * np.uint64(0xFF51AFD7ED558CCD)
        h ^= h >> np.uint64(32)
        at += np.uint64(8)
    while at < np.uint64(end):
        h = (h ^ np.uint64(body[at])) * np.uint64(0xFF51AFD7ED558CCD)
        h ^= h >> np.uint64(32)
        at += np.uint64(1)
    h *= np.uint64(0xC4CEB9FE1A85EC53)
    return h ^ (h >> np.uint64(29))


@inlined
def same_bytes(arena: Bytes, offset: Index, body: Bytes, start: Index, length: Index) -> bool:
    """Differences are joined instead of leaving at the first, so that the loop is vectorised."""
    left = np.uint64(offset)
    right = np.uint64(start)
    difference = np.uint8(0)
    for i in range(np.uint64(length)):
        difference |= arena[left + i] ^ body[right + i]
    return bool(difference == 0)


@inlined
def find(slots: Words, entries: Int64, arena: Bytes, body: Bytes, start: Index, end: Index, h: np.uint64) -> Index:
    """The entry whose bytes are `body[start:end]`, or -1."""
    mask = np.uint64(len(slots) - 1)
    at = h & mask
    while True:
        slot = slots[at]
        if slot == 0:
            return -1
        if slot >> np.uint64(32) == h >> np.uint64(32):
            entry = np.int64(slot & np.uint64(0xFFFFFFFF)) - 1
            if entries[entry, LENGTH] == end - start and same_bytes(arena, entries[entry, OFFSET], body, start, end - start):
                return entry
        at = (at + np.uint64(1)) & mask


@inlined
def skip_blanks(body: Bytes, at: Index) -> Index:
    """The position of the next byte that is neither space nor tab."""
    while body[np.uint64(at)] == SPACE or body[np.uint64(at)] == TAB:
        at += 1
    return at


@inlined
def line_end(body: Bytes, at: Index, size: int) -> Index:
    """The position of the next line feed, or the end."""
    while at < size and body[np.uint64(at)] != NEWLINE:
        at += 1
    return at


@inlined
def token_end(body: Bytes, at: Index, size: int) -> Index:
    """The position of the next blank or line feed, or the end."""
    while at < size and body[np.uint64(at)] != NEWLINE and body[np.uint64(at)] != SPACE and body[np.uint64(at)] != TAB:
        at += 1
    return at


@inlined
def is_name_byte(byte: int) -> bool:
    """A letter, a digit, an underscore or a colon."""
    return (97 <= byte <= 122) or (65 <= byte <= 90) or byte == 95 or byte == 58 or (48 <= byte <= 57)


@inlined
def braces_end(body: Bytes, at: Index, size: int) -> Index:
    """The position after the `}` of the label set whose `{` stands before `at`; -1 when its line ends first. Quotes may hold anything."""
    while at < size:
        byte = body[np.uint64(at)]
        if byte == CLOSE:
            return at + 1
        if byte == NEWLINE:
            return -1
        if byte == QUOTE:
            at += 1
            while at < size and body[np.uint64(at)] != QUOTE:
                at += 2 if body[np.uint64(at)] == BACKSLASH else 1
        at += 1
    return -1


@inlined
def series_end(body: Bytes, at: Index, size: int, openmetrics: int) -> Index:
    """The position after the name and label set that start at `at`; -1 when there are none."""
    if body[np.uint64(at)] == OPEN:
        return braces_end(body, at + 1, size)
    if 48 <= body[np.uint64(at)] <= 57:
        return -1
    end = at
    while end < size and is_name_byte(body[np.uint64(end)]):
        end += 1
    if end == at:
        return -1
    brace = end if openmetrics else skip_blanks(body, end)
    return braces_end(body, brace + 1, size) if brace < size and body[np.uint64(brace)] == OPEN else end


@inlined
def plain_number(body: Bytes, start: Index, end: Index) -> tuple[float, bool]:
    """The decimal in `body[start:end]` when the nearest float64 is one exact multiplication or division away; else False."""
    at = start
    negative = body[np.uint64(at)] == 45
    if negative or body[np.uint64(at)] == 43:
        at += 1
    mantissa = np.uint64(0)
    digits = 0
    exponent = 0
    any_digit = False
    point = False
    while at < end:
        byte = body[np.uint64(at)]
        if 48 <= byte <= 57:
            any_digit = True
            digits += 1 if digits > 0 or byte != 48 else 0
            if digits > 18:
                return 0.0, False
            mantissa = mantissa * np.uint64(10) + np.uint64(byte - 48)
            exponent -= 1 if point else 0
        elif byte == 46 and not point:
            point = True
        else:
            break
        at += 1
    if not any_digit:
        return 0.0, False
    if at < end:
        if body[np.uint64(at)] != 101 and body[np.uint64(at)] != 69:
            return 0.0, False
        at += 1
        down = body[np.uint64(at)] == 45
        if down or body[np.uint64(at)] == 43:
            at += 1
        if at >= end or end - at > 3:
            return 0.0, False
        written = 0
        while at < end:
            byte = body[np.uint64(at)]
            if byte < 48 or byte > 57:
                return 0.0, False
            written = written * 10 + int(byte) - 48
            at += 1
        exponent += -written if down else written
    if mantissa > np.uint64(1) << np.uint64(53) or exponent < -22 or exponent > 22:
        if mantissa != 0:
            return 0.0, False
        exponent = 0
    value = np.float64(mantissa)
    value = value / POWERS[-exponent] if exponent < 0 else value * POWERS[exponent]
    return (-value if negative else value), True


@inlined
def whole_number(body: Bytes, start: Index, end: Index) -> tuple[np.int64, bool]:
    """The integer in `body[start:end]`; False when it is longer than 18 digits or none."""
    negative = body[np.uint64(start)] == 45
    at = start + 1 if negative or body[np.uint64(start)] == 43 else start
    if at >= end or end - at > 18:
        return np.int64(0), False
    number = np.int64(0)
    while at < end:
        byte = body[np.uint64(at)]
        if byte < 48 or byte > 57:
            return np.int64(0), False
        number = number * 10 + np.int64(byte) - 48
        at += 1
    return (-number if negative else number), True


@inlined
def comment_kind(body: Bytes, start: Index, end: Index, openmetrics: int) -> int:
    """Of the comment line `body[start:end]`: METADATA, EOF (as -1), or any other comment (0)."""
    at = start + 1
    if openmetrics:
        if end - start == 5 and word_at(body, np.uint64(start)) & np.uint64(0xFFFFFFFFFF) == np.uint64(0x464F452023):
            return -1
        if body[np.uint64(at)] != SPACE:
            return 0
        at += 1
    else:
        at = skip_blanks(body, at)
        if at == start + 1:
            return 0
    word = word_at(body, np.uint64(at)) & np.uint64(0xFFFFFFFF)
    after = body[np.uint64(at + 4)]
    known = word == np.uint64(0x504C4548) or word == np.uint64(0x45505954) or (openmetrics and word == np.uint64(0x54494E55))
    return METADATA if known and at + 4 < end and (after == SPACE or (after == TAB and not openmetrics)) else 0


@inlined
def note(spans: Int64, found: int, kind: int, start: Index, end: Index, sample: int) -> int:
    """Write a span down; return how many there are now."""
    spans[found, 0] = kind
    spans[found, 1] = start
    spans[found, 2] = end
    spans[found, 3] = sample
    return found + 1


@kernel("(u1[::1], i8, i8, u8[::1], i8[:,::1], u1[::1], u1[::1], u8, i4[::1], i8[::1], f8[::1], i8[:,::1], i8[::1])")
def scan(
    body: Bytes,
    size: int,
    openmetrics: int,
    slots: Words,
    entries: Int64,
    used: Bytes,
    arena: Bytes,
    seed: np.uint64,
    which: Int32,
    ts_ms: Int64,
    values: Float64,
    spans: Int64,
    counts: Int64,
) -> None:
    """Read the exposition in `body[:size]` into columns; stop at the first bad line.

    Sample k: `which[k]` is the slot of its series or DROPPED, or -2 - i where `spans[i]` names a series not in the table; `ts_ms[k]` its
    time or NO_TIME; `values[k]`. `spans int64[*, 4]`, of which four a line are enough, are kind, start, end and k. `counts` as above.
    """
    k = 0
    found = 0
    last = counts[ENTRY]
    metadata = seed
    status = OK
    eof = 0
    at: Index = 0
    line: Index = 0
    while at < size:
        line = at
        if not openmetrics:
            at = skip_blanks(body, at)
            if at >= size:
                break
        first = body[np.uint64(at)]
        if first == NEWLINE:
            if openmetrics:
                status = BLANK_LINE
                break
            at += 1
            continue
        if first == HASH:
            end = line_end(body, at, size)
            kind = comment_kind(body, at, end, openmetrics)
            if kind == METADATA:
                metadata = hash_bytes(body, at, end, metadata)
                found = note(spans, found, METADATA, at, end, k)
            elif kind == -1:
                eof = 1
                if end + 1 < size:
                    line = end + 1
                    status = AFTER_EOF
                break
            elif openmetrics:
                status = UNKNOWN_COMMENT
                break
            at = end + 1
            continue

        # Targets keep the order of series: compare with the one that followed last time before looking for the end of anything.
        start = at
        entry = entries[last, NEXT]
        length = entries[entry, LENGTH]
        at = start + length
        hit = length > 0 and at < size and same_bytes(arena, entries[entry, OFFSET], body, start, length)
        if hit:
            blank = skip_blanks(body, at)
            hit = blank > at and body[np.uint64(blank)] != OPEN
        if not hit:
            at = series_end(body, start, size, openmetrics)
            if at < 0:
                status = NO_SERIES
                break
            entry = find(slots, entries, arena, body, start, at, hash_bytes(body, start, at, seed))
            if entry >= 0:
                entries[last, NEXT] = entry
        if entry >= 0:
            used[entry] = 1
            last = entry
            which[k] = entries[entry, SLOT]
        else:
            which[k] = -2 - found
            found = note(spans, found, UNSEEN, start, at, k)

        begin = skip_blanks(body, at)
        if (begin == at and (openmetrics or body[np.uint64(at - 1)] != CLOSE)) or (openmetrics and begin != at + 1):
            status = NO_VALUE
            break
        at = token_end(body, begin, size)
        if at == begin:
            status = NO_VALUE
            break
        value, plain = plain_number(body, begin, at)
        values[k] = value
        if not plain:
            found = note(spans, found, VALUE, begin, at, k)

        ts_ms[k] = NO_TIME
        begin = skip_blanks(body, at)
        if begin < size and body[np.uint64(begin)] != NEWLINE and body[np.uint64(begin)] != HASH:
            at = token_end(body, begin, size)
            if openmetrics:
                seconds, plain = plain_number(body, begin, at)
                plain = plain and abs(seconds) < 9e15
                ts_ms[k] = np.int64(seconds * 1000.0) if plain else 0
            else:
                ts_ms[k], plain = whole_number(body, begin, at)
            if not plain:
                found = note(spans, found, TIME, begin, at, k)
            begin = skip_blanks(body, at)
        if begin < size and body[np.uint64(begin)] != NEWLINE:
            exemplar = (
                openmetrics
                and body[np.uint64(begin)] == HASH
                and body[np.uint64(begin + 1)] == SPACE
                and body[np.uint64(begin + 2)] == OPEN
            )
            if not exemplar:
                status = AFTER_VALUE
                break
            end = line_end(body, begin, size)
            found = note(spans, found, EXEMPLAR, begin, end, k)
            begin = end
        elif openmetrics and begin != at:
            status = AFTER_VALUE
            break
        k += 1
        at = begin + 1
    counts[STATUS] = status
    counts[SAMPLES] = k
    counts[SPANS] = found
    counts[POSITION] = line
    counts[ENTRY] = last
    counts[METADATA_HASH] = np.int64(metadata)
    counts[EOF] = eof
