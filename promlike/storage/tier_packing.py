"""Packing rows of a tier for a store, and putting new rows among packed ones.

Axis letters: S series, B rows, P packed stretches, M marks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from promlike.kernel import kernel
from promlike.model.blocks import Bool, Int32, Int64
from promlike.model.tiers import COARSEST_MS, TierBlock, TierRows
from promlike.storage.packed_tier import pack_into_tier
from promlike.storage.tier_codec import HEADER, Bytes, measure, to_integers, write_planes
from promlike.storage.tiers import DAY_MS, SPANS_MS, Marks, PackedRows

NEVER_FIRST_MS = 2**63 - 1
NEVER_LAST_MS = -(2**63)
QUARTER_MS = DAY_MS // 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedColumn:
    """A column of P stretches, ready to be written: `integers int64[B]`, and of each stretch its form, base and planes."""

    integers: Int64
    offsets: Int64
    forms: Bytes
    bases: Int64
    firsts: Int64
    widths: Int64

    @property
    def sizes(self) -> Int64:
        """int64[P]: how many bytes each stretch takes."""
        sizes: Int64 = HEADER + self.widths * np.diff(self.offsets)
        return sizes

    def write(self, starts: Int64, data: Bytes) -> None:
        """Write each stretch to `data` from `starts int64[P]` on."""
        write_planes(self.integers, self.offsets, self.forms, self.bases, self.firsts, self.widths, starts, data)

    def joined(self) -> tuple[Bytes, Int64]:
        """All stretches one after the other, and where each begins, int64[P+1]."""
        starts = np.append(0, np.cumsum(self.sizes))
        data = np.empty(starts[-1], np.uint8)
        self.write(starts[:-1].copy(), data)
        return data, starts


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Packing:
    """P stretches to be stored: whose, until when, how many rows (int32[P], int64[P], int64[P]), the first and last time of their samples
    (NEVER_FIRST_MS and NEVER_LAST_MS where there are only stale markers), and columns by the fields of TierRows.
    """

    refs: Int32
    until_ms: Int64
    rows: Int64
    first_ms: Int64
    last_ms: Int64
    columns: dict[str, PackedColumn]

    def packed(self) -> PackedRows:
        """As a store gives them back."""
        joined = {name: column.joined() for name, column in self.columns.items()}
        columns = {name: (data, starts[:-1].copy()) for name, (data, starts) in joined.items()}
        size = sum(len(data) for data, _ in joined.values())
        return PackedRows(refs=self.refs, until_ms=self.until_ms, rows=self.rows, columns=columns, nbytes=size)


def pack(refs: Int32, block: TierBlock) -> Packing:
    """The rows of `refs int32[S]`, one stretch a series and span of time; it ends with its last row."""
    rows, resolution_ms = block.rows, block.resolution_ms
    until = ends_of_stretches(rows.ends_ms, resolution_ms)
    series = np.repeat(np.arange(len(refs)), np.diff(block.offsets))
    first = np.flatnonzero(np.append(True, (np.diff(series) != 0) | (np.diff(until) != 0))) if rows.count else np.empty(0, np.int64)
    offsets = np.append(first, rows.count)
    places = np.arange(rows.count) - np.repeat(first, np.diff(offsets))
    some = rows.counts > 0
    integers = {
        "ends_ms": rows.ends_ms // resolution_ms - places,
        "counts": rows.counts.astype(np.int64),
        "first_ms": rows.first_ms - rows.ends_ms,
        "last_ms": rows.last_ms - rows.ends_ms,
        "stale": rows.stale.astype(np.int64),
    }
    columns = {name: _packed(integers.get(name), column, offsets) for name, column in rows.columns().items()}
    empty = np.empty(0, np.int64)
    return Packing(
        refs=refs[series[first]],
        until_ms=rows.ends_ms[offsets[1:] - 1],
        rows=np.diff(offsets),
        first_ms=np.minimum.reduceat(np.where(some, rows.first_ms, NEVER_FIRST_MS), first) if len(first) else empty,
        last_ms=np.maximum.reduceat(np.where(some, rows.last_ms, NEVER_LAST_MS), first) if len(first) else empty,
        columns=columns,
    )


def _packed(integers: Int64 | None, column: np.ndarray[tuple[int], np.dtype[np.generic]], offsets: Int64) -> PackedColumn:
    stretches = len(offsets) - 1
    forms = np.zeros(stretches, np.uint8)
    if integers is None:
        values = np.ascontiguousarray(column, np.float64)
        integers = np.empty(len(values), np.int64)
        to_integers(values, values.view(np.int64), offsets, integers, forms)
    bases, firsts, widths = (np.empty(stretches, np.int64) for _ in range(3))
    measure(integers, offsets, bases, firsts, widths)
    return PackedColumn(integers=integers, offsets=offsets, forms=forms, bases=bases, firsts=firsts, widths=widths)


def ends_of_stretches(ends_ms: Int64, resolution_ms: int) -> Int64:
    """The end of the span of time that each bucket belongs to, of all of which there is one stretch in the end: int64[B]."""
    span_ms = SPANS_MS[resolution_ms]
    until: Int64 = -(-ends_ms // span_ms) * span_ms
    return until


def merged_from_ms(ends_ms: Int64, resolution_ms: int) -> Int64:
    """From where on, int64[P], stretches are put together when rows of the hours of these times, `int64[P]`, are added: those of a quarter
    of a day with its last hour, then those of a day, and so on. So a row is written again two or three times, not every hour that follows.
    """
    starts, ends_ms = ends_ms, -(-ends_ms // COARSEST_MS) * COARSEST_MS
    for span_ms in (QUARTER_MS, DAY_MS, SPANS_MS[resolution_ms]):
        starts = np.where(ends_ms % span_ms == 0, ends_ms - span_ms, starts)
    return starts


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Change:
    """What a transaction does to a tier: the stretches `refs int32[M]`, `until_ms int64[M]` go, those of `packing` come."""

    refs: Int32
    until_ms: Int64
    packing: Packing


def change(resolution_ms: int, stored: Sequence[PackedRows], refs: Int32, block: TierBlock, replaced: Marks) -> Change:
    """Put rows of `refs int32[S]` in the place of those in the times `replaced`. `stored` are all stretches that either may touch, and
    may be more.
    """
    touched = [_touched(resolution_ms, part, refs, block, replaced) for part in stored]
    touched = [part for part in touched if len(part.refs)]
    if not touched:
        none = np.empty(0, np.int32)
        return Change(refs=none, until_ms=none.astype(np.int64), packing=pack(refs, block))
    gone_refs = np.concatenate([part.refs for part in touched])
    gone_until = np.concatenate([part.until_ms for part in touched])
    owners = np.unique(gone_refs)
    old = pack_into_tier(resolution_ms, owners, touched).part(0, len(owners))
    old_refs = np.repeat(owners, np.diff(old.offsets))
    kept = outside(old_refs, old.rows.ends_ms, *_sorted_marks(replaced))
    merged_refs, merged = _joined(old_refs[kept], old.rows.take(kept), np.repeat(refs, np.diff(block.offsets)), block)
    return Change(refs=gone_refs, until_ms=gone_until, packing=pack(merged_refs, merged))


def _joined(old_refs: Int32, old: TierRows, new_refs: Int32, block: TierBlock) -> tuple[Int32, TierBlock]:
    """Rows of both, by series and time; of the same bucket the new one."""
    owners = np.concatenate([old_refs, new_refs])
    ends = np.concatenate([old.ends_ms, block.rows.ends_ms])
    order = np.lexsort((ends, owners))
    newest = np.append((np.diff(owners[order]) != 0) | (np.diff(ends[order]) != 0), True)
    order = order[newest[: len(order)]]
    given = block.rows.columns()
    columns = {name: np.concatenate([column, given[name]])[order] for name, column in old.columns().items()}
    return block_of_rows(block.resolution_ms, owners[order], columns)


def _touched(resolution_ms: int, part: PackedRows, refs: Int32, block: TierBlock, replaced: Marks) -> PackedRows:
    """The stretches that may hold times of marks or of new rows, or are put together with these."""
    marks = Marks.joined([replaced, _new_times(resolution_ms, refs, block)])
    low = ends_of_stretches(part.until_ms, resolution_ms) - SPANS_MS[resolution_ms]
    rows = np.flatnonzero(overlapping(part.refs, low, part.until_ms, *_sorted_marks(marks)))
    columns = {name: (data, starts[rows]) for name, (data, starts) in part.columns.items()}
    return PackedRows(refs=part.refs[rows], until_ms=part.until_ms[rows], rows=part.rows[rows], columns=columns, nbytes=part.nbytes)


def _new_times(resolution_ms: int, refs: Int32, block: TierBlock) -> Marks:
    """For each series and span of time from the first new row, or what is put together with new rows, to the last one."""
    ends = block.rows.ends_ms
    if not len(ends):
        return Marks.none()
    owners, until = np.repeat(refs, np.diff(block.offsets)), ends_of_stretches(ends, resolution_ms)
    first = np.flatnonzero(np.append(True, (np.diff(owners) != 0) | (np.diff(until) != 0)))
    last_ms = ends[np.append(first[1:], len(ends)) - 1]
    start_ms = np.minimum(ends[first] - resolution_ms, merged_from_ms(last_ms, resolution_ms))
    return Marks(refs=owners[first], start_ms=start_ms, end_ms=last_ms)


def _sorted_marks(marks: Marks) -> tuple[Int32, Int64, Int64]:
    order = np.argsort(marks.refs, kind="stable")
    return marks.refs[order].astype(np.int32), marks.start_ms[order].astype(np.int64), marks.end_ms[order].astype(np.int64)


def span_of(resolution_ms: int, refs: Int32, block: TierBlock, replaced: Marks) -> tuple[int, int] | None:
    """The stretches that `change` needs end in (first, last]; None when it needs none."""
    times = Marks.joined([replaced, _new_times(resolution_ms, refs, block)])
    return (int(times.start_ms.min()), int(times.end_ms.max()) + SPANS_MS[resolution_ms]) if len(times) else None


def all_of(resolution_ms: int, parts: Sequence[PackedRows]) -> tuple[Int32, TierBlock]:
    """Every row of these stretches, by ref, and the refs: for whoever looks at what is stored."""
    refs = np.unique(np.concatenate([np.empty(0, np.int32), *(part.refs for part in parts)]))
    refs = refs[refs >= 0]
    if not len(refs):
        return refs, TierBlock(resolution_ms=resolution_ms, rows=TierRows.blank(0), offsets=np.zeros(1, np.int64))
    return refs, pack_into_tier(resolution_ms, refs, parts).part(0, len(refs))


def block_of_rows(resolution_ms: int, owners: Int32, columns: Mapping[str, Any]) -> tuple[Int32, TierBlock]:
    """Rows sorted by series and time, `owners int32[B]` telling whose each is, as the refs of the series and a block."""
    refs, first = np.unique(owners, return_index=True)
    offsets = np.append(first, len(owners)).astype(np.int64)
    return refs, TierBlock(resolution_ms=resolution_ms, rows=TierRows(**columns), offsets=offsets)


@kernel("(i4[::1], i8[::1], i4[::1], i8[::1], i8[::1])")
def outside(refs: Int32, ends: Int64, marked: Int32, starts: Int64, until: Int64) -> Bool:
    """Which rows end in no (start, until] of their series; `marked` is sorted."""
    found = np.ones(len(refs), np.bool_)
    for i in range(len(refs)):
        at = np.searchsorted(marked, refs[i])
        while at < len(marked) and marked[at] == refs[i]:
            if starts[at] < ends[i] <= until[at]:
                found[i] = False
            at += 1
    return found


@kernel("(i4[::1], i8[::1], i8[::1], i4[::1], i8[::1], i8[::1])")
def overlapping(refs: Int32, lows: Int64, highs: Int64, marked: Int32, starts: Int64, until: Int64) -> Bool:
    """Which of (low, high] have a part in common with a (start, until] of their series; `marked` is sorted."""
    found = np.zeros(len(refs), np.bool_)
    for i in range(len(refs)):
        at = np.searchsorted(marked, refs[i])
        while at < len(marked) and marked[at] == refs[i]:
            if starts[at] < highs[i] and until[at] > lows[i]:
                found[i] = True
            at += 1
    return found
