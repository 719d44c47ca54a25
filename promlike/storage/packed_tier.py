"""Packed rows of a tier, unpacked when a query asks for them. Axis letters: S series, B rows, P and Q packed stretches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from promlike.model.blocks import Bool, Int32, Int64
from promlike.model.tiers import ALL_COLUMNS, TierBlock, TierColumn, TierRows, wanted_names
from promlike.storage.arrange import rows_of
from promlike.storage.tier_codec import clip, read_counts, read_ends, read_flags, read_floats, read_times
from promlike.storage.tiers import PackedRows

PORTION_ROWS = 65_536
"""Unpacked at once: some three megabytes, most of which stay in a core's cache until the kernel that asked for them has read them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Stretches:
    """Q stretches of one answer of the store, by series and time: which they are, `at int64[Q]`, which of their rows are wanted,
    `takes[Q]` from `skips[Q]` on, and where those stand among all rows, `places[Q]`. Those of series i are `bounds[i]:bounds[i+1]`.
    """

    packed: PackedRows
    at: Int64
    skips: Int64
    takes: Int64
    places: Int64
    bounds: Int64


class PackedTier:
    """Rows of S series as a store gave them; behind those of each series stand those of `newest`, which are later. Implements `Tier`."""

    __slots__ = ("_columns", "_newest", "_offsets", "_parts", "count", "nbytes", "portion", "resolution_ms")

    def __init__(self, columns: TierColumn, offsets: Int64, parts: Sequence[_Stretches], newest: TierBlock) -> None:
        self._columns = columns
        self._offsets = offsets
        self._parts = parts
        self._newest = newest
        self.resolution_ms = newest.resolution_ms
        self.count = int(offsets[-1])
        self.nbytes = newest.nbytes + sum(part.packed.nbytes for part in parts)
        self.portion = max(PORTION_ROWS * self.series // max(self.count, 1), 1)

    @property
    def series(self) -> int:
        return len(self._offsets) - 1

    def filled_series(self) -> tuple[Bool, "PackedTier"]:
        """See `Tier.filled_series`."""
        filled = self._offsets[1:] > self._offsets[:-1]
        if filled.all():
            return filled, self
        parts = [
            _Stretches(
                packed=part.packed, at=part.at, skips=part.skips, takes=part.takes, places=part.places, bounds=_without(part.bounds, filled)
            )
            for part in self._parts
        ]
        newest = self._newest
        newest = TierBlock(resolution_ms=newest.resolution_ms, rows=newest.rows, offsets=_without(newest.offsets, filled))
        return filled, PackedTier(self._columns, _without(self._offsets, filled), parts, newest)

    def part(self, low: int, high: int) -> TierBlock:
        """See `Tier.part`."""
        offsets = self._offsets[low : high + 1] - self._offsets[low]
        rows = TierRows.blank(int(offsets[-1]), self._columns)
        names = wanted_names(self._columns)
        for part in self._parts:
            chosen = slice(part.bounds[low], part.bounds[high])
            if chosen.start < chosen.stop:
                _unpack(part, chosen, int(self._offsets[low]), self.resolution_ms, names, rows)
        self._add_newest(low, high, offsets, names, rows)
        return TierBlock(resolution_ms=self.resolution_ms, rows=rows, offsets=offsets)

    def _add_newest(self, low: int, high: int, offsets: Int64, names: Sequence[str], rows: TierRows) -> None:
        """Copy the newest rows of series low..high-1 to where those of each series end."""
        given = self._newest.offsets[low : high + 1]
        counts = np.diff(given)
        total = int(given[-1] - given[0])
        if total:
            places = np.arange(total) + np.repeat(offsets[1:] - (given[1:] - given[0]), counts)
            source, target = self._newest.rows.columns(), rows.columns()
            for name in names:
                target[name][places] = source[name][given[0] : given[-1]]


def _without(bounds: Int64, filled: Bool) -> Int64:
    """Bounds of series, those that are not filled left out: they have nothing between theirs."""
    return np.append(bounds[0], bounds[1:][filled])


def _unpack(part: _Stretches, chosen: slice, first: int, resolution_ms: int, names: Sequence[str], into: TierRows) -> None:
    """Write the chosen stretches to where they stand among the rows from `first` on."""
    at, skips, takes = part.at[chosen], part.skips[chosen], part.takes[chosen]
    places, counts = part.places[chosen] - first, part.packed.rows[at]
    for name in names:
        data, starts = part.packed.columns[name]
        common = data, starts[at], counts, skips, takes, places
        match name:
            case "ends_ms":  # the first of the names
                read_ends(*common, resolution_ms, into.ends_ms)
            case "first_ms":
                read_times(*common, into.ends_ms, into.first_ms)
            case "last_ms":
                read_times(*common, into.ends_ms, into.last_ms)
            case "counts":
                read_counts(*common, into.counts)
            case "stale":
                read_flags(*common, into.stale)
            case _:
                column = into.columns()[name]
                read_floats(*common, column, column.view(np.int64))


def pack_into_tier(
    resolution_ms: int,
    refs: Int32,
    stored: Sequence[PackedRows],
    *,
    columns: TierColumn = ALL_COLUMNS,
    after_ms: int = -(2**63),
    upto_ms: Int64 | None = None,
    newest: TierBlock | None = None,
) -> PackedTier:
    """Stretches in any order as a tier whose series are `refs int32[S]`, S > 0: of each the rows that end in (after_ms, upto_ms],
    `upto_ms int64[S]`, then those of `newest`, which are later. Stretches of other refs are left out.
    """
    if upto_ms is None:
        upto_ms = np.full(len(refs), 2**63 - 1, np.int64)
    if newest is None:
        newest = TierBlock(resolution_ms=resolution_ms, rows=TierRows.blank(0), offsets=np.zeros(len(refs) + 1, np.int64))
    owners = [rows_of(refs, part.refs) for part in stored]
    clipped = [_clipped(part, owner, resolution_ms, after_ms, upto_ms) for part, owner in zip(stored, owners, strict=True)]
    source = np.repeat(np.arange(len(stored)), [len(part.refs) for part in stored])
    at = np.concatenate([np.empty(0, np.int64), *(np.arange(len(part.refs)) for part in stored)])
    owner = np.concatenate([np.empty(0, np.int32), *owners])
    until = np.concatenate([np.empty(0, np.int64), *(part.until_ms for part in stored)])
    skips, takes = (np.concatenate([np.empty(0, np.int64), *(each[k] for each in clipped)]) for k in (0, 1))
    order = np.lexsort((until, owner))
    order = order[takes[order] > 0]
    source, at, owner, skips, takes = source[order], at[order], owner[order], skips[order], takes[order]
    before = np.cumsum(takes) - takes
    counts = np.zeros(len(refs), np.int64)
    np.add.at(counts, owner, takes)
    stored_before = np.cumsum(counts) - counts
    offsets = np.append(0, np.cumsum(counts + np.diff(newest.offsets)))
    places = before - stored_before[owner] + offsets[owner]
    parts = []
    for number, packed in enumerate(stored):
        mine = np.flatnonzero(source == number)
        bounds = np.searchsorted(owner[mine], np.arange(len(refs) + 1)).astype(np.int64)
        parts.append(_Stretches(packed=packed, at=at[mine], skips=skips[mine], takes=takes[mine], places=places[mine], bounds=bounds))
    return PackedTier(columns, offsets, parts, newest)


def _clipped(part: PackedRows, owner: Int32, resolution_ms: int, after_ms: int, upto_ms: Int64) -> tuple[Int64, Int64]:
    """Of each stretch how many rows to skip and how many to take, int64[P]; of those without an owner none."""
    skips, takes = np.empty(len(part.refs), np.int64), np.empty(len(part.refs), np.int64)
    data, starts = part.columns["ends_ms"]
    limit = np.where(owner >= 0, upto_ms[owner], -(2**63))
    clip(data, np.ascontiguousarray(starts), part.rows, resolution_ms, after_ms, limit, skips, takes)
    return skips, takes
