"""The `Store` on TimescaleDB, through asyncpg."""

from promlike.errors import StorageError
from promlike.model.blocks import Int32, SampleBlock
from promlike.storage.store import FlushBatch, Metadata, SeriesRecord, StoreStats, WalPosition
from promlike.storage.timescale import maintenance, read, series, write
from promlike.storage.timescale.connection import Database, Timeouts
from promlike.storage.timescale.migrations import migrate

OLDEST_VERSION = (2, 21)
"""The first TimescaleDB whose COPY compresses while it loads."""


class TimescaleStore:
    """Keeps samples in one schema of one database. `url` is a libpq URL; its password never appears in messages."""

    def __init__(self, url: str, *, schema: str = "promlike", timeouts: Timeouts | None = None) -> None:
        self._database = Database(url, schema=schema, timeouts=timeouts or Timeouts())

    async def open(self) -> None:
        """Connect and bring the schema up to date; raises StorageError when the extension is missing or too old."""
        await self._database.open()
        async with self._database.connection("create the schema") as connection:
            if not await migrate(connection, self._database.schema):
                raise StorageError("the database has no TimescaleDB extension")
            version = await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
        if tuple(int(part) for part in str(version).split(".")[:2]) < OLDEST_VERSION:
            raise StorageError(f"TimescaleDB {version} is too old: {'.'.join(map(str, OLDEST_VERSION))} or newer is needed")

    async def close(self) -> None:
        await self._database.close()

    async def load_series(self) -> list[SeriesRecord]:
        async with self._database.connection("load series") as connection:
            return await series.load_series(connection)

    async def load_metadata(self) -> list[Metadata]:
        async with self._database.connection("load metadata") as connection:
            return await series.load_metadata(connection)

    async def load_position(self) -> WalPosition | None:
        async with self._database.connection("load the WAL position") as connection:
            return await series.load_position(connection)

    async def write(self, batch: FlushBatch) -> None:
        async with self._database.transaction("write") as connection:
            await write.write_batch(connection, batch)

    async def read(self, refs: Int32, start_ms: int, end_ms: int) -> SampleBlock:
        if not len(refs) or start_ms >= end_ms:
            return SampleBlock.empty(len(refs))
        async with self._database.connection("read") as connection:
            return await read.read_samples(connection, refs, start_ms, end_ms)

    async def count(self, refs: Int32, start_ms: int, end_ms: int) -> int:
        if not len(refs):
            return 0
        async with self._database.connection("count") as connection:
            return await read.count_samples(connection, refs, start_ms, end_ms)

    async def delete_before(self, cutoff_ms: int) -> int:
        async with self._database.connection("delete") as connection:
            return await maintenance.delete_before(connection, cutoff_ms)

    async def delete_series(self, refs: Int32) -> None:
        async with self._database.connection("delete series") as connection:
            await maintenance.delete_series(connection, refs)

    async def stats(self) -> StoreStats:
        async with self._database.connection("read statistics") as connection:
            return await read.load_stats(connection)
