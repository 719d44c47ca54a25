"""Kernels of the remote write decoder: one pass over the wire, and the table that knows series by the bytes of their labels.

A body is `uint8[n + PADDING]`: the padding is zero, so that reading a varint or a word needs no bound of its own. Indices into bytes are
unsigned: a signed index costs a wrap-around branch and keeps LLVM from joining byte loads into a word.

The table (see `series_table.py`), E entries:
- `slots uint64[2^k]`: open addressing; 0 is free, else the upper half of the hash and, below it, the entry + 1;
- `entries int64[E, 4]`: offset and length of the label bytes in `arena`, the series ref, and the entry that came next last time;
- `used uint8[E]`: seen since the last sweep.

Only one thread inserts. Walks may run beside it in other threads, because an entry is complete before its slot is published; what walks
write (`used` and the next entry) is a hint that is right or harmless whichever of them writes last.
"""

import numpy as np
from numpy.typing import NDArray

from promlike.kernel import inlined, kernel
from promlike.model.blocks import Int32, Int64

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Index = int | np.int64

PADDING = 32

OK, ODD, FULL = 0, 1, 2
"""How a walk ended: through; at bytes it leaves to the protobuf classes; out of room in the columns."""

COUNTS = 8
STATUS, SAMPLES, SPANS, SERIES, EXEMPLARS, HISTOGRAMS, POSITION, ENTRY = range(COUNTS)
"""Places in `counts int64[COUNTS]`. POSITION is where an odd walk stood; ENTRY is the last entry found, going in and out."""

UNSEEN, METADATA = 0, 1
"""Kinds of span: labels of a series not in the table; a MetricMetadata message."""

OFFSET, LENGTH, REF, NEXT = 0, 1, 2, 3


@inlined
def word_at(body: Bytes, at: np.uint64) -> np.uint64:
    """Eight bytes, little-endian; LLVM makes one load of it."""
    word = np.uint64(0)
    for i in range(8):
        word |= np.uint64(body[at + np.uint64(i)]) << np.uint64(8 * i)
    return word


@inlined
def varint(body: Bytes, at: Index, most: int) -> tuple[np.uint64, Index]:
    """A varint of at most `most` bytes and the position after it; position -1 when it is longer."""
    value = np.uint64(0)
    for i in range(most):
        byte = body[np.uint64(at + i)]
        value |= np.uint64(byte & 0x7F) << np.uint64(7 * i)
        if byte < 0x80:
            return value, at + i + 1
    return value, -1


@inlined
def span_end(body: Bytes, at: Index, end: Index) -> tuple[Index, Index]:
    """Start and end of the length-delimited value whose length stands at `at`; end -1 when it does not fit before `end`."""
    length = np.int64(body[np.uint64(at)])
    start = at + 1
    if length >= 0x80:
        wide, start = varint(body, at, 5)
        length = np.int64(wide)
    if start < 0 or start + length > end:
        return start, -1
    return start, start + length


@inlined
def skip_field(body: Bytes, at: Index, end: Index) -> Index:
    """The position after an unknown field whose tag stands at `at`; -1 when it is broken or a group."""
    tag, at = varint(body, at, 5)
    if at < 0 or tag >> np.uint64(3) == 0 or tag >> np.uint64(32) != 0:
        return -1
    wire = tag & np.uint64(7)
    if wire == 0:
        _, at = varint(body, at, 10)
    elif wire == 1:
        at += 8
    elif wire == 2:
        _, at = span_end(body, at, end)
    elif wire == 5:
        at += 4
    else:
        return -1
    return at if at <= end else -1


@inlined
def hash_bytes(body: Bytes, start: Index, end: Index, seed: np.uint64) -> np.uint64:
    """A hash of `body[start:end]`; equality is decided by the bytes, so that it need only spread."""
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
    """The entry whose label bytes are `body[start:end]`, or -1."""
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
def publish(slots: Words, entry: Index, h: np.uint64) -> None:
    """Let walks find an entry: write it into the first free slot from that of its hash on."""
    mask = np.uint64(len(slots) - 1)
    at = h & mask
    while slots[at] != 0:
        at = (at + np.uint64(1)) & mask
    slots[at] = ((h >> np.uint64(32)) << np.uint64(32)) | np.uint64(entry + 1)


