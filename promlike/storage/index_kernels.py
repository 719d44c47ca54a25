"""Kernels of the series index. The arena holds each series' labels as pairs (name id, value symbol), sorted by name: those of ref s are
the `places[s] & MOST_PAIRS` pairs from number `places[s] >> PAIR_BITS` on. One word says both, so that a reader in another thread never
finds half of a change; a ref that nobody has has no pairs.

Series are found by their pairs through a hash table of refs with open addressing, -1 where a slot is free; it has a power of two of slots.
"""

import numpy as np
from numpy.typing import NDArray

from promlike.kernel import inlined, kernel
from promlike.model.blocks import Bool, Int32, Int64

PAIR_BITS = 24
MOST_PAIRS = (1 << PAIR_BITS) - 1


@inlined
def _first(place: int) -> int:
    return place >> PAIR_BITS


@inlined
def _after(place: int) -> int:
    return (place >> PAIR_BITS) + (place & MOST_PAIRS)


@kernel("(i4[::1], i8[::1], i4[::1], i4)")
def label_column(arena: Int32, places: Int64, refs: Int32, name: int) -> Int32:
    """The value symbol of one label of `refs int32[S]`; 0 where a series does not have it."""
    out = np.zeros(len(refs), np.int32)
    for i in range(len(refs)):
        for pair in range(_first(places[refs[i]]), _after(places[refs[i]])):
            if arena[2 * pair] == name:
                out[i] = arena[2 * pair + 1]
                break
    return out


@kernel("(i4[::1], i8[::1], i4[::1], u1[::1])")
def mark_names(arena: Int32, places: Int64, refs: Int32, used: NDArray[np.uint8]) -> None:
    """Set `used[name id]` for every label name that one of the series has."""
    for i in range(len(refs)):
        for pair in range(_first(places[refs[i]]), _after(places[refs[i]])):
            used[arena[2 * pair]] = 1


@kernel("(i4[::1], i8[::1], i4[::1], i4[::1], i4)")
def label_codes(arena: Int32, places: Int64, refs: Int32, columns: Int32, width: int) -> NDArray[np.int32]:
    """The labels of `refs int32[S]` as value symbols int32[S,L]; label name n stands in column `columns[n]`."""
    out = np.zeros((len(refs), width), np.int32)
    for i in range(len(refs)):
        for pair in range(_first(places[refs[i]]), _after(places[refs[i]])):
            out[i, columns[arena[2 * pair]]] = arena[2 * pair + 1]
    return out


@kernel("(i4[::1], i8[::1], i4[::1])")
def count_pairs(arena: Int32, places: Int64, refs: Int32) -> tuple[Int32, Int32, Int64]:
    """The distinct labels of `refs int32[S]`, K of them, sorted: name int32[K], value int32[K], how many series have it int64[K]."""
    pairs = np.full(1 << 12, -1, np.int64)
    counts = np.zeros(len(pairs), np.int64)
    found = 0
    for i in range(len(refs)):
        for at in range(_first(places[refs[i]]), _after(places[refs[i]])):
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
def _slot(arena: Int32, places: Int64, table: Int32, pairs: Int32) -> int:
    """The slot of the series with these pairs, or the free one where it belongs."""
    hashed = np.uint64(0x9E3779B97F4A7C15)
    for i in range(len(pairs)):
        hashed = (hashed ^ np.uint64(np.uint32(pairs[i]))) * np.uint64(0xFF51AFD7ED558CCD)
        hashed ^= hashed >> np.uint64(32)
    mask = np.uint64(len(table) - 1)
    slot = hashed & mask
    while table[slot] >= 0:
        ref = table[slot]
        start = 2 * _first(places[ref])
        if 2 * _after(places[ref]) - start == len(pairs):
            same = True
            for i in range(len(pairs)):
                if arena[start + i] != pairs[i]:
                    same = False
                    break
            if same:
                break
        slot = (slot + np.uint64(1)) & mask
    return int(slot)


@kernel("(i4[::1], i8[::1], i4[::1], i4[::1])")
def find_series(arena: Int32, places: Int64, table: Int32, pairs: Int32) -> int:
    """The slot of the series with these pairs (int32[2P]), or the free one where it belongs."""
    return _slot(arena, places, table, pairs)


@kernel("(i4[::1], i8[::1], i4[::1], i4[::1])")
def enter_series(arena: Int32, places: Int64, table: Int32, refs: Int32) -> None:
    """Enter series that are not in the table, which has room for them."""
    for i in range(len(refs)):
        s = refs[i]
        table[_slot(arena, places, table, arena[2 * _first(places[s]) : 2 * _after(places[s])])] = s


@kernel("(i4[::1], i8[::1], i4[::1], i4[::1], i4[::1], i4[::1], i8[::1], i4[::1], i8, i8, i4[::1], i4[::1], i4[::1])")
def add_series(
    pairs: Int32,
    offsets: Int64,
    names: Int32,
    ranks: Int32,
    symbols: Int32,
    arena: Int32,
    places: Int64,
    order: Int32,
    used: int,
    added: int,
    spare: Int32,
    table: Int32,
    refs: Int32,
) -> tuple[int, int, int]:
    """Add the series of LabelColumns (`pairs`, `offsets`) that the index does not have, behind `used` pairs of the arena and `added` refs
    of the order in which series came.

    Of each of the columns' strings: `names` its id as a name, `ranks` its place among the names in order, `symbols` its symbol as a value
    (0 for "", whose label is absent). `refs int32[S]` says under which refs, -1: the next one of `spare`; it is set to the refs that the
    series have. Returns how many pairs and refs there are then, and how many of `spare` are taken; -1 - s first when series s has another
    ref already, its ref another series, or too many labels.
    """
    taken = 0
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
        slot = _slot(arena, places, table, arena[start : start + 2 * count])
        found = table[slot]
        if found >= 0:
            if refs[s] >= 0 and refs[s] != found:
                return -1 - s, added, taken
            refs[s] = found
            continue
        if refs[s] < 0:
            refs[s] = spare[taken]
            taken += 1
        elif places[refs[s]] != 0:
            return -1 - s, added, taken
        if count > MOST_PAIRS:
            return -1 - s, added, taken
        places[refs[s]] = used << PAIR_BITS | count
        order[added] = refs[s]
        added += 1
        used += count
        table[slot] = refs[s]
    return used, added, taken


@kernel("(i4[::1], i8[::1], i4[::1], b1[::1])")
def mark_symbols(arena: Int32, places: Int64, refs: Int32, used: Bool) -> None:
    """Set `used[symbol]` for every value that a label of the series has."""
    for i in range(len(refs)):
        for pair in range(_first(places[refs[i]]), _after(places[refs[i]])):
            used[arena[2 * pair + 1]] = True


@kernel("(i4[::1], i8[::1], i4[::1], i4[::1], i4[::1], i8[::1], i8)")
def copy_labels(arena: Int32, places: Int64, refs: Int32, symbols: Int32, new_arena: Int32, new_places: Int64, used: int) -> int:
    """Copy the labels of `refs int32[S]` behind `used` pairs of another arena, each value as `symbols` says; how many are there then."""
    for i in range(len(refs)):
        first, after = _first(places[refs[i]]), _after(places[refs[i]])
        new_places[refs[i]] = used << PAIR_BITS | (after - first)
        for pair in range(first, after):
            new_arena[2 * used] = arena[2 * pair]
            new_arena[2 * used + 1] = symbols[arena[2 * pair + 1]]
            used += 1
    return used
