"""Kernels of the series index. The arena holds each series' labels as pairs (name id, value symbol), sorted by name:
those of ref s stand at `arena[2 * starts[s] : 2 * ends[s]]`.

Series are found by their pairs through a hash table of refs with open addressing, -1 where a slot is free; it has a power of two of slots.
"""

import numpy as np
from numpy.typing import NDArray

from promlike.kernel import inlined, kernel
from promlike.model.blocks import Int32, Int64


@kernel("(i4[::1], i8[::1], i8[::1], i4[::1], i4)")
def label_column(arena: Int32, starts: Int64, ends: Int64, refs: Int32, name: int) -> Int32:
    """The value symbol of one label of `refs int32[S]`; 0 where a series does not have it."""
    out = np.zeros(len(refs), np.int32)
    for i in range(len(refs)):
        for pair in range(starts[refs[i]], ends[refs[i]]):
            if arena[2 * pair] == name:
                out[i] = arena[2 * pair + 1]
                break
    return out


@kernel("(i4[::1], i8[::1], i8[::1], i4[::1], u1[::1])")
def mark_names(arena: Int32, starts: Int64, ends: Int64, refs: Int32, used: NDArray[np.uint8]) -> None:
    """Set `used[name id]` for every label name that one of the series has."""
    for i in range(len(refs)):
        for pair in range(starts[refs[i]], ends[refs[i]]):
            used[arena[2 * pair]] = 1


@kernel("(i4[::1], i8[::1], i8[::1], i4[::1], i4[::1], i4)")
def label_codes(arena: Int32, starts: Int64, ends: Int64, refs: Int32, columns: Int32, width: int) -> NDArray[np.int32]:
    """The labels of `refs int32[S]` as value symbols int32[S,L]; label name n stands in column `columns[n]`."""
    out = np.zeros((len(refs), width), np.int32)
    for i in range(len(refs)):
        for pair in range(starts[refs[i]], ends[refs[i]]):
            out[i, columns[arena[2 * pair]]] = arena[2 * pair + 1]
    return out


@kernel("(i4[::1], i8[::1], i8[::1], i4[::1])")
def count_pairs(arena: Int32, starts: Int64, ends: Int64, refs: Int32) -> tuple[Int32, Int32, Int64]:
    """The distinct labels of `refs int32[S]`, K of them, sorted: name int32[K], value int32[K], how many series have it int64[K]."""
    pairs = np.full(1 << 12, -1, np.int64)
    counts = np.zeros(len(pairs), np.int64)
    found = 0
    for i in range(len(refs)):
        for at in range(starts[refs[i]], ends[refs[i]]):
            pair = int(arena[2 * at]) << 32 | int(arena[2 * at + 1])
            slot = _pair_slot(pair, pairs)
            found += pairs[slot] < 0
            pairs[slot] = pair
            counts[slot] += 1
            if 2 * found > len(pairs):
                wider = np.full(4 * len(pairs), -1, np.int64)
                moved = np.zeros(len(wider), np.int64)
                for slot in range(len(pairs)):
                    if pairs[slot] >= 0:
                        free = _pair_slot(int(pairs[slot]), wider)
                        wider[free] = pairs[slot]
                        moved[free] = counts[slot]
                pairs, counts = wider, moved
    rows = np.flatnonzero(pairs >= 0)
    rows = rows[np.argsort(pairs[rows])]
    return (pairs[rows] >> 32).astype(np.int32), (pairs[rows] & 0xFFFFFFFF).astype(np.int32), counts[rows]


@inlined
def _pair_slot(pair: int, pairs: Int64) -> int:
    """Where a pair stands in a table that is at most half full, or the free place where it belongs."""
    h = np.uint64(pair) * np.uint64(0x9E3779B97F4A7C15)
    slot = int(h >> np.uint64(32)) & (len(pairs) - 1)
    while pairs[slot] >= 0 and pairs[slot] != pair:
        slot = (slot + 1) & (len(pairs) - 1)
    return slot


