"""Storage as the rest of the server sees it: a sink for samples, a reader of labels, a source for queries."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

import numpy as np

from promlike.errors import NotReady, StorageError, StoreAway
from promlike.model.blocks import Float64, Int32, Int64
from promlike.model.clock import wall_clock_ms
from promlike.model.exemplars import Exemplars
from promlike.model.flushes import FlushNews, StoreView
from promlike.model.frame import Symbols
from promlike.model.labels import Labels
from promlike.model.matchers import Matcher
from promlike.model.threads import to_its_end
from promlike.model.trace import OFF, Trace
from promlike.storage.access import AppendResult, Loading, Metadata, Selection, SelectRequest, TierChoice
from promlike.storage.changes import Changes
from promlike.storage.counters import StorageCounters
from promlike.storage.deletion import Deleter
from promlike.storage.exemplar_querier import ExemplarQuerier, ExemplarSelection
from promlike.storage.flush import Flusher
from promlike.storage.folder_lock import FolderLock
from promlike.storage.follow import Follower
from promlike.storage.gauges import Gauges
from promlike.storage.head import Head
from promlike.storage.head_kernels import MIN_TIME
from promlike.storage.index import SeriesIndex
from promlike.storage.ingest import Ingest
from promlike.storage.keep import ENDLESS_MS, Keep, KeepOptions
from promlike.storage.label_reader import LabelLookup
from promlike.storage.memory import keep_trimmed
from promlike.storage.options import StorageOptions
from promlike.storage.querier import Querier
from promlike.storage.raw_reader import RawReader
from promlike.storage.reclaim import Reclaimer
from promlike.storage.recovery import check_log, load_store, replay_wal
from promlike.storage.ref_use import RefUse
from promlike.storage.retention import Retention
from promlike.storage.roller import Roller
from promlike.storage.series_view import PairCounts
from promlike.storage.snapshots import new_snapshot, remove_drafts
from promlike.storage.sql import SqlRows
from promlike.storage.store import Store, StoredDay, StoreStats, WalPosition
from promlike.storage.tier_reader import TierReader
from promlike.storage.tiers import TierProgress
from promlike.storage.tombstones import Tombstones
from promlike.storage.upkeep import Upkeep
from promlike.storage.view_keeper import ViewKeeper
from promlike.storage.wal import WalCommitter, WalWriter
from promlike.storage.wal_replay import ReplayReport

log = logging.getLogger(__name__)

MOST_WAIT_S = 10.0
"""Between two attempts to open a store that is away."""

__all__ = ["Storage", "StorageOptions"]


class Storage:
    """SampleSink, LabelReader and Queryable over a head, a WAL and a store.

    `open` before anything else, then `run` as a task of its own, `close` at the end. Everything is called on one event loop.
    """

    def __init__(self, options: StorageOptions, store: Store, *, now_ms: Callable[[], int] = wall_clock_ms) -> None:
        self.options = options
        self.counters = StorageCounters()
        self.changes = Changes(now_ms)
        self.replay = ReplayReport()
        """How far the replay of the WAL is."""
        self._store = store
        self._now_ms = now_ms
        self._index = SeriesIndex(Symbols())
        self._head = Head(pool_bytes=options.pool_bytes)
        self._writer = WalWriter(options.data_dir / "wal", options.segment_bytes)
        self._wal = WalCommitter(self._writer, max_pending_bytes=options.wal_pending_bytes, max_bytes=options.wal_max_bytes)
        self._keep = Keep(self._index, now_ms, KeepOptions(default_ms=options.retention_ms, max_bytes=options.retention_bytes))
        self._ingest = Ingest(options, self._index, self._head, self._wal, self._keep, self.counters, self.changes, now_ms)
        self._tombstones = Tombstones()
        self._deleter = Deleter(self._index, self._head, self._ingest, self._tombstones, self.changes, self.counters)
        self._views = ViewKeeper(store, self.counters)
        self._tiers = tiers = TierProgress()
        self._flusher = Flusher(
            options,
            self._head,
            self._ingest,
            self._tombstones,
            self._wal,
            store,
            self.counters,
            now_ms,
            None,
            self._views.wake,
        )
        self.ref_use = RefUse()
        books = (self._index, self._head, self._ingest, self._tombstones, self._deleter)
        reclaimer = Reclaimer(*books, self._flusher, self._wal, self._keep, self.ref_use, self.counters)
        rest = (self._ingest, self._wal, self._keep, self.counters, now_ms, tiers, self._tombstones, reclaimer)
        self._retention = Retention(options, self._index, self._head, store, self._flusher, *rest)
        self._follower = Follower(options.follow_interval_ms, store, self._index, self._head, self._flusher, self.changes)
        retention, keep, raw = self._retention, self._keep, RawReader(self._head, store, self._tombstones)
        self._roller = Roller(self._head, store, self._flusher, raw, self._tombstones, tiers, self.counters, retention, self._follower)
        tier_reader = TierReader(self._head, store, raw, tiers, keep.oldest_ms, retention.oldest_row_ms)
        self._querier = Querier(self._index, self._head, store, self._tombstones, self.counters, tier_reader, keep)
        self._exemplars = ExemplarQuerier(self._index, self._ingest.exemplars, store, self._tombstones, keep.oldest_ms)
        self._labels = LabelLookup(self._index, self._head, retention.oldest_of)
        self.gauges = Gauges(
            index=self._index,
            head=self._head,
            ingest=self._ingest,
            flusher=self._flusher,
            retention=self._retention,
            tiers=tiers,
            wal=self._wal,
            writer=self._writer,
        )
        self._lock = FolderLock(options.data_dir)
        self._state = "new"

    async def open(self, progress: Callable[[str], None] = log.info) -> None:
        """Open the store, load its series, replay the WAL. `progress` gets a line for each step. Raises StorageError."""
        try:
            await self._open(progress)
        except OSError as error:
            raise StorageError(f"storage cannot be opened: {error}") from error

    async def _open(self, progress: Callable[[str], None]) -> None:
        started = time.monotonic()
        folder = self.options.data_dir / "wal"
        folder.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        await asyncio.to_thread(remove_drafts, self.options.data_dir)
        position = await self._open_store()
        await asyncio.to_thread(check_log, folder, position, self._keep.oldest_ms())
        others = await load_store(self._store, self._index, self._head, self._ingest)
        await self._roller.load()
        progress(f"store: {self._index.living} series loaded in {time.monotonic() - started:.2f} s")
        parts = (self._index, self._head, self._ingest, self._deleter, self.counters)
        self._writer.open(await to_its_end(replay_wal, folder, position, *parts, progress, self.replay))
        self._wal.applied = self._writer.position
        self._index.release_gaps()
        for portion in others:
            await self._follower.adopt(portion)
        self._flusher.stored = position or WalPosition(segment=0, offset=0)
        if self._wal.is_half_full:
            self._ingest.pressure.set()
        self._flusher.complete_ms = int(self._head.flushed_ms[: self._head.series].max(initial=MIN_TIME))
        self._state = "open"

    async def _open_store(self) -> WalPosition | None:
        """Open the store, waiting for one that is away as long as the options say; its WAL position."""
        give_up_at, wait_s = time.monotonic() + self.options.start_timeout_ms / 1000, 1.0
        while True:
            try:
                await self._store.open()
                return await self._store.load_position()
            except StoreAway as error:
                left_s = give_up_at - time.monotonic()
                if left_s <= 0:
                    raise
                log.warning("the store is away, the start waits for it, at most %.0f s more: %s", left_s, error)
                await self._store.close()
                await asyncio.sleep(min(wait_s, left_s))
                wait_s = min(2 * wait_s, MOST_WAIT_S)

    async def run(self) -> None:
        """Flush, keep views, enforce retention and give freed memory back until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._store.warm(), name="warm")
            tasks.create_task(self._flusher.run(), name="flush")
            tasks.create_task(self._retention.run(), name="retention")
            tasks.create_task(self._views.run(), name="views")
            tasks.create_task(self._follower.run(), name="follow")
            tasks.create_task(self._roller.run(), name="rollups")
            tasks.create_task(Upkeep(self.options.upkeep_interval_ms, self._store).run(), name="upkeep")
            tasks.create_task(keep_trimmed(), name="trim")

    async def close(self) -> None:
        """Take no more samples, flush what there is, release everything; idempotent. A store that is away loses nothing: the WAL stays."""
        if self._state == "closed":
            return
        opened, self._state = self._state == "open", "closed"
        try:
            await self._wal.drain()
            if opened:
                await self._store.ping()  # a flush into a server that hangs would take as long as a statement may
                await self._flusher.flush()
                await self._flusher.drop_stored_wal()
                await self._views.finish()
        except StorageError as error:
            log.warning("the last flush failed, the WAL keeps its samples: %s", error)
        finally:
            await self._wal.close()
            self._querier.close()
            self._labels.close()
            self._head.close()
            await self._store.close()
            self._lock.release()

    async def flush(self) -> None:
        """Store everything that has been appended so far. Raises StorageError."""
        await self._flusher.flush()

    async def follow(self) -> None:
        """See now what other daemons have flushed into the same database. Raises StorageError."""
        await self._follower.follow()

    async def roll_up(self) -> None:
        """Bring the tiers up to date now. Raises StorageError."""
        await self._roller.roll_up()

    @property
    def keep_options(self) -> KeepOptions:
        """What retention keeps."""
        return self._keep.options

    def set_keep_options(self, options: KeepOptions) -> None:
        """Keep so much from now on. What is not kept any more cannot be seen at once; the store deletes it when retention runs."""
        if options != self._keep.options:
            self._keep.change(options)
            everything = np.arange(self._index.count, dtype=np.int32)
            self.changes.deleted(everything, -ENDLESS_MS, ENDLESS_MS)

    async def enforce_retention(self) -> None:
        """Run retention now. Raises StorageError."""
        await self._retention.enforce()

    # SampleSink

    def series_ref(self, series: Labels) -> int:
        self._check_open()
        return self._ingest.series_ref(series)

    async def append(self, refs: Int32, ts_ms: Int64, values: Float64) -> AppendResult:
        self._check_open()
        return await self._ingest.append(refs, ts_ms, values)

    async def append_exemplars(self, exemplars: Exemplars) -> AppendResult:
        self._check_open()
        return await self._ingest.append_exemplars(exemplars)

    async def set_metadata(self, metadata: Sequence[Metadata]) -> None:
        self._check_open()
        await self._ingest.set_metadata(metadata)

    async def delete_series(self, matcher_sets: Sequence[Sequence[Matcher]], *, start_ms: int, end_ms: int) -> int:
        """Delete the samples in (start_ms, end_ms] of all series that satisfy all matchers of any set; return of how many series.

        Gone at once and for good when this returns; the store follows with the next flush. Raises StorageUnavailable when the WAL cannot
        take it, and then nothing is deleted.
        """
        self._check_open()
        return await self._deleter.delete(matcher_sets, start_ms, end_ms)

    def count_deletable(self, matcher_sets: Sequence[Sequence[Matcher]], *, start_ms: int, end_ms: int) -> int:
        """Of how many series `delete_series` would delete samples or exemplars."""
        self._check_open()
        return len(self._deleter.find(matcher_sets, start_ms, end_ms))

    async def clean_tombstones(self) -> None:
        """Have the store carry out every deletion and give back the space. Raises StorageError."""
        self._check_open()
        await self._flusher.flush()
        async with self._flusher.paused():
            await self._store.clean()

    async def snapshot(self, *, with_head: bool) -> str:
        """Copy the store to `snapshots/NAME` in the data folder, after a flush when `with_head`; return NAME. Raises StorageError."""
        self._check_open()
        if with_head:
            await self._flusher.flush()
        folder = new_snapshot(self.options.data_dir)
        async with self._flusher.paused():
            await self._store.snapshot(folder)
        return folder.name

    # Queryable

    async def select(
        self, requests: Sequence[SelectRequest], *, max_samples: int, loading: Loading | None = None, trace: Trace = OFF
    ) -> Selection:
        self._check_open()
        return await self._querier.select(requests, max_samples=max_samples, loading=loading, trace=trace)

    def select_at_once(self, requests: Sequence[SelectRequest], *, max_samples: int, trace: Trace = OFF) -> Selection | None:
        self._check_open()
        return self._querier.select_at_once(requests, max_samples=max_samples, trace=trace)

    # Exemplars

    async def exemplars(self, matcher_sets: Sequence[Sequence[Matcher]], *, start_ms: int, end_ms: int) -> ExemplarSelection:
        """See `ExemplarQuerier.select`."""
        self._check_open()
        return await self._exemplars.select(matcher_sets, start_ms=start_ms, end_ms=end_ms)

    @property
    def max_exemplars(self) -> int:
        """How many may wait for a flush, and how many a query may get; 0: none are kept. May be set at any time."""
        return self._ingest.exemplars.most

    @max_exemplars.setter
    def max_exemplars(self, most: int) -> None:
        self._ingest.exemplars.most = most

    # LabelReader

    async def series(
        self, matcher_sets: Sequence[Sequence[Matcher]], *, start_ms: int | None, end_ms: int | None, limit: int = 0
    ) -> tuple[list[Labels], bool]:
        return await self._labels.series(matcher_sets, start_ms=start_ms, end_ms=end_ms, limit=limit)

    async def label_names(
        self, matcher_sets: Sequence[Sequence[Matcher]], *, start_ms: int | None, end_ms: int | None, limit: int = 0
    ) -> tuple[list[str], bool]:
        return await self._labels.label_names(matcher_sets, start_ms=start_ms, end_ms=end_ms, limit=limit)

    async def label_values(
        self, name: str, matcher_sets: Sequence[Sequence[Matcher]], *, start_ms: int | None, end_ms: int | None, limit: int = 0
    ) -> tuple[list[str], bool]:
        return await self._labels.label_values(name, matcher_sets, start_ms=start_ms, end_ms=end_ms, limit=limit)

    async def label_pairs(self, matcher_sets: Sequence[Sequence[Matcher]]) -> PairCounts:
        """How many series have each label, of those that satisfy all matchers of any set, or of all."""
        return await self._labels.label_pairs(matcher_sets)

    def metadata(self) -> Mapping[str, Metadata]:
        return self._ingest.metadata

    def metrics_of(self, refs: Int32) -> list[str]:
        """The metric names of the series of `refs int32[S]`, each once; "" for series without one."""
        return self._index.metrics_of(refs)

    async def choose_tiers(self, requests: Sequence[SelectRequest]) -> TierChoice:
        """What would answer these requests now: rollup tiers or samples?"""
        self._check_open()
        return await self._querier.choose_tiers(requests)

    async def flushes(self, after: int) -> FlushNews:
        """See `Store.load_flushes`."""
        return await self._querier.flushes(after)

    @property
    def database(self) -> str:
        """See `Store.database`."""
        return self._store.database

    @property
    def view(self) -> StoreView:
        """How far what is seen here is what the store has."""
        return StoreView(
            flush=self._follower.followed,
            unflushed_from_ms=self._ingest.unflushed.from_ms,
            is_changing=self._follower.is_behind or bool(self._tombstones.current),
        )

    async def hurry(self) -> None:
        """Let what others have flushed be seen; returns when it is, or after half a second."""
        await self._follower.hurry()

    @property
    def oldest_ms(self) -> int:
        """The oldest time that retention lets be seen."""
        return self._keep.whole_from_ms()

    async def store_stats(self) -> StoreStats:
        """What the store holds. Raises StorageError."""
        self._check_open()
        return await self._store.stats()

    async def stored_days(self) -> Sequence[StoredDay]:
        """The days of which the store has samples. Raises StorageError."""
        self._check_open()
        return await self._store.days()

    def sql(self, text: str, *, limit: int, seconds: float) -> AbstractAsyncContextManager[SqlRows]:
        """See `Store.sql`; what is not flushed is not seen."""
        self._check_open()
        return self._store.sql(text, limit, seconds)

    def _check_open(self) -> None:
        if self._state != "open":
            raise NotReady(f"storage is {'starting' if self._state == 'new' else 'stopped'}")
