"""Rollup tiers in the database. What writes runs inside the transaction of a flush."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from promlike.errors import StorageConflict
from promlike.model.blocks import Int32
from promlike.model.tiers import (
    COARSEST_MS,
    COLUMN_TYPES,
    RESOLUTION_NAMES,
    TierBlock,
    TierColumn,
    TierRows,
    ceil_ms,
    floor_ms,
    wanted_names,
)
from promlike.storage.arrange import rows_of
from promlike.storage.tier_packing import Change, Packing, change, span_of
from promlike.storage.tiers import PACKED_COLUMNS, SPANS_MS, Marks, PackedRows, TierBatch, TierState, Watermark
from promlike.storage.timescale import partitions
from promlike.storage.timescale.connection import Database
from promlike.storage.timescale.copy import copy_bytes, copy_in, copy_out, stream_of
from promlike.storage.timescale.ids import SeriesIds
from promlike.storage.timescale.packed_copy import FIXED, decode_packed, encode_packing
from promlike.storage.timescale.read import wanted
from promlike.storage.timescale.server import ServerFeatures
from promlike.storage.timescale.times import to_time
from promlike.storage.timescale.version7 import PARTITION_DAYS
from promlike.storage.timescale.write import known_ids
from promlike.storage.timescale.writers import others_stored_ms

PARALLEL_ROWS = 50_000
"""From so many rows on, an answer is read over two connections."""

MARK = {"series_id": "int4", "start_ms": "int8", "end_ms": "int8"}

LOAD_STATE = "SELECT writer, upto_ms, next_ms, next_ref FROM rollup_progress"
LOAD_MARKS = "SELECT series_id, start_ms, end_ms FROM rollup_marks JOIN series ON id = series_id ORDER BY start_ms, series_id LIMIT {limit}"
PUT_STATE = """
INSERT INTO rollup_progress (writer, upto_ms, next_ms, next_ref) VALUES ($1, $2, $3, $4)
ON CONFLICT (one) DO UPDATE SET writer = $1, upto_ms = $2, next_ms = $3, next_ref = $4
"""
FORGET_MARKS = "DELETE FROM rollup_marks WHERE NOT EXISTS (SELECT FROM series WHERE id = series_id)"


async def load_tier_state(connection: Any, writer: int) -> TierState:
    """See `Store.load_tier_state`. What another writer has begun is begun again here: it counted series by its own refs."""
    row = await connection.fetchrow(LOAD_STATE)
    watermark = None
    if row is not None:
        watermark = Watermark(upto_ms=row["upto_ms"], next_ms=row["next_ms"], next_ref=row["next_ref"] if row["writer"] == writer else 0)
    return TierState(watermark=watermark, others_ms=await others_stored_ms(connection, writer))


async def load_reached(connection: Any, writer: int) -> Watermark | None:
    """How far the tiers may reach, inside the transaction of a flush: as far as the writer that works on them has begun."""
    row = await connection.fetchrow(LOAD_STATE)
    if row is None:
        return None
    if row["writer"] != writer:
        return Watermark.at(row["next_ms"])
    return Watermark(upto_ms=row["upto_ms"], next_ms=row["next_ms"], next_ref=row["next_ref"])


async def load_marks(connection: Any, ids: SeriesIds, limit: int | None) -> Marks:
    """See `Store.load_marks`."""
    query = LOAD_MARKS.format(limit="ALL" if limit is None else limit)
    given, start_ms, end_ms = await copy_out(connection, ("int4", "int8", "int8"), query)
    refs = ids.refs_of(np.asarray(given, np.int32))
    known = np.flatnonzero(refs >= 0)
    return Marks(refs=refs[known], start_ms=start_ms[known], end_ms=end_ms[known])


async def write_marks(connection: Any, writer: int, ids: SeriesIds, marks: Marks) -> None:
    """Remember what has to be rolled up again."""
    if len(marks):
        writers = np.full(len(marks), writer, np.int32)
        given = known_ids(ids, marks.refs)
        await copy_in(connection, "rollup_marks", {"writer": "int4", **MARK}, writers, given, marks.start_ms, marks.end_ms)


async def write_tiers(connection: Any, writer: int, ids: SeriesIds, batch: TierBatch) -> None:
    """See `Store.write_tiers`."""
    given = known_ids(ids, batch.refs)
    replaced = replace(batch.replaced, refs=known_ids(ids, batch.replaced.refs))
    for block in batch.blocks:
        await change_tier(connection, given, block, replaced)
    if len(batch.done):
        await _incoming(connection, ids, batch.done)
        await connection.execute(
            "DELETE FROM rollup_marks AS marks USING incoming_marks AS done"
            " WHERE marks.series_id = done.series_id AND marks.start_ms = done.start_ms AND marks.end_ms = done.end_ms"
        )
    watermark = batch.watermark
    await connection.execute(PUT_STATE, writer, watermark.upto_ms, watermark.next_ms, watermark.next_ref)


async def change_tier(connection: Any, given: Int32, block: TierBlock, replaced: Marks) -> None:
    """Put rows of the series `given int32[S]` in the place of those in the times `replaced`, whose refs are ids of series, too."""
    resolution_ms = block.resolution_ms
    span = span_of(resolution_ms, given, block, replaced)
    if span is None:
        return
    names, listed = list(COLUMN_TYPES), np.union1d(given, replaced.refs)
    stored = await _read(connection, table_of(resolution_ms), names, listed, *span)
    changed = await asyncio.to_thread(change, resolution_ms, [stored], given, block, replaced)
    if len(changed.refs):
        await _forget_stretches(connection, resolution_ms, changed)
    await write_packing(connection, resolution_ms, changed.packing)


async def write_packing(connection: Any, resolution_ms: int, packing: Packing) -> None:
    """Store stretches of which none is there; refs are ids of series."""
    if not len(packing.refs):
        return
    name, table = RESOLUTION_NAMES[resolution_ms], table_of(resolution_ms)
    if await connection.fetchval("SELECT relkind = 'p' FROM pg_class WHERE oid = $1::regclass", table):
        await partitions.make_partitions(connection, table, packing.until_ms, days=PARTITION_DAYS[name])
    columns, stream = await asyncio.to_thread(encode_packing, packing.refs, packing)
    await connection.copy_to_table(table, columns=columns, source=stream_of(stream), format="binary")


async def forget_deleted(connection: Any, writer: int, given: Int32, start_ms: int, end_ms: int) -> None:
    """Delete every row of a bucket that a deletion of series (ids, int32[S]) touches; what is left of the buckets at its borders is to be
    rolled up again.
    """
    listed = ",".join(map(str, given.tolist()))
    for resolution_ms, span_ms in SPANS_MS.items():
        touched_ms = end_ms + resolution_ms - 1  # the last end of a bucket with a time of the deletion
        first, last = to_time(start_ms + span_ms).isoformat(), to_time(touched_ms).isoformat()
        within = f"series_id = ANY('{{{listed}}}'::int[]) AND until >= '{first}' AND until <= '{last}'"
        await connection.execute(f"DELETE FROM {table_of(resolution_ms)} WHERE {within}")
        count = len(given)
        marks = Marks(refs=given, start_ms=np.full(count, start_ms, np.int64), end_ms=np.full(count, touched_ms, np.int64))
        none = TierBlock(resolution_ms=resolution_ms, rows=TierRows.blank(0), offsets=np.zeros(count + 1, np.int64))
        await change_tier(connection, given, none, marks)
    for low, high in ((start_ms // COARSEST_MS * COARSEST_MS, start_ms), (end_ms, -(-end_ms // COARSEST_MS) * COARSEST_MS)):
        if high > low:
            count = len(given)
            columns = np.full(count, writer, np.int32), given, np.full(count, low, np.int64), np.full(count, high, np.int64)
            await copy_in(connection, "rollup_marks", {"writer": "int4", **MARK}, *columns)


async def delete_tier_before(connection: Any, features: ServerFeatures, resolution_ms: int, cutoff_ms: int) -> None:
    """Drop the chunks, or partitions, that are older as a whole, and marks of series that are gone."""
    await connection.execute(FORGET_MARKS)
    table, days = table_of(resolution_ms), PARTITION_DAYS[RESOLUTION_NAMES[resolution_ms]]
    await partitions.drop_before(connection, table, cutoff_ms, timescale=features.timescale, days=days)


async def read_tier(
    database: Database, ids: SeriesIds, resolution_ms: int, refs: Int32, start_ms: int, end_ms: int, columns: TierColumn
) -> list[PackedRows]:
    """See `Store.read_tier`."""
    given = ids.ids_of(refs)
    known = np.flatnonzero(given >= 0)
    if not len(known) or start_ms >= end_ms:
        return []
    rows, span_ms = len(known) * ((end_ms - start_ms) // resolution_ms), SPANS_MS[resolution_ms]
    last_ms = ceil_ms(end_ms, span_ms)
    # By time and not by series, so that each part has chunks of its own to read.
    middle_ms = floor_ms((start_ms + end_ms) // 2, span_ms)
    parallel = rows >= PARALLEL_ROWS and start_ms < middle_ms < last_ms
    parts = [(start_ms, middle_ms), (middle_ms, last_ms)] if parallel else [(start_ms, last_ms)]
    names = wanted_names(columns)

    async def read(low_ms: int, high_ms: int) -> PackedRows:
        async with database.connection("read rollups") as connection:
            found = await _read(connection, table_of(resolution_ms), names, given[known], low_ms, high_ms)
        at = rows_of(given[known], found.refs)
        return replace(found, refs=np.where(at >= 0, refs[known][at], np.int32(-1)))

    return [found for found in await asyncio.gather(*(read(*part) for part in parts)) if len(found.refs)]


async def _read(connection: Any, table: str, names: Sequence[str], given: Int32, low_ms: int, high_ms: int) -> PackedRows:
    """The stretches that end in (low, high] of the series `given int32[S]`, and maybe of more; refs are ids."""
    selected = ", ".join([*FIXED, *(PACKED_COLUMNS[name] for name in names)])
    query = f"SELECT {selected} FROM {table} WHERE {wanted(given)} AND until > $1 AND until <= $2"
    stream = await copy_bytes(connection, query, to_time(low_ms), to_time(high_ms))
    return await asyncio.to_thread(decode_packed, names, stream)


def table_of(resolution_ms: int) -> str:
    return f"rollup_{RESOLUTION_NAMES[resolution_ms]}"


def check_unchanged(before: int, now: int) -> None:
    """Raise StorageConflict when another writer stored something since the samples that rows were made of were read."""
    if before != now:
        raise StorageConflict("another daemon stored samples while some were rolled up; they will be rolled up again")


async def _forget_stretches(connection: Any, resolution_ms: int, changed: Change) -> None:
    table = table_of(resolution_ms)
    await connection.execute("DROP TABLE IF EXISTS incoming_stretches")
    await connection.execute("CREATE TEMP TABLE incoming_stretches (series_id int, until timestamptz) ON COMMIT DROP")
    kinds = {"series_id": "int4", "until": "timestamptz"}
    await copy_in(connection, "incoming_stretches", kinds, changed.refs, changed.until_ms)
    first, last = (to_time(int(time)).isoformat() for time in (changed.until_ms.min(), changed.until_ms.max()))
    # Constants, so that chunks and partitions of other times are left out.
    await connection.execute(
        f"DELETE FROM {table} USING incoming_stretches AS gone WHERE {table}.series_id = gone.series_id AND {table}.until = gone.until"
        f" AND {table}.until BETWEEN '{first}' AND '{last}'"
    )


async def _incoming(connection: Any, ids: SeriesIds, marks: Marks) -> None:
    """Marks as a temporary table."""
    await connection.execute("DROP TABLE IF EXISTS incoming_marks")
    await connection.execute("CREATE TEMP TABLE incoming_marks (series_id int, start_ms bigint, end_ms bigint) ON COMMIT DROP")
    await copy_in(connection, "incoming_marks", MARK, known_ids(ids, marks.refs), marks.start_ms, marks.end_ms)
