"""Rollup tiers in the database. What writes runs inside the transaction of a flush."""

import asyncio
from typing import Any

import numpy as np

from promlike.errors import StorageUnavailable
from promlike.model.blocks import Int32
from promlike.model.tiers import (
    COARSEST_MS,
    COLUMN_TYPES,
    RESOLUTION_NAMES,
    RESOLUTIONS_MS,
    TierBlock,
    TierColumn,
    TierRows,
    floor_ms,
    wanted_names,
)
from promlike.storage.arrange import rows_of
from promlike.storage.tiers import Marks, StoredRows, TierBatch, TierState, Watermark
from promlike.storage.timescale import partitions
from promlike.storage.timescale.connection import Database
from promlike.storage.timescale.copy import copy_bytes, copy_in, copy_out, decode_columns
from promlike.storage.timescale.ids import SeriesIds
from promlike.storage.timescale.read import wanted
from promlike.storage.timescale.server import ServerFeatures
from promlike.storage.timescale.times import to_time
from promlike.storage.timescale.version7 import PARTITION_DAYS
from promlike.storage.timescale.write import known_ids

COLUMNS = {
    "ends_ms": ("bucket", "timestamptz"),
    "counts": ("count", "int4"),
    "sums": ("sum", "float8"),
    "mins": ("min", "float8"),
    "maxs": ("max", "float8"),
    "first_ms": ("first_time", "timestamptz"),
    "firsts": ("first_value", "float8"),
    "last_ms": ("last_time", "timestamptz"),
    "lasts": ("last_value", "float8"),
    "resets": ("reset_sum", "float8"),
    "stale": ("ends_stale", "bool"),
}
"""Fields of TierRows, and name and type of the columns that hold them."""

PARALLEL_ROWS = 200_000
"""From so many rows on, an answer is read over two connections."""

MARK = {"series_id": "int4", "start_ms": "int8", "end_ms": "int8"}

LOAD_STATE = "SELECT upto_ms, next_ms, next_ref FROM rollup_state WHERE writer = $1"
OTHERS = """
SELECT min(coalesce(upto_ms, -4611686018427387904)) FROM writers LEFT JOIN rollup_state ON writer = number
WHERE number <> $1 AND segment IS NOT NULL AND last_seen_at > now() - INTERVAL '1 hour'
"""
"""A writer that was not seen for so long waits for nothing: what it stored was there when others rolled up their share of its series."""
LOAD_MARKS = """
SELECT ref, start_ms, end_ms FROM rollup_marks JOIN writer_series USING (writer, series_id)
WHERE writer = {writer} ORDER BY start_ms, ref LIMIT {limit}
"""
PUT_STATE = """
INSERT INTO rollup_state (writer, upto_ms, next_ms, next_ref) VALUES ($1, $2, $3, $4)
ON CONFLICT (writer) DO UPDATE SET upto_ms = excluded.upto_ms, next_ms = excluded.next_ms, next_ref = excluded.next_ref
"""


async def load_tier_state(connection: Any, writer: int) -> TierState:
    """See `Store.load_tier_state`."""
    row = await connection.fetchrow(LOAD_STATE, writer)
    own = None if row is None else Watermark(upto_ms=row["upto_ms"], next_ms=row["next_ms"], next_ref=row["next_ref"])
    return TierState(own=own, others_ms=await connection.fetchval(OTHERS, writer))


async def load_marks(connection: Any, writer: int, limit: int | None) -> Marks:
    """See `Store.load_marks`."""
    query = LOAD_MARKS.format(writer=writer, limit="ALL" if limit is None else limit)
    refs, start_ms, end_ms = await copy_out(connection, ("int4", "int8", "int8"), query)
    return Marks(refs=refs, start_ms=start_ms, end_ms=end_ms)


async def write_marks(connection: Any, writer: int, ids: SeriesIds, marks: Marks) -> None:
    """Remember what has to be rolled up again."""
    if len(marks):
        writers = np.full(len(marks), writer, np.int32)
        given = known_ids(ids, marks.refs)
        await copy_in(connection, "rollup_marks", {"writer": "int4", **MARK}, writers, given, marks.start_ms, marks.end_ms)


async def write_tiers(connection: Any, features: ServerFeatures, writer: int, ids: SeriesIds, batch: TierBatch) -> None:
    """See `Store.write_tiers`."""
    if features.timescale:
        await connection.execute("SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0")
    if len(batch.replaced):
        await _forget_rows(connection, ids, batch.replaced)
    for block in batch.blocks:
        await _write_block(connection, features, known_ids(ids, batch.refs), block)
    if len(batch.done):
        await _incoming(connection, ids, batch.done)
        await connection.execute(
            "DELETE FROM rollup_marks AS marks USING incoming_marks AS done WHERE marks.writer = $1"
            " AND marks.series_id = done.series_id AND marks.start_ms = done.start_ms AND marks.end_ms = done.end_ms",
            writer,
        )
    watermark = batch.watermark
    await connection.execute(PUT_STATE, writer, watermark.upto_ms, watermark.next_ms, watermark.next_ref)


