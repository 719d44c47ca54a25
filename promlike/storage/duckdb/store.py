"""The embedded store: one DuckDB file.

One connection writes, in one thread; readers use cursors of it in threads of their own. Columns go in and come out through Arrow, because
DuckDB's NumPy scan turns every NaN into NULL.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import duckdb

from promlike.errors import StorageUnavailable
from promlike.model.blocks import Int32, Int64, SampleBlock
from promlike.model.exemplars import Exemplars
from promlike.model.flushes import FOREVER_MS, FlushNews
from promlike.model.tiers import TierColumn
from promlike.storage.access import Metadata
from promlike.storage.duckdb import tiers, views, write
from promlike.storage.duckdb.errors import translated
from promlike.storage.duckdb.exemplars import read_exemplars, write_exemplars
from promlike.storage.duckdb.files import copy_database, make_database
from promlike.storage.duckdb.flushes import load_flushes, load_number, note_deleted_before, note_flush
from promlike.storage.duckdb.interruptible import Interruptible
from promlike.storage.duckdb.migrations import migrate
from promlike.storage.duckdb.read import count_samples, load_days, load_metadata, load_position, load_series, load_stats, read_samples
from promlike.storage.duckdb.sql import SqlThreads
from promlike.storage.metric_views import LabelBooks, LabelNames
from promlike.storage.sql import SqlRows
from promlike.storage.store import Deletion, FlushBatch, StoredDay, StoredNews, StoredSeries, StoreStats, WalPosition
from promlike.storage.tiers import Marks, PackedRows, TierBatch, TierState

log = logging.getLogger(__name__)

T = TypeVar("T")

SHRUNK_CACHE = "16MB"
MOST_SPILLED = "4GB"
"""What sorts and joins may put on disk, in all: a statement of people's must not fill the disk that the log is on."""
OUT_OF_MEMORY_ATTEMPTS = 4


