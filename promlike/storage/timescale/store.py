"""The `Store` on PostgreSQL, with or without TimescaleDB, through asyncpg."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from promlike.cache.shared import SharedCache
from promlike.errors import BadRequest, StorageError, StorageUnavailable, StoreAway
from promlike.model.blocks import Int32, Int64, SampleBlock
from promlike.model.exemplars import Exemplars
from promlike.model.flushes import FOREVER_MS, FlushNews, StoredChange
from promlike.model.tiers import TierColumn
from promlike.storage.access import Metadata
from promlike.storage.metric_views import LabelBooks, LabelNames
from promlike.storage.options import Timeouts
from promlike.storage.sql import SqlRows
from promlike.storage.store import Deletion, FlushBatch, StoredDay, StoredNews, StoredSeries, StoreStats, WalPosition
from promlike.storage.tiers import Marks, PackedRows, TierBatch, TierState
from promlike.storage.timescale import (
    compact,
    days,
    delete,
    exemplars,
    flushes,
    load,
    metadata,
    partitions,
    read,
    series,
    tiers,
    views,
    write,
    writers,
)
from promlike.storage.timescale.connection import Database, is_alone
from promlike.storage.timescale.ids import SeriesIds
from promlike.storage.timescale.migrations import migrate
from promlike.storage.timescale.reader import prepare_reader, prepare_view_schema
from promlike.storage.timescale.server import ServerFeatures, server_features
from promlike.storage.timescale.shared_ids import SharedIds
from promlike.storage.timescale.sql import SqlConnections
from promlike.storage.writer_id import read_writer_id

WARM_CONNECTIONS = 4
"""Some are in use for flushes, rollups and news when a query comes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Unconfirmed:
    """What a flush up to a position does to ids: the series `gone int32[S]` have none any more, `refs int32[A]` have `ids int32[A]`."""

    position: WalPosition
    gone: Int32
    refs: Int32
    ids: Int32