@inlined
def _slot(arena: Int32, starts: Int64, ends: Int64, table: Int32, pairs: Int32) -> int:
    """The slot of the series with these pairs, or the free one where it belongs."""
    hashed = np.uint64(0x9E3779B97F4A7C15)
    for i in range(len(pairs)):
        hashed = (hashed ^ np.uint64(np.uint32(pairs[i]))) * np.uint64(0xFF51AFD7ED558CCD)
        hashed ^= hashed >> np.uint64(32)
    mask = np.uint64(len(table) - 1)
    slot = hashed & mask
    while table[slot] >= 0:
        ref = table[slot]
        start = 2 * starts[ref]
        if 2 * ends[ref] - start == len(pairs):
            same = True
            for i in range(len(pairs)):
                if arena[start + i] != pairs[i]:
                    same = False
                    break
            if same:
                break
        slot = (slot + np.uint64(1)) & mask
    return int(slot)


@kernel("(i4[::1], i8[::1], i8[::1], i4[::1], i4[::1])")
def find_series(arena: Int32, starts: Int64, ends: Int64, table: Int32, pairs: Int32) -> int:
    """The slot of the series with these pairs (int32[2P]), or the free one where it belongs."""
    return _slot(arena, starts, ends, table, pairs)


@kernel("(i4[::1], i8[::1], i8[::1], i4[::1], i4[::1])")
def enter_series(arena: Int32, starts: Int64, ends: Int64, table: Int32, refs: Int32) -> None:
    """Enter series that are not in the table, which has room for them."""
    for i in range(len(refs)):
        s = refs[i]
        table[_slot(arena, starts, ends, table, arena[2 * starts[s] : 2 * ends[s]])] = s


@kernel("(i4[::1], i8[::1], i4[::1], i4[::1], i4[::1], i4[::1], i8[::1], i8[::1], i8, i4, i4[::1], i4[::1])")
def add_series(
    pairs: Int32,
    offsets: Int64,
    names: Int32,
    ranks: Int32,
    symbols: Int32,
    arena: Int32,
    starts: Int64,
    ends: Int64,
    used: int,
    next_ref: int,
    table: Int32,
    refs: Int32,
) -> int:
    """Add the series of LabelColumns (`pairs`, `offsets`) that the index does not have, behind `used` pairs of the arena.

    Of each of the columns' strings: `names` its id as a name, `ranks` its place among the names in order, `symbols` its symbol as a value
    (0 for "", whose label is absent). `refs int32[S]` says under which refs, -1: the next free one from `next_ref` on; it is set to the
    refs that the series have. Returns how many pairs the arena holds then; -1 - s when series s has another ref already, or its ref
    another series.
    """
    for s in range(len(refs)):
        start = 2 * used
        count = 0
        for pair in range(offsets[s], offsets[s + 1]):
            name, symbol = pairs[2 * pair], symbols[pairs[2 * pair + 1]]
            if symbol == 0:
                continue
            at = count
            while at > 0 and ranks[arena[start + 2 * at - 2]] > ranks[name]:
                arena[start + 2 * at] = arena[start + 2 * at - 2]
                arena[start + 2 * at + 1] = arena[start + 2 * at - 1]
                at -= 1
            arena[start + 2 * at] = name
            arena[start + 2 * at + 1] = symbol
            count += 1
        for i in range(count):
            arena[start + 2 * i] = names[arena[start + 2 * i]]
        slot = _slot(arena, starts, ends, table, arena[start : start + 2 * count])
        found = table[slot]
        if found >= 0:
            if refs[s] >= 0 and refs[s] != found:
                return -1 - s
            refs[s] = found
            continue
        if refs[s] < 0:
            refs[s] = next_ref
        elif ends[refs[s]] > starts[refs[s]]:
            return -1 - s
        next_ref = max(next_ref, refs[s] + 1)
        starts[refs[s]] = used
        used += count
        ends[refs[s]] = used
        table[slot] = refs[s]
    return used
