"""The seam of the stores: what keeps the samples for good (`Store`), and what goes there and comes from there.

Ranges of times are left-open and right-closed, as in `promlike/storage/access.py`.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from promlike.model.blocks import Bool, Float64, Int32, Int64, SampleBlock
from promlike.model.exemplars import Exemplars
from promlike.model.flushes import ANYTHING, FlushNews, StoredChange
from promlike.model.labels import Labels
from promlike.model.tiers import TierColumn
from promlike.storage.access import Metadata
from promlike.storage.label_columns import LabelColumns
from promlike.storage.sql import SqlRows
from promlike.storage.tiers import Marks, PackedRows, TierBatch, TierState, Watermark


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesRecord:
    """A series that a flush announces."""

    ref: int
    labels: Labels


NO_REF = -1
NEVER_FIRST_MS = 2**63 - 1
NEVER_LAST_MS = -(2**63)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredSeries:
    """S series as the store keeps them. `refs int32[S]`; NO_REF are series that only other writers have.

    `ids int64[S]` is what the store calls them. First and last times of their stored samples, `int64[S]`: NEVER_FIRST_MS and NEVER_LAST_MS
    for a series without samples. The first may be earlier than the true one, once retention has removed samples; the last is exact.
    """

    refs: Int32
    ids: Int64
    labels: LabelColumns
    min_time_ms: Int64
    max_time_ms: Int64

    @classmethod
    def empty(cls, ids: Int32, labels: LabelColumns) -> "StoredSeries":
        """Series without refs and samples; the columns may be filled."""
        return cls(
            refs=np.full(len(ids), NO_REF, np.int32),
            ids=ids.astype(np.int64),
            labels=labels,
            min_time_ms=np.full(len(ids), NEVER_FIRST_MS, np.int64),
            max_time_ms=np.full(len(ids), NEVER_LAST_MS, np.int64),
        )

    def take(self, rows: Bool) -> "StoredSeries":
        """The series of `rows bool[S]`."""
        return StoredSeries(
            refs=self.refs[rows],
            ids=self.ids[rows],
            labels=self.labels.take(rows),
            min_time_ms=self.min_time_ms[rows],
            max_time_ms=self.max_time_ms[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredNews:
    """What other writers stored: series that have no ref here yet; first and last times of those that have (refs int32[S], int64[S]), of
    which only times in `changed_ms`, (start_ms, end_ms], are news, if that is known.
    """

    series: Sequence[StoredSeries]
    refs: Int32
    min_time_ms: Int64
    max_time_ms: Int64
    changed_ms: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WalPosition:
    """A place in the WAL: everything before it is in the store."""

    segment: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampleChunk:
    """Samples of the series `refs int32[S]`, row for row, refs ascending."""

    refs: Int32
    samples: SampleBlock


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Deletion:
    """The samples of `refs int32[S]` (ascending) with start_ms < ts_ms <= end_ms are to be gone."""

    refs: Int32
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FlushBatch:
    """What one flush hands to the store, to be stored in one transaction together with `position`.

    First of all `deletions` are carried out on what is stored, in any order, and the series `gone int32[S]`, which have no samples left,
    are forgotten: samples of the batch are not touched by them, and a series that is gone may be among the new ones.

    `chunks` are new samples, each newer than what is stored of its series; no series stands in two chunks. They are gathered while the
    iterable is consumed, so that a large flush never stands in memory as a whole: consume it once, in a worker thread. `new_series` are
    series the store has not seen (or has dropped), each once, made while they are consumed as well. The `late_*` columns hold samples at or
    before times already stored (int32[N], int64[N], float64[N], sorted by ref, time, no time twice): each replaces what is stored at the
    same (series, time). `exemplars` may hold some that are stored already: they are stored once. `marks` and `changes`, to be called once
    the chunks are consumed, tell which rows of tiers, that may reach so far at that time, all these make wrong, and what they change for
    those who keep answers.
    """

    new_series: Iterable[SeriesRecord]
    chunks: Iterable[SampleChunk]
    late_refs: Int32
    late_ts_ms: Int64
    late_values: Float64
    position: WalPosition
    metadata: Sequence[Metadata] = ()
    deletions: Sequence[Deletion] = ()
    gone: Int32 = field(default_factory=lambda: np.empty(0, np.int32))
    exemplars: Exemplars = field(default_factory=Exemplars.empty)
    marks: Callable[[Watermark | None], Marks] = lambda reached: Marks.none()
    changes: Callable[[], Sequence[StoredChange]] = lambda: (ANYTHING,)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStats:
    """What `status` endpoints and metrics show of a store. Of its bytes so many are free to be used again."""

    series: int
    samples: int
    bytes: int
    min_time_ms: int | None
    max_time_ms: int | None
    free_bytes: int = 0


DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDay:
    """A day of UTC, which begins at `start_ms`, and how many samples the store has of it."""

    start_ms: int
    samples: int


class Store(Protocol):
    """A SQL database that keeps samples for good. Every implementation passes the same test suite (tests/storage/store_suite.py).

    All methods raise StorageError (StorageUnavailable when a retry may help); driver errors never leave an implementation.
    """

    async def open(self) -> None:
        """Connect and create or upgrade the schema. Raises StoreAway when it is worth trying again."""
        ...

    async def ping(self) -> None:
        """Raise StoreAway when the store does not answer within a few seconds, busy or not."""
        ...

    async def close(self) -> None:
        """Release everything; idempotent."""
        ...

    def load_series(self) -> AsyncIterator[StoredSeries]:
        """Every stored series, in portions, once after `open`."""
        ...

    async def warm(self) -> None:
        """Do now, beside everything else, what the first queries would wait for otherwise, as far as that is possible. Raises nothing."""
        ...

    async def load_news(self) -> StoredNews | None:
        """What other writers stored since the last call, or since `load_series`; None when there are no others, or nothing."""
        ...

    def adopt(self, ids: Int64, refs: Int32) -> None:
        """From now on these series of other writers (`int64[S]`) have these refs in this process (`int32[S]`).

        Samples of them may be read, but are written only once the series was announced by a flush.
        """
        ...

    async def load_metadata(self) -> list[Metadata]:
        """Every stored metadata entry."""
        ...

    async def load_position(self) -> WalPosition | None:
        """The WAL position of the last flush that was committed."""
        ...

    async def write(self, batch: FlushBatch) -> None:
        """Store a batch and its WAL position, all or nothing."""
        ...

    async def read(self, refs: Int32, start_ms: int, end_ms: int) -> SampleBlock:
        """Samples of `refs int32[S]` with start_ms < ts_ms <= end_ms, row i of the block belonging to refs[i] (rows may be empty)."""
        ...

    async def count(self, refs: Int32, start_ms: int, end_ms: int) -> int:
        """How many samples `read` would return, or an upper bound of it."""
        ...

    async def read_exemplars(self, refs: Int32, start_ms: int, end_ms: int, limit: int) -> Exemplars:
        """Exemplars of `refs int32[S]` with start_ms < ts_ms <= end_ms, in any order; of more than `limit` the newest."""
        ...

    async def delete_before(self, cutoff_ms: int) -> int:
        """Retention: forget samples and exemplars with ts_ms < cutoff_ms, but no series; return how many samples, or -1 when the store
        does not count.
        """
        ...

    async def delete_samples(self, deletions: Sequence[Deletion], *, expired: bool = False) -> None:
        """Carry out deletions of samples and exemplars, all or nothing. `max_time_ms` of their series is exact afterwards; series without
        samples stay. Rows of tiers go with their samples, but not when these have only `expired`.
        """
        ...

    async def note_presence(self, *, has_stored_all: bool) -> None:
        """Tell others that write into this store that this process is there, and, maybe, that it has nothing which is not stored: they
        need not wait for it with the rollups. Not while anything is written.
        """
        ...

    async def load_tier_state(self) -> TierState:
        """How far the rollup tiers reach."""
        ...

    async def load_marks(self, limit: int | None) -> Marks:
        """The marks of all writers' flushes that are not done yet, of series that have refs here, the earliest first, at most so many."""
        ...

    def alone(self, what: str) -> AbstractAsyncContextManager[bool]:
        """Do `what` while no other process that writes into this store does; False, at once, when another does so."""
        ...

    async def write_tiers(self, batch: TierBatch) -> None:
        """Store rows of tiers and how far they reach, all or nothing. No row is there twice afterwards."""
        ...

    async def read_tier(self, resolution_ms: int, refs: Int32, start_ms: int, end_ms: int, columns: TierColumn) -> list[PackedRows]:
        """At least the rows of the series `refs int32[S]` whose buckets end in (start_ms, end_ms], none twice, with these columns."""
        ...

    async def delete_tier_before(self, resolution_ms: int, cutoff_ms: int) -> int:
        """Retention: forget rows of buckets that ended before the cutoff, in whole stretches (`SPANS_MS`) at least; return how many, or -1
        when the store does not count.
        """
        ...

    async def delete_series(self, refs: Int32) -> None:
        """Forget these series with all that is stored under their refs: no samples, or none that retention would keep. A flush may announce
        them again later, or other series with their refs.
        """
        ...

    async def clean(self) -> None:
        """Give back the space of what was deleted, as far as that is possible now."""
        ...

    async def snapshot(self, folder: Path) -> None:
        """Write a copy that can be opened as a store into `folder`, which does not exist yet, all or nothing.

        Raises BadRequest, saying what to do instead, where a store has no files of its own.
        """
        ...

    async def refresh_views(self) -> int:
        """Let the views for people follow the series that flushes brought and retention removed.

        Does a bounded part of the work, in a transaction of its own, and returns how many metrics that was; 0 when nothing is left to do.
        """
        ...

    async def maintain(self) -> None:
        """Do from time to time what makes stored samples smaller or faster to read. Flushes and reads go on beside it."""
        ...

    async def stats(self) -> StoreStats: ...

    async def days(self) -> Sequence[StoredDay]:
        """The days that have samples, in their order."""
        ...

    def sql(self, text: str, limit: int, seconds: float) -> AbstractAsyncContextManager[SqlRows]:
        """Answer a statement that somebody wrote, which can only read, with at most `limit` rows; in `seconds` the caller cancels it.

        Raises BadRequest, with the database's words, for a statement that is wrong or not allowed, QueryError (TooMuchMemory), QueryTimeout
        or QueryCancelled for one that failed, StorageError as ever; also while batches are read. Statements do not hold up other work.
        """
        ...

    @property
    def database(self) -> str:
        """What tells the data of this store from that of any other."""
        ...

    @property
    def followed(self) -> int:
        """The number of a flush after which everything is known here: from `load_series`, own writes and `load_news`."""
        ...

    async def load_flushes(self, after: int) -> FlushNews:
        """What the flushes, of whatever writer, changed that came after one. Those of at least a day are known."""
        ...

    async def foreign_changes(self) -> int:
        """A number that rises whenever others may have changed what this store reads: other processes, never this one."""
        ...