@inlined
def labels_end(body: Bytes, start: Index, end: Index) -> Index:
    """Where the run of labels that starts at `start` ends; -1 when one does not fit into its series."""
    at = start
    while at < end and body[np.uint64(at)] == 0x0A:
        _, at = span_end(body, at + 1, end)
        if at < 0:
            return -1
    return at


@inlined
def sample(body: Bytes, start: Index, end: Index) -> tuple[np.uint64, np.int64, bool]:
    """The bits of the value, the time, and whether the message was understood. Absent fields are zero; the last of a repeated one wins."""
    at = np.uint64(start)
    if end - start == 16 and body[at] == 0x09 and body[at + np.uint64(9)] == 0x10:
        # A value and a time between 2004 and 2109: what nearly every sample is. The time's bytes go on until the sixth.
        time = word_at(body, at + np.uint64(10)) & np.uint64(0xFFFFFFFFFFFF)
        if time & np.uint64(0x808080808080) == np.uint64(0x008080808080):
            t = time & np.uint64(0x7F)
            for i in range(1, 6):
                t |= (time >> np.uint64(i)) & (np.uint64(0x7F) << np.uint64(7 * i))
            return word_at(body, at + np.uint64(1)), np.int64(t), True
    bits = np.uint64(0)
    t = np.uint64(0)
    p = start
    while p < end:
        tag = body[np.uint64(p)]
        if tag == 0x09:
            bits = word_at(body, np.uint64(p + 1))
            p += 9
        elif tag == 0x10:
            t, p = varint(body, p + 1, 10)
        else:
            p = skip_field(body, p, end)
        if p < 0 or p > end:
            return bits, np.int64(t), False
    return bits, np.int64(t), True


@kernel("(u1[::1], i8, u8[::1], i8[:,::1], u1[::1], u1[::1], u8, i4[::1], i8[::1], u8[::1], i8[:,::1], i8[::1])")
def walk(
    body: Bytes,
    size: int,
    slots: Words,
    entries: Int64,
    used: Bytes,
    arena: Bytes,
    seed: np.uint64,
    refs: Int32,
    ts_ms: Int64,
    bits: Words,
    spans: Int64,
    counts: Int64,
) -> None:
    """Read the WriteRequest in `body[:size]` into columns.

    Sample k goes to `refs[k]`, `ts_ms[k]`, `bits[k]` (the bits of its value); where the series is in no entry, `refs[k]` is
    -1 - i with `spans[i]` naming its labels. `spans int64[*, 4]` are kind, start, end, number of the series in the body. `counts` as above.
    """
    k = 0
    found_spans = 0
    series = 0
    exemplars = 0
    histograms = 0
    last = counts[ENTRY]
    at: Index = 0
    position: Index = 0
    status = OK
    while at < size:
        position = at
        tag = body[np.uint64(at)]
        if tag != 0x0A and tag != 0x1A:
            at = skip_field(body, at, size)
            if at < 0:
                status = ODD
                break
            continue
        start, end = span_end(body, at + 1, size)
        if end < 0:
            status = ODD
            break
        if found_spans >= len(spans):
            status = FULL
            break
        at = end
        if tag == 0x1A:
            spans[found_spans, 0] = METADATA
            spans[found_spans, 1] = start
            spans[found_spans, 2] = end
            spans[found_spans, 3] = series
            found_spans += 1
            continue

        # Senders keep the order of series: compare with the one that followed last time before hashing anything.
        entry = entries[last, NEXT]
        length = entries[entry, LENGTH]
        p = start + length
        if length == 0 or p >= end or body[np.uint64(p)] == 0x0A or not same_bytes(arena, entries[entry, OFFSET], body, start, length):
            p = labels_end(body, start, end)
            if p < 0:
                status = ODD
                break
            entry = -1
            if p > start and p < end:
                entry = find(slots, entries, arena, body, start, p, hash_bytes(body, start, p, seed))
            if entry >= 0:
                entries[last, NEXT] = entry
        ref = -1 - found_spans
        if entry >= 0:
            ref = entries[entry, REF]
            used[entry] = 1
            last = entry

        first = k
        labels = p
        while p < end:
            tag = body[np.uint64(p)]
            if tag != 0x12 and tag != 0x1A and tag != 0x22:
                status = ODD  # labels after samples, or a field nobody knows
                break
            inner, p = span_end(body, p + 1, end)
            if p < 0:
                status = ODD
                break
            if tag == 0x1A:
                exemplars += 1
            elif tag == 0x22:
                histograms += 1
            else:
                if k >= len(refs):
                    status = FULL
                    break
                value, t, understood = sample(body, inner, p)
                if not understood:
                    status = ODD
                    break
                refs[k] = ref
                ts_ms[k] = t
                bits[k] = value
                k += 1
        if status != OK:
            break
        if entry < 0 and k > first:
            spans[found_spans, 0] = UNSEEN
            spans[found_spans, 1] = start
            spans[found_spans, 2] = labels
            spans[found_spans, 3] = series
            found_spans += 1
        series += 1
    counts[STATUS] = status
    counts[SAMPLES] = k
    counts[SPANS] = found_spans
    counts[SERIES] = series
    counts[EXEMPLARS] = exemplars
    counts[HISTOGRAMS] = histograms
    counts[POSITION] = position
    counts[ENTRY] = last


