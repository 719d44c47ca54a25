"""From rows of a tier as a store returns them, and the newest ones behind them, to a block. Axis letters: S series, B rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from promlike.kernel import kernel
from promlike.model.blocks import Bool, Float64, Int32, Int64
from promlike.model.tiers import COLUMN_TYPES, TierBlock, TierColumn, TierRows, wanted_names
from promlike.storage.tiers import StoredRows


def arrange_rows(refs: Int32, upto_ms: Int64, stored: Sequence[StoredRows], newest: TierBlock, columns: TierColumn) -> TierBlock:
    """Rows in any order as a block whose series are `refs int32[S]`, S > 0: of each the stored ones up to `upto_ms int64[S]`, then those
    of `newest`, which are later. Rows of other refs are left out, and so are all columns but `columns`.
    """
    low, high = int(refs.min()), int(refs.max())
    row_of = np.full(high - low + 1, -1, np.int32)
    row_of[refs - low] = np.arange(len(refs), dtype=np.int32)
    counts = np.zeros(len(refs), np.int64)
    for part in stored:
        count_rows(part.refs, low, row_of, part.rows.ends_ms, upto_ms, counts)
    more = np.diff(newest.offsets)
    offsets = np.append(0, np.cumsum(counts + more))
    rows = TierRows.blank(int(offsets[-1]), columns)
    names = wanted_names(columns)
    last_ms = np.full(len(refs), -(2**63), np.int64)
    unsorted = np.zeros(len(refs), np.bool_)
    place = offsets[:-1].copy()
    for part in stored:
        at = np.empty(part.rows.count, np.int64)
        place_rows(part.refs, low, row_of, part.rows.ends_ms, upto_ms, place, last_ms, unsorted, at)
        _scatter(part.rows, at, rows, names)
    _scatter(newest.rows, np.repeat(place - newest.offsets[:-1], more) + np.arange(newest.rows.count), rows, names)
    block = TierBlock(resolution_ms=newest.resolution_ms, rows=rows, offsets=offsets)
    return _sorted(block, np.flatnonzero(unsorted), names) if unsorted.any() else block


def _sorted(block: TierBlock, series: Int64, names: Sequence[str]) -> TierBlock:
    """The block with the rows of these series sorted by time. They are few: series that got late samples."""
    columns = block.rows.columns()
    for start, end in zip(block.offsets[series].tolist(), block.offsets[series + 1].tolist(), strict=True):
        order = np.argsort(columns["ends_ms"][start:end], kind="stable")
        for name in names:
            columns[name][start:end] = columns[name][start:end][order]
    return block


def _scatter(rows: TierRows, at: Int64, into: TierRows, names: Sequence[str]) -> None:
    """Write row i to `at[i]` (below 0: nowhere)."""
    given, taken = rows.columns(), into.columns()
    for name in names:
        _SCATTER[COLUMN_TYPES[name]](given[name], at, taken[name])


@kernel("(i4[::1], i8, i4[::1], i8[::1], i8[::1], i8[::1])")
def count_rows(refs: Int32, low: int, row_of: Int32, ends: Int64, upto: Int64, counts: Int64) -> None:
    """Add to `counts int64[S]` how many rows each series has; `row_of[ref - low]` is its place (-1 or outside: left out)."""
    for i in range(len(refs)):
        at = np.int64(refs[i]) - low
        row = row_of[at] if 0 <= at < len(row_of) else -1
        if row >= 0 and ends[i] <= upto[row]:
            counts[row] += 1


@kernel("(i4[::1], i8, i4[::1], i8[::1], i8[::1], i8[::1], i8[::1], b1[::1], i8[::1])")
def place_rows(
    refs: Int32, low: int, row_of: Int32, ends: Int64, upto: Int64, place: Int64, last: Int64, unsorted: Bool, out: Int64
) -> None:
    """Write to `out int64[B]` where each row goes (-1: nowhere) and move `place int64[S]` on; mark series whose rows do not rise."""
    for i in range(len(refs)):
        at = np.int64(refs[i]) - low
        row = row_of[at] if 0 <= at < len(row_of) else -1
        if row < 0 or ends[i] > upto[row]:
            out[i] = -1
            continue
        out[i] = place[row]
        place[row] += 1
        unsorted[row] |= ends[i] < last[row]
        last[row] = ends[i]


@kernel("(f8[::1], i8[::1], f8[::1])")
def scatter_floats(column: Float64, at: Int64, out: Float64) -> None:
    for i in range(len(at)):
        if at[i] >= 0:
            out[at[i]] = column[i]


@kernel("(i8[::1], i8[::1], i8[::1])")
def scatter_longs(column: Int64, at: Int64, out: Int64) -> None:
    for i in range(len(at)):
        if at[i] >= 0:
            out[at[i]] = column[i]


@kernel("(i4[::1], i8[::1], i4[::1])")
def scatter_integers(column: Int32, at: Int64, out: Int32) -> None:
    for i in range(len(at)):
        if at[i] >= 0:
            out[at[i]] = column[i]


@kernel("(b1[::1], i8[::1], b1[::1])")
def scatter_flags(column: Bool, at: Int64, out: Bool) -> None:
    for i in range(len(at)):
        if at[i] >= 0:
            out[at[i]] = column[i]


_SCATTER: dict[type[np.generic], Any] = {
    np.float64: scatter_floats,
    np.int64: scatter_longs,
    np.int32: scatter_integers,
    np.bool_: scatter_flags,
}
