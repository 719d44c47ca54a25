"""Bringing what the head holds into the store, exactly once, and letting go of what memory and WAL no longer need."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np

from promlike.errors import StorageConflict, StorageError
from promlike.model.blocks import Int32, SampleBlock
from promlike.model.exemplars import Exemplars
from promlike.storage.access import Metadata
from promlike.storage.counters import StorageCounters
from promlike.storage.flush_changes import ChangeCollector
from promlike.storage.head import Head
from promlike.storage.head_kernels import MIN_TIME
from promlike.storage.head_snapshot import HeadSnapshot
from promlike.storage.ingest import Ingest
from promlike.storage.memory import release_freed
from promlike.storage.options import StorageOptions
from promlike.storage.store import Deletion, FlushBatch, SampleChunk, SeriesRecord, Store, WalPosition
from promlike.storage.tier_marks import MarkCollector
from promlike.storage.tombstones import Tombstones
from promlike.storage.wal import WalCommitter

log = logging.getLogger(__name__)

CHUNK_SAMPLES = 250_000
COLLECT_SERIES = 8192
"""Series whose blocks are collected before the loop gets its turn again."""

MOST_BACKOFF_S = 60.0
CONFLICTS = 3
"""So often a flush that was in the way of another transaction, and was rolled back for it, is tried again at once."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Attempt:
    """A flush that was begun: everything needed to finish it or to take it back."""

    snapshot: HeadSnapshot
    series: list[int]
    metadata: dict[str, Metadata]
    exemplars: Exemplars
    deletions: tuple[Deletion, ...]
    gone: Int32
    position: WalPosition
    marks: MarkCollector
    changes: ChangeCollector