@kernel("(u1[::1], i8[:,::1], u8[::1], i8[:,::1], u1[::1], u1[::1], u8, i8, i8)")
def insert(
    body: Bytes,
    keys: Int64,
    slots: Words,
    entries: Int64,
    used: Bytes,
    arena: Bytes,
    seed: np.uint64,
    count: int,
    filled: int,
) -> tuple[int, int]:
    """Enter keys `int64[K, 3]` (start and end of label bytes in `body`, ref) that are not there yet; there must be room for all.

    `count` entries and `filled` bytes of the arena are in use before; return both as they are after.
    """
    for i in range(len(keys)):
        start = keys[i, 0]
        end = keys[i, 1]
        h = hash_bytes(body, start, end, seed)
        if find(slots, entries, arena, body, start, end, h) >= 0:
            continue
        for p in range(end - start):
            arena[filled + p] = body[start + p]
        entries[count, OFFSET] = filled
        entries[count, LENGTH] = end - start
        entries[count, REF] = keys[i, 2]
        entries[count, NEXT] = min(count + 1, len(entries) - 1)
        used[count] = 1
        publish(slots, count, h)
        count += 1
        filled += end - start
    return count, filled


@kernel("(u8[::1], i8[:,::1], u1[::1], u8, i8)")
def enter_slots(slots: Words, entries: Int64, arena: Bytes, seed: np.uint64, count: int) -> None:
    """Fill empty slots with the first `count` entries."""
    for entry in range(count):
        offset = entries[entry, OFFSET]
        publish(slots, entry, hash_bytes(arena, offset, offset + entries[entry, LENGTH], seed))


@kernel("(u8[::1], i8[:,::1], u1[::1], u1[::1], i8[:,::1], u1[::1], u1[::1], u8, i8)")
def keep_used(
    slots: Words,
    entries: Int64,
    used: Bytes,
    arena: Bytes,
    old_entries: Int64,
    old_used: Bytes,
    old_arena: Bytes,
    seed: np.uint64,
    old_count: int,
) -> tuple[int, int]:
    """Copy what was seen since the last sweep into new, empty, large enough arrays, where it counts as not seen yet.

    Return how many entries and bytes of the arena are in use.
    """
    count = 0
    filled = 0
    for old in range(old_count):
        if not old_used[old]:
            continue
        offset = old_entries[old, OFFSET]
        length = old_entries[old, LENGTH]
        for p in range(length):
            arena[filled + p] = old_arena[offset + p]
        entries[count, OFFSET] = filled
        entries[count, LENGTH] = length
        entries[count, REF] = old_entries[old, REF]
        entries[count, NEXT] = min(count + 1, len(entries) - 1)
        publish(slots, count, hash_bytes(arena, filled, filled + length, seed))
        count += 1
        filled += length
    return count, filled
