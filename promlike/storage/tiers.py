"""What storage and stores tell each other about rollup tiers: how far they reach, what has to be done again, what is written and read.

Axis letters: S series, P packed stretches, M marks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from promlike.model.blocks import Int32, Int64
from promlike.model.tiers import TierBlock
from promlike.storage.tier_codec import Bytes

PACKED_COLUMNS = {
    "ends_ms": "buckets",
    "counts": "counts",
    "sums": "sums",
    "mins": "mins",
    "maxs": "maxs",
    "first_ms": "first_times",
    "firsts": "first_values",
    "last_ms": "last_times",
    "lasts": "last_values",
    "resets": "resets",
    "stale": "stale",
}
"""Fields of TierRows and the columns of a store that hold them packed, as bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """How far the samples of a store are rolled up: all series up to `upto_ms`, those with refs below `next_ref` up to `next_ms`.

    Both times are multiples of the coarsest resolution. Every bucket up to there is in the tiers, except for what `Marks` name.
    """

    upto_ms: int
    next_ms: int
    next_ref: int

    @classmethod
    def at(cls, upto_ms: int) -> "Watermark":
        return cls(upto_ms=upto_ms, next_ms=upto_ms, next_ref=0)

    def of(self, refs: Int32) -> Int64:
        """int64[S]: how far each series is rolled up."""
        return np.where(refs < self.next_ref, self.next_ms, self.upto_ms).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Marks:
    """Times in which samples of series came, or went, after they were rolled up: (start_ms, end_ms] of series `refs int32[M]`."""

    refs: Int32
    start_ms: Int64
    end_ms: Int64

    def __len__(self) -> int:
        return len(self.refs)

    def take(self, rows: Int64 | slice) -> "Marks":
        return Marks(refs=self.refs[rows], start_ms=self.start_ms[rows], end_ms=self.end_ms[rows])

    @classmethod
    def none(cls) -> "Marks":
        return cls(refs=np.empty(0, np.int32), start_ms=np.empty(0, np.int64), end_ms=np.empty(0, np.int64))

    @classmethod
    def joined(cls, parts: Sequence["Marks"]) -> "Marks":
        if not parts:
            return cls.none()
        columns = (np.concatenate([getattr(part, name) for part in parts]) for name in ("refs", "start_ms", "end_ms"))
        return cls(**dict(zip(("refs", "start_ms", "end_ms"), columns, strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TierBatch:
    """Rows that a store is to keep, all or nothing, together with what they mean.

    `blocks` hold the rows of the series `refs int32[S]`, one block a tier. `replaced`: rows of buckets that end in these times (multiples
    of the coarsest resolution) are forgotten first. `done` are marks, as `Store.load_marks` gave them, that need no attention any more.
    `foreign` is what `Store.foreign_changes` said before the samples were read: when others have written since, the store refuses the rows.
    """

    refs: Int32
    blocks: Sequence[TierBlock]
    watermark: Watermark
    replaced: Marks
    done: Marks
    foreign: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TierState:
    """How far the tiers of a store reach (None: nothing was rolled up yet), and since when others that write into the same database may
    have samples that they have not stored, by the clock (None: there are no others).
    """

    watermark: Watermark | None = None
    others_ms: int | None = None


DAY_MS = 86_400_000

SPANS_MS = {300_000: DAY_MS, 3_600_000: 4 * DAY_MS}
"""Rows of a tier are stored packed, by resolution: in the end all that a series has in so much time together, which ends at a multiple of
that; before, what came hour by hour, in a few stretches (`tier_packing.merged_from_ms`).
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedRows:
    """P packed stretches of rows as a store finds them, in any order. `refs int32[P]` tells whose each is, `until_ms int64[P]` where its
    last bucket ends, or a time after that, `rows int64[P]` how many rows it has.

    `columns`: of every field of TierRows that was asked for, the bytes in which all stretches stand, `uint8[…]`, and where each begins,
    `int64[P]` (`tier_codec.py`).
    """

    refs: Int32
    until_ms: Int64
    rows: Int64
    columns: Mapping[str, tuple[Bytes, Int64]]
    nbytes: int


class TierProgress:
    """The state of the tiers as this process knows it: they may reach further. Written on the event loop's thread."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = TierState()

    @property
    def watermark(self) -> Watermark | None:
        return self.state.watermark

    def reached(self, watermark: Watermark) -> None:
        """Rows up to there are in the store."""
        self.state = replace(self.state, watermark=watermark)

    def rolled_up_ms(self, refs: Int32) -> Int64 | None:
        """int64[S]: up to when the tiers have everything that was stored of each series, marks aside; None before anything is rolled up."""
        return None if self.watermark is None else self.watermark.of(refs)
