"""Rollup tiers: what remains of samples when a bucket of time becomes one row. Axis letters: S series, B rows.

A bucket of a tier is left-open and right-closed, `(end - resolution, end]`, and its ends are multiples of the resolution: so a range window
whose ends are such multiples holds whole buckets, and whatever a function needs of its samples can be had from their rows.
"""

from dataclasses import dataclass, fields, replace
from enum import Flag, auto
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from promlike.model.blocks import Bool, Float64, Int32, Int64

RESOLUTIONS_MS = {"5m": 300_000, "1h": 3_600_000}
"""The tiers by name, the finest first. Every resolution divides the next."""

COARSEST_MS = 3_600_000

RESOLUTION_NAMES = {ms: name for name, ms in RESOLUTIONS_MS.items()}


class TierColumn(Flag):
    """What a query needs of the rows of a tier, besides the ends of their buckets."""

    COUNT = auto()
    SUM = auto()
    MIN = auto()
    MAX = auto()
    FIRST = auto()
    LAST = auto()
    FIRST_TIME = auto()
    LAST_TIME = auto()
    RESETS = auto()
    STALE = auto()


NO_COLUMNS = TierColumn(0)
ALL_COLUMNS = ~NO_COLUMNS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TierRows:
    """B buckets of some series. A column that was not asked for is empty.

    `ends_ms int64[B]` are the ends of the buckets, `counts int32[B]` how many samples each holds. Stale markers are no samples: a bucket
    with nothing else has count 0. `stale bool[B]`: the newest of the bucket, markers included, is a stale marker. Of the samples:
    `sums`, `mins`, `maxs float64[B]` (NaN among the latter two only where there is nothing else, as `min_over_time` has it), the first
    and last one with `first_ms`, `last_ms int64[B]` and `firsts`, `lasts float64[B]`, and `resets float64[B]`, the sum of the values from
    which a counter fell inside the bucket, so that it increased by `lasts - firsts + resets`.
    """

    ends_ms: Int64
    counts: Int32
    sums: Float64
    mins: Float64
    maxs: Float64
    first_ms: Int64
    firsts: Float64
    last_ms: Int64
    lasts: Float64
    resets: Float64
    stale: Bool

    @property
    def count(self) -> int:
        """B"""
        return len(self.ends_ms)

    @property
    def nbytes(self) -> int:
        """Bytes of all columns."""
        return sum(column.nbytes for column in self.columns().values())

    @classmethod
    def blank(cls, rows: int, columns: TierColumn = ALL_COLUMNS) -> "TierRows":
        """Room for so many rows; what stands in it is undefined."""
        arrays: dict[str, NDArray[Any]] = {
            name: np.empty(rows if _is_wanted(name, columns) else 0, dtype) for name, dtype in COLUMN_TYPES.items()
        }
        return cls(**arrays)

    def take(self, rows: Int64 | Bool | slice) -> "TierRows":
        """Some of the rows."""
        return TierRows(**{name: column[rows] if len(column) else column for name, column in self.columns().items()})

    def columns(self) -> dict[str, NDArray[Any]]:
        """The arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(TierRows)}


COLUMN_TYPES: dict[str, type[np.generic]] = {
    "ends_ms": np.int64,
    "counts": np.int32,
    "sums": np.float64,
    "mins": np.float64,
    "maxs": np.float64,
    "first_ms": np.int64,
    "firsts": np.float64,
    "last_ms": np.int64,
    "lasts": np.float64,
    "resets": np.float64,
    "stale": np.bool_,
}
"""Types of the fields of TierRows, in their order."""

_FLAGS = {
    "counts": TierColumn.COUNT,
    "sums": TierColumn.SUM,
    "mins": TierColumn.MIN,
    "maxs": TierColumn.MAX,
    "first_ms": TierColumn.FIRST_TIME,
    "firsts": TierColumn.FIRST,
    "last_ms": TierColumn.LAST_TIME,
    "lasts": TierColumn.LAST,
    "resets": TierColumn.RESETS,
    "stale": TierColumn.STALE,
}


def _is_wanted(name: str, columns: TierColumn) -> bool:
    return name not in _FLAGS or _FLAGS[name] in columns


def wanted_names(columns: TierColumn) -> list[str]:
    """The fields of TierRows that are not left empty when these columns are asked for."""
    return [name for name in COLUMN_TYPES if _is_wanted(name, columns)]


class Tier(Protocol):
    """Rows of S series, as `TierBlock` has them: such a block, or something that makes it when it is asked for.

    A query over many rows takes them portion by portion: what a kernel gets still lies in the processor's cache.
    """

    @property
    def resolution_ms(self) -> int: ...

    @property
    def series(self) -> int: ...

    @property
    def count(self) -> int:
        """How many rows there are."""
        ...

    @property
    def nbytes(self) -> int:
        """What is in memory."""
        ...

    @property
    def portion(self) -> int:
        """How many series to take at once, at least 1."""
        ...

    def part(self, low: int, high: int) -> "TierBlock":
        """The rows of the series low..high-1. From any thread."""
        ...

    def filled_series(self) -> tuple[Bool, "Tier"]:
        """Which series have rows, `bool[S]`, and the rows without the others."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TierBlock:
    """Rows of S series, sorted by (series, bucket), no bucket twice; those of series i stand at `offsets[i]:offsets[i+1]`
    (`offsets int64[S+1]`).
    """

    resolution_ms: int
    rows: TierRows
    offsets: Int64

    @property
    def series(self) -> int:
        return len(self.offsets) - 1

    @property
    def count(self) -> int:
        """B"""
        return self.rows.count

    @property
    def nbytes(self) -> int:
        return self.rows.nbytes

    @property
    def portion(self) -> int:
        """All of them: they are there."""
        return max(self.series, 1)

    def part(self, low: int, high: int) -> "TierBlock":
        """See `Tier.part`. Arrays are shared."""
        if (low, high) == (0, self.series):
            return self
        rows = self.rows.take(slice(self.offsets[low], self.offsets[high]))
        return replace(self, rows=rows, offsets=self.offsets[low : high + 1] - self.offsets[low])

    def filled_series(self) -> tuple[Bool, "TierBlock"]:
        """See `Tier.filled_series`."""
        filled = self.offsets[1:] > self.offsets[:-1]
        return filled, replace(self, offsets=np.append(0, self.offsets[1:][filled]))

    def filled(self) -> "TierBlock":
        """Without the rows that stand for stale markers alone; the same object when there are none."""
        keep = self.rows.counts > 0
        if keep.all():
            return self
        before = np.append(0, np.cumsum(keep))
        return replace(self, rows=self.rows.take(keep), offsets=before[self.offsets])

    def validate(self) -> None:
        """Raise ValueError where an invariant does not hold."""
        ends = self.rows.ends_ms
        if self.offsets[0] != 0 or self.offsets[-1] != len(ends) or (np.diff(self.offsets) < 0).any():
            raise ValueError("rows and offsets of a TierBlock do not fit each other")
        if any(len(column) not in (0, len(ends)) for column in self.rows.columns().values()):
            raise ValueError("columns of a TierBlock differ in length")
        if (ends % self.resolution_ms).any():
            raise ValueError("a bucket of a TierBlock does not end at a multiple of its resolution")
        inner = np.ones(max(len(ends) - 1, 0), bool)
        starts = self.offsets[1:-1]
        inner[starts[(starts > 0) & (starts < len(ends))] - 1] = False
        if (np.diff(ends)[inner] <= 0).any():
            raise ValueError("buckets inside a series of a TierBlock do not rise")


def floor_ms(time_ms: int, resolution_ms: int) -> int:
    """The newest multiple of the resolution at or before a time: up to there whole buckets are over."""
    return time_ms // resolution_ms * resolution_ms


def ceil_ms(time_ms: int, resolution_ms: int) -> int:
    """The end of the bucket that a time lies in."""
    return -(-time_ms // resolution_ms) * resolution_ms