class Flusher:
    """Flushes one at a time. A flush that is cancelled while the store works is still seen to its end."""

    def __init__(
        self,
        options: StorageOptions,
        head: Head,
        ingest: Ingest,
        tombstones: Tombstones,
        wal: WalCommitter,
        store: Store,
        counters: StorageCounters,
        now_ms: Callable[[], int],
        stored: WalPosition | None,
        on_flush: Callable[[], None],
    ) -> None:
        self._options = options
        self._head = head
        self._ingest = ingest
        self._tombstones = tombstones
        self._wal = wal
        self._store = store
        self._counters = counters
        self._now_ms = now_ms
        self._on_flush = on_flush
        self.stored = stored
        """The position of the last flush that is known to be in the store."""
        self.problem = ""
        """Why the last flush failed."""
        self.complete_ms = MIN_TIME
        """By the clock: what came until then is stored."""
        self._unknown: _Attempt | None = None
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Flush at every interval, or when the head asks for it; try again, ever less often, while the store is away."""
        backoff_s = 0.0
        while True:
            try:
                async with asyncio.timeout(backoff_s or self._options.flush_interval_ms / 1000):
                    await self._ingest.pressure.wait()
                    if backoff_s:
                        await asyncio.sleep(backoff_s)
            except TimeoutError:
                pass
            try:
                await self.flush()
                backoff_s = 0.0
            except StorageError as error:
                backoff_s = min(max(1.0, backoff_s * 2), MOST_BACKOFF_S)
                log.warning("flush failed, next attempt in %.0f s, ingestion goes on: %s", backoff_s, error)

    async def flush(self) -> None:
        """Store everything that the head has now. Raises StorageError; nothing is lost then, the next flush tries again."""
        async with self._lock:
            task = asyncio.ensure_future(self._flush())
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                # The store's transaction cannot be called back: wait for its outcome, so that the books stay right.
                await asyncio.wait([task])
                if not task.cancelled() and task.exception() is not None:
                    log.warning("a flush failed while it was being cancelled: %s", task.exception())
                raise

    async def _flush(self) -> None:
        self._ingest.pressure.clear()
        started = time.monotonic()
        try:
            await self._settle()
            began_ms = self._now_ms()
            if self._wal.applied == self.stored:
                self.complete_ms, self.problem = began_ms, ""
                return
            attempt, samples = await self._store_all()
            self.complete_ms = began_ms
        except BaseException as error:
            self._counters.flush_failures += 1
            self.problem = str(error) or type(error).__name__
            raise
        self.problem = ""
        seconds = time.monotonic() - started
        self._counters.flushes += 1
        self._counters.flush_samples += samples
        self._counters.flush_seconds += seconds
        self._counters.last_flush_seconds = seconds
        log.debug("flushed %d samples and %d new series in %.3f s", samples, len(attempt.series), seconds)
        self._on_flush()
        await self._collect()
        self._counters.wal_segments_dropped += await self._wal.drop_before(attempt.position.segment)
        await asyncio.to_thread(release_freed)

    def has_stored_all(self) -> bool:
        """Is everything stored that came until now? While the flusher pauses."""
        return self._wal.applied == self.stored

    def unannounced(self) -> Int32:
        """Series (int32[S], some twice) that the store was not told of yet. While the flusher pauses."""
        return np.array(self._ingest.unstored, np.int32)

    async def drop_stored_wal(self) -> None:
        """Delete the whole log when the store has everything in it; only when nothing is written any more."""
        stored = self.stored
        if stored is not None and stored == self._wal.applied:
            self._counters.wal_segments_dropped += await self._wal.drop_before(stored.segment + 1)

    async def _store_all(self) -> tuple[_Attempt, int]:
        """Store what there is now, after conflicts again; how many samples that were."""
        conflicts = 0
        while True:
            attempt = self._begin()
            try:
                return attempt, await self._write(attempt)
            except StorageConflict as error:
                conflicts += 1
                if conflicts > CONFLICTS:
                    raise
                log.debug("a flush is tried again: %s", error)

    def _begin(self) -> _Attempt:
        """Fix what this flush stores. Nothing is awaited, so position, series and samples fit each other."""
        ingest = self._ingest
        attempt = _Attempt(
            snapshot=self._head.snapshot(),
            series=ingest.living(ingest.unstored) if self._tombstones.gone else ingest.unstored,
            metadata=ingest.unstored_metadata,
            deletions=self._tombstones.current,
            gone=ingest.dead(self._tombstones.gone),
            exemplars=ingest.exemplars.begin(),
            position=self._wal.applied,
            marks=MarkCollector(),
            changes=ChangeCollector(ingest.metric_spans, self.complete_ms),
        )
        attempt.changes.deleted(attempt.deletions)
        ingest.unflushed.begun()
        ingest.unstored, ingest.unstored_metadata = [], {}
        return attempt

    async def _write(self, attempt: _Attempt) -> int:
        """Hand an attempt to the store and settle it; how many samples it had."""
        chunks = _Chunks(self._head, attempt)
        try:
            late = await asyncio.to_thread(attempt.snapshot.late)
            attempt.marks.late(late)
            attempt.changes.late(late)
            await self._store.write(
                FlushBatch(
                    new_series=_NewSeries(self._ingest, attempt.series),
                    chunks=chunks,
                    late_refs=late.refs,
                    late_ts_ms=late.ts_ms,
                    late_values=late.values,
                    position=attempt.position,
                    metadata=list(attempt.metadata.values()),
                    deletions=attempt.deletions,
                    gone=attempt.gone,
                    exemplars=attempt.exemplars,
                    marks=attempt.marks.marks,
                    changes=attempt.changes.changes,
                )
            )
        except BaseException:
            self._unknown = attempt
            await self._resolve(attempt)
            if self.stored != attempt.position:
                raise
        else:
            self._succeeded(attempt)
        return chunks.samples + sum(len(refs) for refs, _, _ in attempt.snapshot.late_parts)

    async def _settle(self) -> None:
        """Learn what became of the last flush, if that is not known."""
        if self._unknown is not None:
            await self._resolve(self._unknown)

    async def _resolve(self, attempt: _Attempt) -> None:
        """A write failed, which may mean that only its confirmation was lost: the stored position says which."""
        position = await self._store.load_position()
        self._unknown = None
        if position == attempt.position:
            self._succeeded(attempt)
        else:
            self._head.not_flushed()
            self._ingest.exemplars.not_flushed()
            self._ingest.unflushed.failed()
            self._ingest.unstored = attempt.series + self._ingest.unstored
            self._ingest.unstored_metadata = attempt.metadata | self._ingest.unstored_metadata

    def _succeeded(self, attempt: _Attempt) -> None:
        marks = attempt.marks.told
        self._head.note_late(marks.refs, marks.start_ms + 1)
        self._head.flushed(attempt.snapshot)
        gone = self._without_announced(attempt.gone)
        self._tombstones.stored(attempt.deletions, gone)
        self._ingest.store_forgot(gone)
        self._ingest.exemplars.flushed()
        self._ingest.unflushed.flushed()
        self.stored = attempt.position

    def _without_announced(self, gone: Int32) -> Int32:
        """Of the series that the store has forgotten now, those that it is not to be told of again by the next flush.

        The others came back meanwhile, and are gone again: that flush has to make the store forget them, too.
        """
        if not len(gone):
            return gone
        return np.setdiff1d(gone, self._ingest.dead(set(gone.tolist()).intersection(self._ingest.unstored)))

    async def _collect(self) -> None:
        """While the head is larger than its cache may be, drop stored blocks that are older than its window, the oldest first."""
        for windows in (64, 32, 16, 8, 4, 2, 1.5, 1):
            if self._head.used_bytes <= self._options.head_cache_bytes:
                return
            await self.collect_before(self._now_ms() - int(windows * self._options.head_window_ms))

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """No flush runs inside, and it is known what became of the last one. Raises StorageError when the store does not say that now."""
        async with self._lock:
            await self._settle()
            yield

    async def collect_before(self, cutoff_ms: int) -> None:
        """Drop stored blocks of samples <= cutoff, a few series at a time."""
        for ref in range(0, self._head.series, COLLECT_SERIES):
            self._counters.head_blocks_collected += self._head.collect(ref, min(ref + COLLECT_SERIES, self._head.series), cutoff_ms)
            await asyncio.sleep(0)


class _NewSeries(Iterable[SeriesRecord]):
    """The series of an attempt, each made while a store consumes them; a ref may have been announced twice."""

    def __init__(self, ingest: Ingest, refs: list[int]) -> None:
        self._ingest = ingest
        self._refs = refs

    def __iter__(self) -> Iterator[SeriesRecord]:
        return self._ingest.records(list(dict.fromkeys(self._refs)))


class _Chunks:
    """The new samples of a snapshot, gathered piece by piece while a store consumes them in its thread.

    None of the series that the store forgets in the same transaction: what comes back of them meanwhile is late, and goes with the next
    flush, which makes them known again. Else a crash between the two would leave samples that nobody knows of.
    """

    def __init__(self, head: Head, attempt: _Attempt) -> None:
        self._head = head
        self._snapshot = attempt.snapshot
        self._marks = attempt.marks
        self._changes = attempt.changes
        self._gone = attempt.gone
        self.samples = 0

    def __iter__(self) -> Iterator[SampleChunk]:
        snapshot = self._snapshot
        refs: Int32 = np.flatnonzero(snapshot.upto_ms > snapshot.flushed_ms).astype(np.int32)
        if len(self._gone):
            refs = np.setdiff1d(refs, self._gone)
        step = max(1, min(len(refs), CHUNK_SAMPLES * len(refs) // max(snapshot.unflushed, 1)))
        for start in range(0, len(refs), step):
            part = refs[start : start + step]
            samples: SampleBlock = self._head.reader.read(part, snapshot.flushed_ms[part], snapshot.upto_ms[part]).samples
            self.samples += len(samples.ts_ms)
            self._marks.chunk(part, samples)
            self._changes.chunk(part, samples)
            yield SampleChunk(refs=part, samples=samples)