class DuckDBStore:
    """A `Store` in the file `path`. `memory_limit` as DuckDB writes it, e.g. `"256MB"`."""

    def __init__(self, path: Path, *, memory_limit: str = "256MB", threads: int = 2, readers: int = 4) -> None:
        self._path = path
        self._config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory_limit,
            "threads": threads,
            "enable_external_access": False,  # our one file is enough, and people's SQL must not reach others
            "autoinstall_known_extensions": False,  # a server must not wait for the network; before TimeZone, which is ICU's
            "python_enable_replacements": False,
            "TimeZone": "UTC",
        }
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._broken = False
        self._closed = False
        self._name = self._flush = 0
        self._books = LabelBooks()
        self._views_compared = self._views_full = False
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="duckdb-write")
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="duckdb-read")
        self._sql = SqlThreads(self._opened)

    async def open(self) -> None:
        """See `Store.open`. A file of a newer promlike is refused."""
        await self._on_writer(f"open {self._path}", self._connect)

    async def ping(self) -> None:
        """A file is always there."""

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True

        def end() -> None:
            self._sql.close()
            self._readers.shutdown(wait=True)  # first: DuckDB refuses to close a connection whose cursors are at work
            self._disconnect()

        await asyncio.get_running_loop().run_in_executor(self._writer, end)
        self._writer.shutdown(wait=True)

    async def load_series(self) -> AsyncIterator[StoredSeries]:
        doing = "load series"
        with translated(doing), self._opened().cursor() as cursor:
            portions = load_series(cursor)
            while (portion := await self._in_thread(self._readers, lambda: next(portions, None))) is not None:
                yield portion

    async def warm(self) -> None:
        """Nothing: a new cursor is as fast as any other."""

    async def load_news(self) -> StoredNews | None:
        """None: nobody else writes into the file."""
        return None

    def adopt(self, ids: Int64, refs: Int32) -> None:
        """Never called: nobody else writes into the file."""

    async def load_metadata(self) -> list[Metadata]:
        return await self._read("load metadata", load_metadata)

    async def load_position(self) -> WalPosition | None:
        return await self._read("load its state", load_position)

    async def write(self, batch: FlushBatch) -> None:
        growth: dict[str, LabelNames] = {}
        watched = replace(batch, new_series=self._books.watched(batch.new_series, growth))

        def change(connection: duckdb.DuckDBPyConnection) -> int:
            write.delete_samples(connection, batch.deletions)
            if len(batch.gone):
                # At once, so that views come back with new series of this batch.
                self._books.forget(_forget(connection, batch.gone))
            write.write_batch(connection, watched)
            views.note_growth(connection, growth)
            write_exemplars(connection, batch.exemplars)
            return note_flush(connection, batch.changes())

        self._flush = await self._change("write samples", change)
        self._books.known |= growth
        await self._on_writer("shrink its cache", self._shrink_cache)

    async def read(self, refs: Int32, start_ms: int, end_ms: int) -> SampleBlock:
        return await self._read("read samples", lambda cursor: read_samples(cursor, refs, start_ms, end_ms))

    async def count(self, refs: Int32, start_ms: int, end_ms: int) -> int:
        return await self._read("count samples", lambda cursor: count_samples(cursor, refs, start_ms, end_ms))

    async def read_exemplars(self, refs: Int32, start_ms: int, end_ms: int, limit: int) -> Exemplars:
        return await self._read("read exemplars", lambda cursor: read_exemplars(cursor, refs, start_ms, end_ms, limit))

    async def delete_before(self, cutoff_ms: int) -> int:
        def change(connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
            deleted = write.delete_before(connection, cutoff_ms)
            return deleted, note_deleted_before(connection, cutoff_ms) if deleted else self._flush

        deleted, self._flush = await self._change("delete samples", change)
        if deleted:
            await self._on_writer("check-point", self._checkpoint)
        return deleted

    async def delete_samples(self, deletions: Sequence[Deletion], *, expired: bool = False) -> None:
        def change(connection: duckdb.DuckDBPyConnection) -> int:
            write.delete_samples(connection, deletions, expired=expired)
            last_ms = max((each.end_ms for each in deletions), default=-FOREVER_MS)
            return note_deleted_before(connection, last_ms + 1)

        self._flush = await self._change("delete samples", change)

    async def note_presence(self, *, has_stored_all: bool) -> None:
        """Nothing: there are no others."""

    async def load_tier_state(self) -> TierState:
        return await self._read("load the state of its rollups", tiers.load_tier_state)

    async def load_marks(self, limit: int | None) -> Marks:
        return await self._read("load marks", lambda cursor: tiers.load_marks(cursor, limit))

    @asynccontextmanager
    async def alone(self, what: str) -> AsyncIterator[bool]:
        """Always: the file belongs to one process."""
        yield True

    async def write_tiers(self, batch: TierBatch) -> None:
        await self._change("write rollups", lambda connection: tiers.write_tiers(connection, batch))

    async def read_tier(self, resolution_ms: int, refs: Int32, start_ms: int, end_ms: int, columns: TierColumn) -> list[PackedRows]:
        return await self._read("read rollups", lambda cursor: tiers.read_tier(cursor, resolution_ms, refs, start_ms, end_ms, columns))

    async def delete_tier_before(self, resolution_ms: int, cutoff_ms: int) -> int:
        deleted = await self._change("delete rollups", lambda connection: tiers.delete_tier_before(connection, resolution_ms, cutoff_ms))
        if deleted:
            await self._on_writer("check-point", self._checkpoint)
        return deleted

    async def delete_series(self, refs: Int32) -> None:
        self._books.forget(await self._change("delete series", lambda connection: _forget(connection, refs)))

    async def refresh_views(self) -> int:
        if not self._views_compared:
            await self._change("compare its views", views.note_differences)
            self._views_compared = True
        if beyond := await self._change("count views", views.drop_beyond_limit):
            level = logging.DEBUG if self._views_full else logging.WARNING
            log.log(level, "%d metrics get no view, there are %d already; the view `sample` has their samples", beyond, views.MAX_VIEWS)
            self._views_full = True
        return await self._change("make views", views.refresh_views)

    async def clean(self) -> None:
        await self._on_writer("check-point", self._checkpoint)

    async def snapshot(self, folder: Path) -> None:
        """A folder with one file of the same name, written in the writer's thread, so that nothing changes meanwhile."""
        await self._on_writer(f"copy its file to {folder}", lambda: copy_database(self._path, folder, self._config))

    @property
    def database(self) -> str:
        return f"{self._name:x}"

    @property
    def followed(self) -> int:
        return self._flush

    async def load_flushes(self, after: int) -> FlushNews:
        if after == self._flush:
            return FlushNews(last=after)
        return await self._read("look for changes", lambda cursor: load_flushes(cursor, after))

    async def foreign_changes(self) -> int:
        """None: the file belongs to one process."""
        return 0

    async def maintain(self) -> None:
        """Nothing: row groups are compressed when they are written, and retention and `clean` give space back."""

    async def stats(self) -> StoreStats:
        stats = await self._read("count its samples", load_stats)
        size = self._path.stat().st_size if self._path.exists() else 0
        return replace(stats, bytes=size)

    async def days(self) -> Sequence[StoredDay]:
        return await self._read("count the samples of each day", load_days)

    def sql(self, text: str, limit: int, seconds: float) -> AbstractAsyncContextManager[SqlRows]:
        """See `Store.sql`. Who asks ends it in time by cancelling."""
        if self._closed:
            raise StorageUnavailable(f"the store {self._path} is closed")
        return self._sql.answer(text, limit)

    async def _on_writer(self, doing: str, work: Callable[[], T]) -> T:
        def translate() -> T:
            with translated(doing):
                return work()

        return await self._in_thread(self._writer, translate)

    async def _change(self, doing: str, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """Run a transaction on the writer's connection, all or nothing."""

        def transact() -> T:
            if self._broken:
                self._disconnect()
                self._connect()
            connection = self._opened()
            connection.execute("BEGIN")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                self._roll_back(connection)
                raise
            return result

        return await self._on_writer(doing, transact)

    async def _read(self, doing: str, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """Run a query on a cursor of its own, in a reader's thread, which is interrupted when the task is cancelled."""
        interruptible = Interruptible()

        def query() -> T:
            for attempt in range(OUT_OF_MEMORY_ATTEMPTS):
                try:
                    with translated(doing), self._opened().cursor() as cursor, interruptible.reading(cursor):
                        return work(cursor)
                except StorageUnavailable as error:
                    if not isinstance(error.__cause__, duckdb.OutOfMemoryException) or attempt == OUT_OF_MEMORY_ATTEMPTS - 1:
                        raise
                    time.sleep(0.02 * (attempt + 1))
            raise StorageUnavailable(f"DuckDB has no memory to {doing}")

        try:
            return await self._in_thread(self._readers, query)
        except asyncio.CancelledError:
            interruptible.interrupt()
            raise

    async def _in_thread(self, executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        if self._closed:
            raise StorageUnavailable(f"the store {self._path} is closed")
        return await asyncio.get_running_loop().run_in_executor(executor, work)

    def _opened(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            raise StorageUnavailable(f"the store {self._path} is not open")
        return self._connection

    def _connect(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        make_database(self._path, self._config)
        connection = duckdb.connect(self._path, config=self._config)
        try:
            migrate(connection, str(self._path))
        except BaseException:
            connection.close()
            raise
        self._books.known = views.load_books(connection)
        self._name, self._flush = load_number(connection, "database"), load_number(connection, "flush")
        connection.execute(f"SET max_temp_directory_size = '{MOST_SPILLED}'")  # after migrations, which may need more
        self._connection, self._broken = connection, False

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with translated("close its file"):
                connection.close()

    def _roll_back(self, connection: duckdb.DuckDBPyConnection) -> None:
        """After an error the transaction may be gone already; after a fatal one DuckDB wants its file opened anew."""
        try:
            connection.execute("ROLLBACK")
        except duckdb.TransactionException:
            pass
        except duckdb.Error as error:
            log.warning("DuckDB's connection is broken and will be opened anew: %s", error)
            self._broken = True

    def _shrink_cache(self) -> None:
        """Let go of the blocks that were just written: the head still holds their samples, so nobody will ask for them soon.

        DuckDB evicts when its limit sinks. A reader that needs memory in that millisecond tries again (`_read`).
        """
        connection = self._opened()
        try:
            connection.execute(f"SET memory_limit = '{SHRUNK_CACHE}'")
        except duckdb.OutOfMemoryException as error:
            log.debug("DuckDB's cache stays as it is: %s", error)
        finally:
            connection.execute(f"SET memory_limit = '{self._config['memory_limit']}'")

    def _checkpoint(self) -> None:
        """Give deleted rows' space back. Beside running readers DuckDB refuses; the next time is soon enough."""
        try:
            self._opened().execute("CHECKPOINT")
        except duckdb.TransactionException as error:
            log.debug("check-point put off: %s", error)


def _forget(connection: duckdb.DuckDBPyConnection, refs: Int32) -> list[str]:
    """Forget series; the metrics that have none left."""
    metrics = views.metrics_of(connection, refs)
    write.delete_series(connection, refs)
    return views.note_loss(connection, metrics)