async def forget_deleted(connection: Any, writer: int, given: Int32, start_ms: int, end_ms: int) -> None:
    """Delete every row of a bucket that a deletion of series (ids, int32[S]) touches; what is left of the buckets at its borders is to be
    rolled up again.
    """
    listed = ",".join(map(str, given.tolist()))
    for resolution_ms in RESOLUTIONS_MS.values():
        start, end = to_time(start_ms).isoformat(), to_time(end_ms + resolution_ms).isoformat()
        bounds = f"series_id = ANY('{{{listed}}}'::int[]) AND bucket > '{start}' AND bucket < '{end}'"
        await connection.execute(f"DELETE FROM {table_of(resolution_ms)} WHERE {bounds}")
    for low, high in ((start_ms // COARSEST_MS * COARSEST_MS, start_ms), (end_ms, -(-end_ms // COARSEST_MS) * COARSEST_MS)):
        if high > low:
            count = len(given)
            columns = np.full(count, writer, np.int32), given, np.full(count, low, np.int64), np.full(count, high, np.int64)
            await copy_in(connection, "rollup_marks", {"writer": "int4", **MARK}, *columns)


async def delete_tier_before(connection: Any, features: ServerFeatures, resolution_ms: int, cutoff_ms: int) -> None:
    """Drop the chunks, or partitions, that are older as a whole."""
    table = table_of(resolution_ms)
    if features.timescale:
        await connection.execute(f"SELECT drop_chunks('{table}', older_than => $1::timestamptz)", to_time(cutoff_ms))
    else:
        await partitions.drop_partitions(connection, table, cutoff_ms, days=PARTITION_DAYS[RESOLUTION_NAMES[resolution_ms]])


async def read_tier(
    database: Database, ids: SeriesIds, resolution_ms: int, refs: Int32, start_ms: int, end_ms: int, columns: TierColumn
) -> list[StoredRows]:
    """See `Store.read_tier`."""
    given = ids.ids_of(refs)
    known = np.flatnonzero(given >= 0)
    if not len(known) or start_ms >= end_ms:
        return []
    rows = len(known) * ((end_ms - start_ms) // resolution_ms)
    # By time and not by series, so that each part has chunks of its own to read.
    middle_ms = floor_ms((start_ms + end_ms) // 2, resolution_ms)
    parts = [(start_ms, middle_ms), (middle_ms, end_ms)] if rows >= PARALLEL_ROWS else [(start_ms, end_ms)]
    names = wanted_names(columns)

    async def read(low_ms: int, high_ms: int) -> StoredRows:
        selected = ", ".join(["series_id", *(COLUMNS[name][0] for name in names)])
        query = f"SELECT {selected} FROM {table_of(resolution_ms)} WHERE {wanted(given[known])} AND bucket > $1 AND bucket <= $2"
        async with database.connection("read rollups") as connection:
            stream = await copy_bytes(connection, query, to_time(low_ms), to_time(high_ms))
        return await asyncio.to_thread(_rows, names, given[known], refs[known], stream)

    return [found for found in await asyncio.gather(*(read(*part) for part in parts)) if found.rows.count]


def table_of(resolution_ms: int) -> str:
    return f"rollup_{RESOLUTION_NAMES[resolution_ms]}"


def check_unchanged(before: int, now: int) -> None:
    """Raise StorageUnavailable when another writer stored something since the samples that rows were made of were read."""
    if before != now:
        raise StorageUnavailable("another daemon stored samples while some were rolled up; they will be rolled up again")


def _rows(names: list[str], given: Int32, refs: Int32, stream: bytearray) -> StoredRows:
    found, *columns = decode_columns(("int4", *(COLUMNS[name][1] for name in names)), stream)
    arrays: dict[str, Any] = {name: np.empty(0, dtype) for name, dtype in COLUMN_TYPES.items()} | dict(zip(names, columns, strict=True))
    at = rows_of(given, found)
    return StoredRows(refs=np.where(at >= 0, refs[at], np.int32(-1)), rows=TierRows(**arrays))


async def _write_block(connection: Any, features: ServerFeatures, given: Int32, block: TierBlock) -> None:
    if not block.rows.count:
        return
    name = RESOLUTION_NAMES[block.resolution_ms]
    if not features.timescale:
        await partitions.make_partitions(connection, f"rollup_{name}", block.rows.ends_ms, days=PARTITION_DAYS[name])
    columns = {"series_id": "int4", **dict(COLUMNS.values())}
    arrays = np.repeat(given, np.diff(block.offsets)), *block.rows.columns().values()
    await copy_in(connection, f"rollup_{name}", columns, *arrays)


async def _forget_rows(connection: Any, ids: SeriesIds, replaced: Marks) -> None:
    given = known_ids(ids, replaced.refs)
    listed = ",".join(map(str, given.tolist()))
    start, end = (to_time(int(time)).isoformat() for time in (replaced.start_ms.min(), replaced.end_ms.max()))
    # Constants, so that TimescaleDB leaves out chunks and compressed batches.
    bounds = f"series_id = ANY('{{{listed}}}'::int[]) AND bucket > '{start}' AND bucket <= '{end}'"
    tables = [table for table in map(table_of, RESOLUTIONS_MS.values()) if await _any(connection, table, bounds)]
    if tables:  # mostly not: a bucket is rolled up for the first time
        await _incoming(connection, ids, replaced)
        for table in tables:
            await connection.execute(
                f"DELETE FROM {table} USING incoming_marks AS marks WHERE {bounds.replace('series_id', f'{table}.series_id')}"
                f" AND {table}.series_id = marks.series_id AND bucket > to_timestamp(start_ms / 1000.0)"
                " AND bucket <= to_timestamp(end_ms / 1000.0)"
            )


async def _any(connection: Any, table: str, condition: str) -> bool:
    return bool(await connection.fetchval(f"SELECT EXISTS (SELECT FROM {table} WHERE {condition})"))


async def _incoming(connection: Any, ids: SeriesIds, marks: Marks) -> None:
    """Marks as a temporary table."""
    await connection.execute("DROP TABLE IF EXISTS incoming_marks")
    await connection.execute("CREATE TEMP TABLE incoming_marks (series_id int, start_ms bigint, end_ms bigint) ON COMMIT DROP")
    await copy_in(connection, "incoming_marks", MARK, known_ids(ids, marks.refs), marks.start_ms, marks.end_ms)
