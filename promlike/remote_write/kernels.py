"""Kernels of the remote write decoders: passes over the wire, and the table that knows what was seen by its bytes.

Both versions stand in this one file, because they share its short functions and Numba's on-disk cache notices changes of a kernel's own
file alone.

A body is `uint8[n + PADDING]`: the padding is zero, so that reading a varint or a word needs no bound of its own. Indices into bytes are
unsigned: a signed index costs a wrap-around branch and keeps LLVM from joining byte loads into a word.

The table (see `series_table.py`), E entries:
- `slots uint64[2^k]`: open addressing; 0 is free, else the upper half of the hash and, below it, the entry + 1;
- `entries int64[E, 4]`: offset and length of the bytes in `arena`, the ref they stand for, and the entry that came next last time;
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

COUNTS = 12
STATUS, SAMPLES, SPANS, SERIES, EXEMPLARS, HISTOGRAMS, STARTS, POSITION, ENTRY, SYMBOLS, SYMBOL_ENTRY, KEY_BYTES = range(COUNTS)
"""Places in `counts int64[COUNTS]`. POSITION is where an odd walk stood; ENTRY is the last entry found, going in and out. STARTS are
samples with a start timestamp. SYMBOLS, SYMBOL_ENTRY and KEY_BYTES belong to version 2."""

UNSEEN, METADATA = 0, 1
"""Kinds of span: a series not in the table; a MetricMetadata message."""

SPAN = 6
KIND, START, END, NUMBER, KEY_START, KEY_END = range(SPAN)
"""Places in `spans int64[*, SPAN]`: what and where it is in the body, the number of its series, and where the bytes stand that the table
knows the series by: in the body in version 1, among `keys` in version 2; none when the series can be in no table."""

EXEMPLAR = 4
EXEMPLAR_START, EXEMPLAR_END, EXEMPLAR_REF, EXEMPLAR_NUMBER = range(EXEMPLAR)
"""Places in `exemplars int64[*, EXEMPLAR]`: where an Exemplar message is, its series as in `refs`, and the number of that in the body."""


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
    """The position after an unknown field whose tag stands at `at`; -1 when it is broken, a group, or a short tag written long."""
    first = at
    tag, at = varint(body, at, 5)
    if at < 0 or tag >> np.uint64(3) == 0 or tag >> np.uint64(32) != 0 or (tag < np.uint64(0x80) and at > first + 1):
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
def sample(body: Bytes, start: Index, end: Index) -> tuple[np.uint64, np.int64, np.uint64, bool]:
    """The bits of the value, the time, the start timestamp of version 2, and whether the message was understood.

    Absent fields are zero; the last of a repeated one wins.
    """
    at = np.uint64(start)
    bits = np.uint64(0)
    t = np.uint64(0)
    started = np.uint64(0)
    p = start
    if end - start >= 16 and body[at] == 0x09 and body[at + np.uint64(9)] == 0x10:
        # A value and a time between 2004 and 2109: what nearly every sample begins with. The time's bytes go on until the sixth.
        time = word_at(body, at + np.uint64(10)) & np.uint64(0xFFFFFFFFFFFF)
        if time & np.uint64(0x808080808080) == np.uint64(0x008080808080):
            t = time & np.uint64(0x7F)
            for i in range(1, 6):
                t |= (time >> np.uint64(i)) & (np.uint64(0x7F) << np.uint64(7 * i))
            bits = word_at(body, at + np.uint64(1))
            p = start + 16
    while p < end:
        tag = body[np.uint64(p)]
        if tag == 0x09:
            bits = word_at(body, np.uint64(p + 1))
            p += 9
        elif tag == 0x10:
            t, p = varint(body, p + 1, 10)
        elif tag == 0x18:
            started, p = varint(body, p + 1, 10)
        else:
            p = skip_field(body, p, end)
        if p < 0 or p > end:
            return bits, np.int64(t), started, False
    return bits, np.int64(t), started, True


@inlined
def note(spans: Int64, found: int, kind: int, start: Index, end: Index, number: int, key_start: Index, key_end: Index) -> int:
    """Write a span down; return how many there are now."""
    spans[found, KIND] = kind
    spans[found, START] = start
    spans[found, END] = end
    spans[found, NUMBER] = number
    spans[found, KEY_START] = key_start
    spans[found, KEY_END] = key_end
    return found + 1


@kernel("(u1[::1], i8, u8[::1], i8[:,::1], u1[::1], u1[::1], u8, i4[::1], i8[::1], u8[::1], i8[:,::1], i8[:,::1], i8[::1])")
def walk_v1(
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
    exemplars: Int64,
    counts: Int64,
) -> None:
    """Read the WriteRequest in `body[:size]` into columns.

    Sample k goes to `refs[k]`, `ts_ms[k]`, `bits[k]` (the bits of its value); where the series is in no entry, `refs[k]` is
    -1 - i with `spans[i]` naming its labels. `spans`, `exemplars` and `counts` as above.
    """
    k = 0
    x = 0
    found_spans = 0
    series = 0
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
            found_spans = note(spans, found_spans, METADATA, start, end, series, 0, 0)
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
        first_exemplar = x
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
                if x >= len(exemplars):
                    status = FULL
                    break
                exemplars[x, EXEMPLAR_START] = inner
                exemplars[x, EXEMPLAR_END] = p
                exemplars[x, EXEMPLAR_REF] = ref
                exemplars[x, EXEMPLAR_NUMBER] = series
                x += 1
            elif tag == 0x22:
                histograms += 1
            else:
                if k >= len(refs):
                    status = FULL
                    break
                value, t, _, understood = sample(body, inner, p)
                if not understood:
                    status = ODD
                    break
                refs[k] = ref
                ts_ms[k] = t
                bits[k] = value
                k += 1
        if status != OK:
            break
        if entry < 0 and (k > first or x > first_exemplar):
            found_spans = note(spans, found_spans, UNSEEN, start, labels, series, start, labels)
        series += 1
    counts[STATUS] = status
    counts[SAMPLES] = k
    counts[SPANS] = found_spans
    counts[SERIES] = series
    counts[EXEMPLARS] = x
    counts[HISTOGRAMS] = histograms
    counts[STARTS] = 0
    counts[POSITION] = position
    counts[ENTRY] = last


@inlined
def find_symbols(
    body: Bytes,
    size: int,
    slots: Words,
    entries: Int64,
    used: Bytes,
    arena: Bytes,
    seed: np.uint64,
    symbols: Int64,
    ids: Int32,
    counts: Int64,
) -> int:
    """Find every symbol of the Request in `body[:size]`, wherever it stands; return how the pass ended.

    Symbol m is `body[symbols[m, 0]:symbols[m, 1]]`; `ids[m]` is its id, 0 for the empty one, -1 - m when it is not in the table.
    """
    m = 0
    last = counts[SYMBOL_ENTRY]
    at: Index = 0
    status = OK
    while at < size:
        counts[POSITION] = at
        tag = body[np.uint64(at)]
        if tag != 0x22 and tag != 0x2A:
            at = skip_field(body, at, size)
            if at < 0:
                status = ODD
                break
            continue
        start, end = span_end(body, at + 1, size)
        if end < 0:
            status = ODD
            break
        at = end
        if tag == 0x2A:
            continue
        if m >= len(ids):
            status = FULL
            break
        symbols[m, 0] = start
        symbols[m, 1] = end
        ids[m] = 0
        if end > start:
            # As with series below, senders mostly repeat the order of their symbols.
            entry = entries[last, NEXT]
            if entries[entry, LENGTH] != end - start or not same_bytes(arena, entries[entry, OFFSET], body, start, end - start):
                entry = find(slots, entries, arena, body, start, end, hash_bytes(body, start, end, seed))
                if entry >= 0:
                    entries[last, NEXT] = entry
            if entry >= 0:
                used[entry] = 1
                last = entry
                ids[m] = entries[entry, REF]
            else:
                ids[m] = -1 - m
        m += 1
    counts[SYMBOLS] = m
    counts[SYMBOL_ENTRY] = last
    return status


@inlined
def put_id(keys: Bytes, at: Index, number: Index) -> None:
    """An int32, little-endian; LLVM makes one store of it."""
    word = np.uint32(number)
    for i in range(4):
        keys[np.uint64(at + i)] = np.uint8((word >> np.uint32(8 * i)) & np.uint32(0xFF))


@inlined
def put_refs(body: Bytes, start: Index, end: Index, ids: Int32, symbols: int, keys: Bytes, filled: Index) -> tuple[Index, int, bool]:
    """Put the ids of the symbols whose references are packed in `body[start:end]` into `keys`, where there is room for them.

    Return where `keys` is filled to (-1: a reference is broken), how many there were, and whether one names no symbol.
    """
    count = 0
    wrong = False
    at = start
    while at < end:
        low, high = body[np.uint64(at)], body[np.uint64(at + 1)]
        if low < 0x80:
            ref = np.uint64(low)
            at += 1
        elif high < 0x80:
            ref = np.uint64(low & 0x7F) | np.uint64(high) << np.uint64(7)
            at += 2
        else:
            ref, at = varint(body, at, 10)
            ref &= np.uint64(0xFFFFFFFF)
        if at < 0 or at > end:
            return -1, count, wrong
        if ref < np.uint64(symbols):
            put_id(keys, filled, ids[ref])
        else:
            wrong = True
        filled += 4
        count += 1
    return filled, count, wrong


@inlined
def metadata_refs(
    body: Bytes, start: Index, end: Index, known: tuple[np.uint64, np.uint64, np.uint64]
) -> tuple[Index, np.uint64, np.uint64, np.uint64]:
    """The end of a Metadata message (-1: not understood), its type, its references of help and unit; what it leaves out is as `known`."""
    kind, help_ref, unit_ref = known
    p = start
    while p < end:
        tag = body[np.uint64(p)]
        if tag == 0x08:
            kind, p = varint(body, p + 1, 10)
        elif tag == 0x18:
            help_ref, p = varint(body, p + 1, 10)
        elif tag == 0x20:
            unit_ref, p = varint(body, p + 1, 10)
        else:
            p = skip_field(body, p, end)
        if p < 0 or p > end:
            return -1, kind, help_ref, unit_ref
    return p, kind, help_ref, unit_ref


@kernel(
    "(u1[::1], i8, u8[::1], i8[:,::1], u1[::1], u1[::1], u8, i8[:,::1], i4[::1], u8[::1], i8[:,::1], u1[::1], u1[::1], u8,"
    " u1[::1], i4[::1], i8[::1], u8[::1], i8[:,::1], i8[:,::1], i8[::1])"
)
def walk_v2(
    body: Bytes,
    size: int,
    symbol_slots: Words,
    symbol_entries: Int64,
    symbol_used: Bytes,
    symbol_arena: Bytes,
    symbol_seed: np.uint64,
    symbols: Int64,
    ids: Int32,
    slots: Words,
    entries: Int64,
    used: Bytes,
    arena: Bytes,
    seed: np.uint64,
    keys: Bytes,
    refs: Int32,
    ts_ms: Int64,
    bits: Words,
    spans: Int64,
    exemplars: Int64,
    counts: Int64,
) -> None:
    """Read the io.prometheus.write.v2.Request in `body[:size]` into columns, as `walk_v1` does.

    Symbols differ from request to request, so each is looked up first, in a table of its own that gives it a lasting id. The key of a
    series is int32 ids: of its labels as they are referred to, then the type, help and unit of its metadata, so that a series whose
    metadata changed is read again. `symbols int64[*, 2]` and `ids int32[*]` as in `find_symbols`; keys of unseen series stay in `keys`.
    """
    k = 0
    x = 0
    found_spans = 0
    series = 0
    histograms = 0
    starts = 0
    filled: Index = 0
    last = counts[ENTRY]
    status = find_symbols(body, size, symbol_slots, symbol_entries, symbol_used, symbol_arena, symbol_seed, symbols, ids, counts)
    most = counts[SYMBOLS]
    at: Index = 0
    while status == OK and at < size:
        position = at
        tag = body[np.uint64(at)]
        if tag != 0x22 and tag != 0x2A:
            at = skip_field(body, at, size)
            continue
        start, end = span_end(body, at + 1, size)
        at = end
        if tag == 0x22:
            continue
        counts[POSITION] = position
        if found_spans >= len(spans):
            status = FULL
            break

        first = k
        first_exemplar = x
        key = filled
        labels = 0
        wrong = False
        about = (np.uint64(0), np.uint64(0), np.uint64(0))
        p = start
        while p < end:
            tag = body[np.uint64(p)]
            if tag == 0x08:
                inner = p + 1
                _, p = varint(body, inner, 10)
            elif tag == 0x0A or tag == 0x12 or tag == 0x1A or tag == 0x22 or tag == 0x2A:
                inner, p = span_end(body, p + 1, end)
            else:
                inner = p
                p = skip_field(body, p, end)
            if p < 0 or p > end:
                status = ODD
                break
            if tag == 0x0A or tag == 0x08:
                if filled + 4 * (p - inner) + 12 > len(keys):
                    status = FULL
                    break
                filled, count, amiss = put_refs(body, inner, p, ids, most, keys, filled)
                labels += count
                wrong = wrong or amiss
                if filled < 0:
                    status = ODD
                    break
            elif tag == 0x12:
                if k >= len(refs):
                    status = FULL
                    break
                value, t, started, understood = sample(body, inner, p)
                if not understood:
                    status = ODD
                    break
                ts_ms[k] = t
                bits[k] = value
                k += 1
                starts += 1 if started != 0 else 0
            elif tag == 0x1A:
                histograms += 1
            elif tag == 0x22:
                if x >= len(exemplars):
                    status = FULL
                    break
                exemplars[x, EXEMPLAR_START] = inner
                exemplars[x, EXEMPLAR_END] = p
                exemplars[x, EXEMPLAR_NUMBER] = series
                x += 1
            elif tag == 0x2A:
                understood_to, kind, help_ref, unit_ref = metadata_refs(body, inner, p, about)
                about = (kind, help_ref, unit_ref)
                if understood_to < 0:
                    status = ODD
                    break
        if status != OK:
            break

        if k > first or x > first_exemplar:
            if filled + 12 > len(keys):
                status = FULL
                break
            if labels % 2 == 1:
                wrong = True
            put_id(keys, filled, np.int64(about[0] & np.uint64(0xFFFFFFFF)))
            for i in range(2):
                text = np.int64((about[1] if i == 0 else about[2]) & np.uint64(0xFFFFFFFF))
                put_id(keys, filled + 4 + 4 * i, ids[text] if text < most else 0)
                if text >= most and text > 0:
                    wrong = True
            filled += 12
            entry: Index = -1
            if not wrong:
                length = filled - key
                entry = entries[last, NEXT]
                if entries[entry, LENGTH] != length or not same_bytes(arena, entries[entry, OFFSET], keys, key, length):
                    entry = find(slots, entries, arena, keys, key, filled, hash_bytes(keys, key, filled, seed))
                    if entry >= 0:
                        entries[last, NEXT] = entry
            ref = -1 - found_spans
            if entry >= 0:
                ref = entries[entry, REF]
                used[entry] = 1
                last = entry
                filled = key
            else:
                filled = key if wrong else filled
                found_spans = note(spans, found_spans, UNSEEN, start, end, series, key, filled)
            for i in range(first, k):
                refs[i] = ref
            for i in range(first_exemplar, x):
                exemplars[i, EXEMPLAR_REF] = ref
        else:
            filled = key
        series += 1
    counts[STATUS] = status
    counts[SAMPLES] = k
    counts[SPANS] = found_spans
    counts[SERIES] = series
    counts[EXEMPLARS] = x
    counts[HISTOGRAMS] = histograms
    counts[STARTS] = starts
    counts[ENTRY] = last
    counts[KEY_BYTES] = filled


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
    """Enter keys `int64[K, 3]` (start and end of their bytes in `body`, ref) that are not there yet; there must be room for all.

    The ref of one that is there takes the place of the given one. `count` entries and `filled` bytes of the arena are in use before; return
    both as they are after.
    """
    for i in range(len(keys)):
        start = keys[i, 0]
        end = keys[i, 1]
        h = hash_bytes(body, start, end, seed)
        known = find(slots, entries, arena, body, start, end, h)
        if known >= 0:
            keys[i, 2] = entries[known, REF]
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


@kernel("(u8[::1], i8[:,::1], u1[::1], u1[::1], i8[:,::1], u1[::1], u8, i8[::1], i8, i8)")
def keep_entries(
    slots: Words,
    entries: Int64,
    used: Bytes,
    arena: Bytes,
    old_entries: Int64,
    old_arena: Bytes,
    seed: np.uint64,
    kept: Int64,
    count: int,
    filled: int,
) -> tuple[int, int]:
    """Copy the entries `kept int64[K]` behind the first `count` of other arrays, which have room for them, as not seen yet.

    `filled` bytes of the arena are in use before; return how many entries and bytes are in use then.
    """
    for i in range(len(kept)):
        old = kept[i]
        offset = old_entries[old, OFFSET]
        length = old_entries[old, LENGTH]
        for p in range(length):
            arena[filled + p] = old_arena[offset + p]
        entries[count, OFFSET] = filled
        entries[count, LENGTH] = length
        entries[count, REF] = old_entries[old, REF]
        entries[count, NEXT] = min(count + 1, len(entries) - 1)
        used[count] = 0
        publish(slots, count, hash_bytes(arena, filled, filled + length, seed))
        count += 1
        filled += length
    return count, filled
