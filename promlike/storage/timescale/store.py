"""The `Store` on TimescaleDB, through asyncpg."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker
import numpy as np

from promlike.errors import StorageError, StorageUnavailable
from promlike.model.blocks import Float64, Int32, Int64, SampleBlock
from promlike.model.labels import METRIC_NAME, labels
from promlike.storage.arrange import arrange
from promlike.storage.store import FlushBatch, Metadata, SampleChunk, SeriesRecord, StoreStats, WalPosition
from promlike.storage.timescale.copy import decode_rows, encode_rows
from promlike.storage.timescale.schema import STATEMENTS
from promlike.storage.timescale.text import original, storable

OLDEST_VERSION = (2, 21)
"""The first TimescaleDB whose COPY compresses while it loads."""

COLUMNS = ("ts", "series_id", "value")
CONNECTIONS = 4
DENSE = 4
"""When the asked refs span at most so many times their number, all series of the span are read and the others left out here."""
UNAVAILABLE_CLASSES = ("08", "53", "57", "40", "55")
"""SQLSTATE classes that pass: connection, resources, operator intervention, transaction rollback, object in use."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_MS = -62_135_596_800_000
LAST_MS = 253_402_300_799_999


class TimescaleStore:
    """Keeps samples in the schema `promlike` of one database. `url` is a libpq URL; its password never appears in messages."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def open(self) -> None:
        """Connect and create the schema; raises StorageError when the extension is missing or too old."""
        async with _translated("connect"):
            self._pool = await asyncpg.create_pool(self._url, min_size=0, max_size=CONNECTIONS, init=_prepare_connection)
        async with self._connection("create the schema") as connection, connection.transaction():
            await connection.execute("SET LOCAL client_min_messages = warning")
            # Two servers that start at once would otherwise create the same objects.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('promlike.schema'))")
            for statement in STATEMENTS:
                await connection.execute(statement)
            version = await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
        if tuple(int(part) for part in str(version).split(".")[:2]) < OLDEST_VERSION:
            raise StorageError(f"TimescaleDB {version} is too old: {'.'.join(map(str, OLDEST_VERSION))} or newer is needed")

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    async def load_series(self) -> list[SeriesRecord]:
        async with self._connection("load series") as connection:
            rows = await connection.fetch("SELECT id, labels, min_time, max_time FROM promlike.series ORDER BY id")
        return [_series_record(row) for row in rows]

    async def load_metadata(self) -> list[Metadata]:
        async with self._connection("load metadata") as connection:
            rows = await connection.fetch("SELECT metric, type, help, unit FROM promlike.metadata ORDER BY metric")
        return [
            Metadata(metric=original(row["metric"]), type=row["type"], help=original(row["help"]), unit=original(row["unit"]))
            for row in rows
        ]

    async def load_position(self) -> WalPosition | None:
        async with self._connection("load the WAL position") as connection:
            return await _position(connection)

    async def write(self, batch: FlushBatch) -> None:
        async with self._connection("write") as connection, connection.transaction():
            stored = await _position(connection)
            if stored is not None and (stored.segment, stored.offset) >= (batch.position.segment, batch.position.offset):
                return  # the answer to an earlier commit was lost with the connection
            await _write_series(connection, batch.new_series)
            await connection.executemany(UPSERT_METADATA, [_metadata_row(each) for each in batch.metadata])
            await _write_chunks(connection, batch)
            await _write_late(connection, batch.late_refs, batch.late_ts_ms, batch.late_values)
            await connection.execute(UPSERT_POSITION, batch.position.segment, batch.position.offset)

    async def read(self, refs: Int32, start_ms: int, end_ms: int) -> SampleBlock:
        if not len(refs) or start_ms >= end_ms:
            return SampleBlock.empty(len(refs))
        received: list[bytes] = []

        async def receive(data: bytes) -> None:
            received.append(data)

        async with self._connection("read") as connection:
            # Binary COPY hands over rows as one stream of bytes, so no Python object is made for a row.
            query = f"SELECT ts, series_id, value FROM promlike.samples WHERE {_wanted(refs)} AND ts > $1 AND ts <= $2"
            await connection.copy_from_query(query, _time(start_ms), _time(end_ms), output=receive, format="binary")
        found_refs, ts_ms, values = await asyncio.to_thread(decode_rows, b"".join(received))
        return await asyncio.to_thread(arrange, refs, found_refs, ts_ms, values)

    async def count(self, refs: Int32, start_ms: int, end_ms: int) -> int:
        if not len(refs):
            return 0
        async with self._connection("count") as connection:
            query = f"SELECT count(*) FROM promlike.samples WHERE {_wanted(refs)} AND ts > $1 AND ts <= $2"
            return int(await connection.fetchval(query, _time(start_ms), _time(end_ms)))

    async def delete_before(self, cutoff_ms: int) -> int:
        """Chunks that are older as a whole are dropped; older rows of the chunk at the border go when it does. Returns -1."""
        async with self._connection("delete") as connection:
            await connection.execute("SELECT drop_chunks('promlike.samples', older_than => $1::timestamptz)", _time(cutoff_ms))
        return -1

    async def delete_series(self, refs: Int32) -> None:
        async with self._connection("delete series") as connection:
            await connection.execute("DELETE FROM promlike.series WHERE id = ANY($1::int[])", refs.tolist())

    async def stats(self) -> StoreStats:
        async with self._connection("read statistics") as connection:
            row = await connection.fetchrow(STATS)
        assert row is not None  # an aggregate always answers one row
        return StoreStats(
            series=row["series"], samples=row["samples"], bytes=row["bytes"], min_time_ms=_ms(row["first"]), max_time_ms=_ms(row["last"])
        )

    @asynccontextmanager
    async def _connection(self, what: str) -> AsyncIterator[Any]:
        """A connection of the pool; errors inside the block leave it as StorageErrors that say what was tried."""
        if self._pool is None:
            raise StorageUnavailable(f"cannot {what}: the store is closed")
        async with _translated(what), self._pool.acquire() as connection:
            yield connection


UPSERT_METADATA = """
INSERT INTO promlike.metadata (metric, type, help, unit) VALUES ($1, $2, $3, $4)
ON CONFLICT (metric) DO UPDATE SET type = excluded.type, help = excluded.help, unit = excluded.unit
"""
UPSERT_POSITION = """
INSERT INTO promlike.wal_position (segment, byte_offset) VALUES ($1, $2)
ON CONFLICT (only_row) DO UPDATE SET segment = excluded.segment, byte_offset = excluded.byte_offset
"""
STATS = """
SELECT (SELECT count(*) FROM promlike.series) AS series, (SELECT count(*) FROM promlike.samples) AS samples,
       coalesce(hypertable_size('promlike.samples'), 0) AS bytes,
       (SELECT min(min_time) FROM promlike.series) AS first, (SELECT max(max_time) FROM promlike.series) AS last
