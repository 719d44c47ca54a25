"""Kernels of the series index. The arena holds each series' labels as pairs (name id, value symbol), sorted by name:
those of ref s stand at `arena[2 * starts[s] : 2 * ends[s]]`.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from promlike.kernel import inlined, kernel
from promlike.model.blocks import Int32, Int64

T = TypeVar("T", bound=np.generic)


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
    """The distinct labels of `refs int32[S]`, K of them, in order of first occurrence: name int32[K], value int32[K], series int64[K]."""
    size = 1 << 12
    table = np.full(size, -1, np.int64)
    names = np.empty(size // 2, np.int32)
    values = np.empty(size // 2, np.int32)
    counts = np.empty(size // 2, np.int64)
    found = 0
    for i in range(len(refs)):
        for pair in range(starts[refs[i]], ends[refs[i]]):
            name, value = arena[2 * pair], arena[2 * pair + 1]
            slot = _pair_slot(name, value, table, names, values)
            if table[slot] >= 0:
                counts[table[slot]] += 1
                continue
            table[slot] = found
            names[found], values[found], counts[found] = name, value, 1
            found += 1
            if found == size // 2:
                size *= 2
                table = np.full(size, -1, np.int64)
                names, values, counts = _doubled(names), _doubled(values), _doubled(counts)
                for known in range(found):
                    table[_pair_slot(names[known], values[known], table, names, values)] = known
    return names[:found].copy(), values[:found].copy(), counts[:found].copy()


@inlined
def _pair_slot(name: int, value: int, table: Int64, names: Int32, values: Int32) -> int:
    """Where a pair stands in a table that is at most half full, or the free place where it belongs."""
    h = np.uint64(np.uint32(name)) << np.uint64(32) | np.uint64(np.uint32(value))
    h = h * np.uint64(0x9E3779B97F4A7C15)
    slot = int(h >> np.uint64(32)) & (len(table) - 1)
    while table[slot] >= 0 and (names[table[slot]] != name or values[table[slot]] != value):
        slot = (slot + 1) & (len(table) - 1)
    return slot


@inlined
def _doubled(cells: NDArray[T]) -> NDArray[T]:
    grown = np.empty(2 * len(cells), cells.dtype)
    grown[: len(cells)] = cells
    return grown
