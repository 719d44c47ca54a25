"""From rows of a tier as a store returns them, and the newest ones behind them, to a block. Axis letters: S series, B rows, R runs."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any

import numpy as np

from promlike.kernel import kernel
from promlike.model.blocks import Bool, Float64, Int32, Int64
from promlike.model.tiers import COLUMN_TYPES, TierBlock, TierColumn, TierRows, wanted_names
from promlike.storage.tiers import StoredRows


def arrange_rows(
    refs: Int32, upto_ms: Int64, stored: Sequence[StoredRows], newest: TierBlock, columns: TierColumn, executor: Executor
) -> TierBlock:
    """Rows in any order as a block whose series are `refs int32[S]`, S > 0: of each the stored ones up to `upto_ms int64[S]`, then those
    of `newest`, which are later. Rows of other refs are left out, and so are all columns but `columns`, which threads of `executor` copy.
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
    copies: list[Callable[[], None]] = []
    for part in stored:
        runs = np.empty((part.rows.count, 3), np.int64)
        found = find_runs(part.refs, low, row_of, part.rows.ends_ms, upto_ms, place, last_ms, unsorted, runs)
        copies += _copies(part.rows, runs[:found], rows, names)
    runs = np.ascontiguousarray(np.column_stack((newest.offsets[:-1], place, more)))
    copies += _copies(newest.rows, runs, rows, names)
    for done in [executor.submit(copy) for copy in copies]:
        done.result()
    block = TierBlock(resolution_ms=newest.resolution_ms, rows=rows, offsets=offsets)
    return _sorted(block, np.flatnonzero(unsorted), names) if unsorted.any() else block


def _copies(rows: TierRows, runs: Int64, into: TierRows, names: Sequence[str]) -> list[Callable[[], None]]:
    """One piece of work a column: copy runs of rows, `int64[R,3]` of (from, to, how many)."""
    given, taken = rows.columns(), into.columns()
    return [partial(_COPY[COLUMN_TYPES[name]], given[name], runs, taken[name]) for name in names]


def _sorted(block: TierBlock, series: Int64, names: Sequence[str]) -> TierBlock:
    """The block with the rows of these series sorted by time. They are few: series that got late samples."""
    columns = block.rows.columns()
    for start, end in zip(block.offsets[series].tolist(), block.offsets[series + 1].tolist(), strict=True):
        order = np.argsort(columns["ends_ms"][start:end], kind="stable")
        for name in names:
            columns[name][start:end] = columns[name][start:end][order]
    return block


@kernel("(i4[::1], i8, i4[::1], i8[::1], i8[::1], i8[::1])")
def count_rows(refs: Int32, low: int, row_of: Int32, ends: Int64, upto: Int64, counts: Int64) -> None:
    """Add to `counts int64[S]` how many rows each series has; `row_of[ref - low]` is its place (-1 or outside: left out)."""
    for i in range(len(refs)):
        at = np.int64(refs[i]) - low
        row = row_of[at] if 0 <= at < len(row_of) else -1
        if row >= 0 and ends[i] <= upto[row]:
            counts[row] += 1


@kernel("(i4[::1], i8, i4[::1], i8[::1], i8[::1], i8[::1], i8[::1], b1[::1], i8[:,::1])")
def find_runs(
    refs: Int32, low: int, row_of: Int32, ends: Int64, upto: Int64, place: Int64, last: Int64, unsorted: Bool, runs: Int64
) -> int:
    """Write to `runs int64[B,3]` which rows of one series stand together: (from, to, how many); return how many runs there are.

    Moves `place int64[S]` on and marks series whose rows do not rise.
    """
    count = 0
    before = np.int32(-1)
    for i in range(len(refs)):
        at = np.int64(refs[i]) - low
        row = row_of[at] if 0 <= at < len(row_of) else np.int32(-1)
        if row >= 0 and ends[i] <= upto[row]:
            unsorted[row] |= ends[i] < last[row]
            last[row] = ends[i]
            if row != before:
                runs[count, 0] = i
                runs[count, 1] = place[row]
                runs[count, 2] = 0
                count += 1
            runs[count - 1, 2] += 1
            place[row] += 1
            before = row
        else:
            before = np.int32(-1)
    return count


@kernel("(f8[::1], i8[:,::1], f8[::1])")
def copy_floats(column: Float64, runs: Int64, out: Float64) -> None:
    for run in range(len(runs)):
        source, target = runs[run, 0], runs[run, 1]
        for i in range(runs[run, 2]):
            out[target + i] = column[source + i]


@kernel("(i8[::1], i8[:,::1], i8[::1])")
def copy_longs(column: Int64, runs: Int64, out: Int64) -> None:
    for run in range(len(runs)):
        source, target = runs[run, 0], runs[run, 1]
        for i in range(runs[run, 2]):
            out[target + i] = column[source + i]


@kernel("(i4[::1], i8[:,::1], i4[::1])")
def copy_integers(column: Int32, runs: Int64, out: Int32) -> None:
    for run in range(len(runs)):
        source, target = runs[run, 0], runs[run, 1]
        for i in range(runs[run, 2]):
            out[target + i] = column[source + i]


@kernel("(b1[::1], i8[:,::1], b1[::1])")
def copy_flags(column: Bool, runs: Int64, out: Bool) -> None:
    for run in range(len(runs)):
        source, target = runs[run, 0], runs[run, 1]
        for i in range(runs[run, 2]):
            out[target + i] = column[source + i]


_COPY: dict[type[np.generic], Any] = {
    np.float64: copy_floats,
    np.int64: copy_longs,
    np.int32: copy_integers,
    np.bool_: copy_flags,
}