"""
UPDATE_TIMES = """
UPDATE promlike.series SET min_time = least(min_time, given.first), max_time = greatest(max_time, given.last)
FROM unnest($1::int[], $2::timestamptz[], $3::timestamptz[]) AS given (id, first, last) WHERE series.id = given.id
"""


async def _prepare_connection(connection: Any) -> None:
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    await connection.execute("SET TIME ZONE 'UTC'")


async def _position(connection: Any) -> WalPosition | None:
    row = await connection.fetchrow("SELECT segment, byte_offset FROM promlike.wal_position")
    return None if row is None else WalPosition(segment=row["segment"], offset=row["byte_offset"])


async def _write_series(connection: Any, series: Iterable[SeriesRecord]) -> None:
    named = [(each.ref, {storable(name): storable(value) for name, value in each.labels}) for each in series]
    if named:
        rows = [(ref, pairs.get(METRIC_NAME, ""), pairs) for ref, pairs in named]
        await connection.execute("DELETE FROM promlike.series WHERE id = ANY($1::int[])", [row[0] for row in rows])
        await connection.executemany("INSERT INTO promlike.series (id, metric, labels) VALUES ($1, $2, $3)", rows)


async def _write_chunks(connection: Any, batch: FlushBatch) -> None:
    """COPY every chunk straight into the columnstore; chunks are sorted by (series, time), which direct compress relies on."""
    await connection.execute("SET LOCAL timescaledb.enable_direct_compress_copy = on")
    await connection.execute("SET LOCAL timescaledb.enable_direct_compress_copy_client_sorted = on")
    chunks = iter(batch.chunks)
    while (prepared := await asyncio.to_thread(_next_chunk, chunks)) is not None:
        chunk, rows = prepared
        await connection.copy_to_table("samples", schema_name="promlike", columns=COLUMNS, source=_stream(rows), format="binary")
        counts = np.diff(chunk.samples.offsets)
        some = np.flatnonzero(counts)
        first, last = chunk.samples.ts_ms[chunk.samples.offsets[some]], chunk.samples.ts_ms[chunk.samples.offsets[some + 1] - 1]
        await _update_times(connection, chunk.refs[some], first, last)
    await connection.execute("SET LOCAL timescaledb.enable_direct_compress_copy = off")


def _next_chunk(chunks: Iterator[SampleChunk]) -> tuple[SampleChunk, bytes] | None:
    chunk = next(chunks, None)
    if chunk is None:
        return None
    refs = np.repeat(chunk.refs, np.diff(chunk.samples.offsets))
    return chunk, encode_rows(refs, chunk.samples.ts_ms, chunk.samples.values)


async def _update_times(connection: Any, refs: Int32, first_ms: Int64, last_ms: Int64) -> None:
    times = [[_time(ms) for ms in column.tolist()] for column in (first_ms, last_ms)]  # once a series and flush, not once a sample
    await connection.execute(UPDATE_TIMES, refs.tolist(), *times)


async def _write_late(connection: Any, refs: Int32, ts_ms: Int64, values: Float64) -> None:
    if not len(refs):
        return
    await connection.execute("SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0")
    await connection.execute("CREATE TEMP TABLE late (ts timestamptz, series_id int, value float8) ON COMMIT DROP")
    await connection.copy_to_table("late", columns=COLUMNS, source=_stream(encode_rows(refs, ts_ms, values)), format="binary")
    span = _time(int(ts_ms.min())), _time(int(ts_ms.max()))
    # The constant bounds let TimescaleDB leave out chunks; the join alone would decompress candidates in all of them.
    await connection.execute(
        "DELETE FROM promlike.samples USING late WHERE samples.series_id = late.series_id AND samples.ts = late.ts"
        f" AND samples.ts BETWEEN '{span[0].isoformat()}' AND '{span[1].isoformat()}'"
    )
    await connection.execute("INSERT INTO promlike.samples (ts, series_id, value) SELECT ts, series_id, value FROM late")
    starts = np.flatnonzero(np.diff(refs, prepend=refs[0] - 1))
    ends = np.append(starts[1:], len(refs)) - 1
    await _update_times(connection, refs[starts], ts_ms[starts], ts_ms[ends])


def _wanted(refs: Int32) -> str:
    """A condition that keeps at least these series (int32[S], S > 0): two bounds where they are dense, which is cheaper, else the list."""
    low, high = int(refs.min()), int(refs.max())
    span = f"series_id BETWEEN {low} AND {high}"
    return span if high - low < DENSE * len(refs) else f"{span} AND series_id = ANY('{{{','.join(map(str, refs.tolist()))}}}'::int[])"


async def _stream(rows: bytes) -> AsyncIterator[bytes]:
    yield rows


@asynccontextmanager
async def _translated(what: str) -> AsyncIterator[None]:
    """Turn driver errors into ours, by SQLSTATE."""
    try:
        yield
    except asyncpg.PostgresError as error:
        kind = StorageUnavailable if (error.sqlstate or "")[:2] in UNAVAILABLE_CLASSES else StorageError
        raise kind(f"the database failed to {what}: {error.sqlstate} {error}") from error
    except (asyncpg.InterfaceError, OSError) as error:
        raise StorageUnavailable(f"the database cannot be reached to {what}: {error}") from error


def _series_record(row: Any) -> SeriesRecord:
    pairs = labels((original(name), original(value)) for name, value in row["labels"].items())
    return SeriesRecord(ref=row["id"], labels=pairs, min_time_ms=_ms(row["min_time"]), max_time_ms=_ms(row["max_time"]))


def _metadata(row: Any) -> Metadata:
    return Metadata(metric=original(row["metric"]), type=row["type"], help=original(row["help"]), unit=original(row["unit"]))


def _metadata_row(entry: Metadata) -> tuple[str, str, str, str]:
    return storable(entry.metric), entry.type, storable(entry.help), storable(entry.unit)


def _time(ms: int) -> datetime:
    """Times outside the years 1 to 9999 become the nearest one inside: no sample stands there."""
    return EPOCH + timedelta(milliseconds=min(max(ms, FIRST_MS), LAST_MS))


def _ms(time: datetime | None) -> int | None:
    return None if time is None else (time - EPOCH) // timedelta(milliseconds=1)