class TimescaleStore:
    """Keeps samples in one schema of one database, which several daemons may share; each has a data folder of its own, with a writer id.

    `url` is a libpq URL; its password never appears in messages.
    """

    def __init__(
        self, url: str, *, folder: Path, schema: str = "promlike", timeouts: Timeouts | None = None, cache: SharedCache | None = None
    ) -> None:
        self._folder = folder
        self._database = Database(url, schema=schema, timeouts=timeouts or Timeouts())
        self._sql = SqlConnections(url, settings=self._database.settings(), timeouts=self._database.timeouts)
        self._cache = cache
        self._shared = SharedIds(None, "")
        self._ids = SeriesIds()
        self._unconfirmed: _Unconfirmed | None = None
        """Of the last flush, while it is not known to be committed."""
        self._stored: WalPosition | None = None
        """Up to where the database was known to have everything."""
        self._books = LabelBooks(shared=True)
        self._views_prepared = self._told_of_views = False
        self._name = ""
        self._seen = load.Seen()
        self._writer = 0
        self._features: ServerFeatures | None = None
        self._own = writers.OwnFlushes()

    @property
    def features(self) -> ServerFeatures:
        """What the server can do; once the store is open."""
        if self._features is None:
            raise StorageUnavailable("the store is not open")
        return self._features

    async def open(self) -> None:
        """Connect, bring the schema up to date and learn the ids of this writer's series.

        Raises StoreAway for everything that passes: a server that takes no more connections, is read-only or has a full disk counts, too.
        """
        try:
            await self._open()
        except StorageUnavailable as error:
            raise StoreAway(str(error)) from error

    async def _open(self) -> None:
        writer, is_new = await asyncio.to_thread(read_writer_id, self._folder)
        has_wal = await asyncio.to_thread(lambda: any((self._folder / "wal").glob("*")))
        await self._database.open()
        async with self._database.connection("create the schema") as connection:
            timescale = await migrate(connection, self._database.schema)
            self._features = await server_features(connection, timescale=timescale)
        async with self._database.transaction("load the ids of series") as connection:
            self._name = str(await connection.fetchval("SELECT id FROM database_state"))
            self._shared = SharedIds(self._cache, self._name)
            self._writer = await writers.enter_writer(connection, writer, takes_over=is_new and has_wal)
            await writers.load_position(connection, self._writer)  # waits until nothing is written any more in this writer's name
            await series.load_ids(connection, self._writer, self._ids)

    async def ping(self) -> None:
        await self._database.ping()

    async def close(self) -> None:
        await self._sql.close()
        await self._database.close()

    def load_series(self) -> AsyncIterator[StoredSeries]:
        return load.load_series(self._database, self._writer, self._seen)

    async def warm(self) -> None:
        """A server process loads TimescaleDB, and learns about tables and chunks, when it plans its first statement on them: a query on a
        new connection takes 20 to 35 ms, connecting included, rather than 2.
        """
        async with AsyncExitStack() as stack:
            stack.enter_context(suppress(StorageError))
            connections = [
                await stack.enter_async_context(self._database.connection("prepare for queries")) for _ in range(WARM_CONNECTIONS)
            ]
            await asyncio.gather(*map(read.read_nothing, connections), return_exceptions=True)

    async def load_news(self) -> StoredNews | None:
        async with self._database.transaction("look for what others stored", isolation="repeatable_read", readonly=True) as connection:
            flush, news = await load.load_news(connection, self._writer, self._ids, self._seen.flush)
        self._seen.flush = max(self._seen.flush, flush)  # now that nothing can fail any more
        return news

    def adopt(self, ids: Int64, refs: Int32) -> None:
        self._ids.set(refs, ids.astype(np.int32))

    async def load_metadata(self) -> list[Metadata]:
        async with self._database.connection("load metadata") as connection:
            return await metadata.load_metadata(connection)

    async def load_position(self) -> WalPosition | None:
        async with self._database.transaction("load the WAL position") as connection:
            stored = await writers.load_position(connection, self._writer)
        self._confirm(stored)
        return stored

    async def write(self, batch: FlushBatch) -> None:
        features, ids, writer, shared = self.features, self._ids.copy(), self._writer, self._shared
        shared.forget()
        growth: dict[str, LabelNames] = {}
        async with self._database.transaction("write") as connection:
            flush = await writers.begin_flush(connection, self._database.timeouts.statement_s)
            stored = await writers.load_position(connection, writer)
            if stored is not None and (stored.segment, stored.offset) >= (batch.position.segment, batch.position.offset):
                await flushes.note_flush(connection, writer, flush)
                self._confirm(batch.position)
                return  # the answer to an earlier commit was lost with the connection
            writers.check_stored(stored, self._stored)
            disputed = await self._delete(connection, flush, batch.deletions)
            if len(batch.gone):
                # At once, so that views come back with new series of this batch.
                self._books.forget(await self._forget(connection, batch.gone))
            announced = await series.write_series(connection, writer, ids, shared, self._books.watched(batch.new_series, growth))
            self._unconfirmed = _Unconfirmed(position=batch.position, gone=batch.gone, refs=announced, ids=ids.ids_of(announced))
            await views.note_growth(connection, growth)
            await metadata.write_metadata(connection, batch.metadata)
            others = await write.last_of_others(connection, writer)
            times, overtaken = await write.write_chunks(connection, features, ids, others, iter(batch.chunks))
            late = write.sorted_late([(batch.late_refs, batch.late_ts_ms, batch.late_values), *overtaken])
            widened, overwritten = await write.write_late(connection, features, ids, late)
            times += widened
            await series.write_times(connection, writer, flush, times)
            await exemplars.write_exemplars(connection, ids, batch.exemplars)
            await tiers.write_marks(connection, writer, ids, batch.marks(await tiers.load_reached(connection, writer)))
            disputed = [*disputed, *overwritten] if others.exist else []
            await flushes.note_flush(connection, writer, flush, batch.changes(), disputed=disputed)
            await writers.write_position(connection, writer, batch.position)
        self._confirm(batch.position)
        self._committed(flush)
        self._books.known |= growth
        await shared.remember(ids)

    async def read(self, refs: Int32, start_ms: int, end_ms: int) -> SampleBlock:
        ids = self._ids.ids_of(refs)
        if not (ids >= 0).any() or start_ms >= end_ms:
            return SampleBlock.empty(len(refs))
        async with self._database.connection("read") as connection:
            return await read.read_samples(connection, ids, start_ms, end_ms)

    async def count(self, refs: Int32, start_ms: int, end_ms: int) -> int:
        ids = self._ids.ids_of(refs)
        if not (ids >= 0).any():
            return 0
        async with self._database.connection("count") as connection:
            return await read.count_samples(connection, ids, start_ms, end_ms)

    async def read_exemplars(self, refs: Int32, start_ms: int, end_ms: int, limit: int) -> Exemplars:
        ids = self._ids.ids_of(refs)
        if not (ids >= 0).any() or start_ms >= end_ms:
            return Exemplars.empty()
        async with self._database.connection("read exemplars") as connection:
            return await exemplars.read_exemplars(connection, refs, ids, start_ms, end_ms, limit)

    async def delete_before(self, cutoff_ms: int) -> int:
        """Days that are older as a whole are dropped; older rows of the day at the border go when it does. Returns -1."""
        async with self._database.transaction("delete") as connection:
            flush = await writers.begin_flush(connection, self._database.timeouts.statement_s)
            await writers.forget_absent_writers(connection, self._writer, cutoff_ms)
            await exemplars.delete_exemplars_before(connection, cutoff_ms)
            await partitions.drop_before(connection, "samples", cutoff_ms, timescale=self.features.timescale)
            await days.drop_days(connection, cutoff_ms)
            gone = StoredChange(metric=None, start_ms=-FOREVER_MS, end_ms=cutoff_ms - 1)
            await flushes.note_flush(connection, self._writer, flush, [gone], disputed=[gone])
        self._committed(flush)
        return -1

    async def delete_samples(self, deletions: Sequence[Deletion], *, expired: bool = False) -> None:
        async with self._database.transaction("delete samples") as connection:
            flush = await writers.begin_flush(connection, self._database.timeouts.statement_s)
            gone = await self._delete(connection, flush, deletions, expired=expired)
            # Who keeps samples for longer, or has been told to since, may have them in memory.
            await flushes.note_flush(connection, self._writer, flush, gone, disputed=gone)
        self._committed(flush)

    async def note_presence(self, *, has_stored_all: bool) -> None:
        async with self._database.connection("tell others that this daemon is there") as connection:
            await writers.note_presence(connection, self._writer, has_stored_all=has_stored_all)

    async def load_tier_state(self) -> TierState:
        async with self._database.connection("load the state of rollups") as connection:
            return await tiers.load_tier_state(connection, self._writer)

    async def load_marks(self, limit: int | None) -> Marks:
        async with self._database.connection("load marks") as connection:
            return await tiers.load_marks(connection, self._ids, limit)

    @asynccontextmanager
    async def alone(self, what: str) -> AsyncIterator[bool]:
        """See `Store.alone`. A lock of the database, which is free again when this process, or its connection, is gone."""
        async with self._database.connection("take turns with other daemons") as connection:
            yield await is_alone(connection, what, self._database.schema)

    async def write_tiers(self, batch: TierBatch) -> None:
        async with self._database.transaction("write rollups") as connection:
            flush = await writers.begin_flush(connection, self._database.timeouts.statement_s)
            tiers.check_unchanged(batch.foreign, self._own.foreign(flush - 1))
            await tiers.write_tiers(connection, self._writer, self._ids, batch)
            await flushes.note_flush(connection, self._writer, flush)
        self._committed(flush)

    async def read_tier(self, resolution_ms: int, refs: Int32, start_ms: int, end_ms: int, columns: TierColumn) -> list[PackedRows]:
        return await tiers.read_tier(self._database, self._ids, resolution_ms, refs, start_ms, end_ms, columns)

    async def delete_tier_before(self, resolution_ms: int, cutoff_ms: int) -> int:
        """As `delete_before`: returns -1."""
        async with self._database.transaction("delete rollups") as connection:
            flush = await writers.begin_flush(connection, self._database.timeouts.statement_s)
            await tiers.delete_tier_before(connection, self.features, resolution_ms, cutoff_ms)
            await flushes.note_flush(connection, self._writer, flush)
        self._committed(flush)
        return -1

    async def delete_series(self, refs: Int32) -> None:
        async with self._database.transaction("delete series") as connection:
            flush = await writers.begin_flush(connection, self._database.timeouts.statement_s)
            lost = await self._forget(connection, refs)
            await flushes.note_flush(connection, self._writer, flush)
        self._ids.forget(refs)
        self._committed(flush)
        self._books.forget(lost)

    async def refresh_views(self) -> int:
        schema = self._database.schema
        async with self._database.transaction("make views") as connection:
            if not self._views_prepared:
                if not await prepare_view_schema(connection, schema, tell=not self._told_of_views):
                    self._told_of_views = True
                    return 0
                await prepare_reader(connection, schema)
                await views.note_differences(connection, schema)
                self._books.known = await views.load_books(connection) | self._books.known
            recent = dict(self._books.recent)
            await views.note_unshown(connection, recent)
            count = await views.refresh_views(connection, schema)
        self._views_prepared = True
        self._books.compared(recent)
        return count

    async def clean(self) -> None:
        async with self._database.connection("vacuum") as connection:
            await delete.vacuum(connection)

    async def snapshot(self, folder: Path) -> None:
        """Refused: a database is copied by its own tools."""
        raise BadRequest(
            "snapshots are copies of the embedded store's file; copy the database with pg_dump, or the server with pg_basebackup"
        )

    @property
    def database(self) -> str:
        return self._name

    @property
    def followed(self) -> int:
        return self._seen.flush

    async def load_flushes(self, after: int) -> FlushNews:
        async with self._database.connection("look for changes") as connection:
            return await flushes.load_flushes(connection, self._writer, after)

    async def foreign_changes(self) -> int:
        async with self._database.connection("look for changes") as connection:
            return self._own.foreign(await writers.last_flush(connection))

    async def maintain(self) -> None:
        if self.features.timescale:
            await compact.compact(self._database)

    async def stats(self) -> StoreStats:
        async with self._database.connection("read statistics") as connection:
            return await read.load_stats(connection, timescale=self.features.timescale)

    async def days(self) -> Sequence[StoredDay]:
        async with self._database.connection("read the samples of each day") as connection:
            return await days.load_days(connection)

    def sql(self, text: str, limit: int, seconds: float) -> AbstractAsyncContextManager[SqlRows]:
        return self._sql.answer(text, limit, seconds)

    async def _forget(self, connection: Any, refs: Int32) -> list[str]:
        """Forget series; the metrics that have none left."""
        metrics = await series.delete_series(connection, self._writer, refs)
        return await views.note_loss(connection, metrics)

    def _confirm(self, stored: WalPosition | None) -> None:
        """What is stored up to this position is committed, and with it what the flush up to there does to ids.

        Not before: when it is rolled back, the next one deletes samples, and everybody reads them, by the ids that series had, which may
        even be given to others when the server crashes.
        """
        self._stored = writers.later(stored, self._stored)
        flush = self._unconfirmed
        if flush is not None and flush.position == stored:
            self._ids.forget(flush.gone)
            self._ids.set(flush.refs, flush.ids)  # afterwards: some of those that went may have come back
            self._unconfirmed = None

    def _committed(self, flush: int) -> None:
        self._own.committed(flush)
        if self._seen.flush == flush - 1:  # nothing of others came between
            self._seen.flush = flush

    async def _delete(self, connection: Any, flush: int, deletions: Sequence[Deletion], *, expired: bool = False) -> list[StoredChange]:
        """Carry out deletions; the changes that they are."""
        changes = []
        at_once = await delete.series_at_once(connection) if deletions else 0
        for each in deletions:
            ids = self._ids.ids_of(each.refs)
            known = ids[ids >= 0]
            if len(known) and not expired:
                await tiers.forget_deleted(connection, self._writer, known, each.start_ms, each.end_ms)
            await delete.delete_samples(connection, flush, known, each.start_ms, each.end_ms, at_once=at_once)
            changes += await flushes.deletion_of(connection, known, each.start_ms, each.end_ms)
        return changes
