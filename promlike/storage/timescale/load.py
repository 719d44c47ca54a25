"""Reading series from the database: all at the start, then what other writers stored."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from promlike.storage.arrange import rows_of
from promlike.storage.store import NO_REF, StoredNews, StoredSeries
from promlike.storage.timescale.connection import Database
from promlike.storage.timescale.copy import copy_bytes, copy_out, decode_columns
from promlike.storage.timescale.flushes import changed_by_others
from promlike.storage.timescale.ids import SeriesIds
from promlike.storage.timescale.series_rows import decode_labels

SERIES_AT_ONCE = 50_000
"""Series whose labels stand in memory together."""
CONNECTIONS = 3
PORTIONS = 1024
"""Where ids are sparse, because many series came and went, portions span more of them."""

LABELS = "SELECT id, labels::text FROM series WHERE id {some}"
WRITERS = """
SELECT series_id, CASE writer WHEN {writer} THEN ref ELSE {no_ref} END, coalesce(min_time, 'infinity'), coalesce(max_time, '-infinity')
FROM writer_series WHERE series_id {some}
"""
NEWS = """
SELECT series_id, min(min_time), max(max_time) FROM writer_series
WHERE writer <> $1 AND flush > $2 AND max_time IS NOT NULL GROUP BY series_id
"""


@dataclass(slots=True, kw_only=True)
class Seen:
    """Up to which flush of others everything is known here."""

    flush: int = 0


async def load_series(database: Database, writer: int, seen: Seen) -> AsyncIterator[StoredSeries]:
    """See `Store.load_series`. Several connections read portions of ids, which come in any order."""
    async with database.connection("load series") as connection:
        # Before anything else: what is flushed meanwhile is asked for again.
        seen.flush = await connection.fetchval("SELECT last_flush FROM database_state")
        first, last = await connection.fetchrow("SELECT min(id), max(id) FROM series")
    if first is None:
        return
    width = max(SERIES_AT_ONCE, (last - first) // PORTIONS + 1)
    waiting = [(low, min(low + width - 1, last)) for low in range(first, last + 1, width)][::-1]
    running: set[asyncio.Task[StoredSeries]] = set()
    try:
        while waiting or running:
            while waiting and len(running) < CONNECTIONS:
                running.add(asyncio.create_task(_load_portion(database, writer, *waiting.pop())))
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def load_news(connection: Any, writer: int, ids: SeriesIds, seen: int) -> tuple[int, StoredNews | None]:
    """The number of the last flush, and what came after the flush `seen`, see `Store.load_news`.

    Inside a transaction that sees one moment.
    """
    flush = await connection.fetchval("SELECT last_flush FROM database_state")
    if flush == seen:
        return flush, None
    changed = await changed_by_others(connection, writer, seen, flush)
    found, first_ms, last_ms = await copy_out(connection, ("int4", "timestamptz", "timestamptz"), NEWS, writer, seen)
    refs = ids.refs_of(found)
    known = refs != NO_REF
    series = []
    strangers = found[~known]
    for low in range(0, len(strangers), SERIES_AT_ONCE):
        given = ",".join(map(str, strangers[low : low + SERIES_AT_ONCE].tolist()))
        series.append(await _load_some(connection, writer, f"= ANY('{{{given}}}'::int[])"))
    return flush, StoredNews(series=series, refs=refs[known], min_time_ms=first_ms[known], max_time_ms=last_ms[known], changed_ms=changed)


async def _load_portion(database: Database, writer: int, low: int, high: int) -> StoredSeries:
    async with database.connection("load series") as connection:
        return await _load_some(connection, writer, f"BETWEEN {low} AND {high}")


async def _load_some(connection: Any, writer: int, some: str) -> StoredSeries:
    """The series whose ids satisfy a condition. Put together here: joining takes the server longer than reading both sides."""
    labels = await copy_bytes(connection, LABELS.format(some=some))
    writers = await copy_bytes(connection, WRITERS.format(some=some, writer=writer, no_ref=NO_REF))
    return await asyncio.to_thread(_joined, labels, writers)


def _joined(labels_stream: bytearray, writers_stream: bytearray) -> StoredSeries:
    ids, labels = decode_labels(labels_stream)
    found, refs, first_ms, last_ms = decode_columns(("int4", "int4", "timestamptz", "timestamptz"), writers_stream)
    rows = rows_of(ids, found)
    given = rows >= 0  # the other ones belong to series that came, or went, between both reads
    rows, columns = rows[given], StoredSeries.empty(ids, labels)
    np.maximum.at(columns.refs, rows, refs[given])
    np.minimum.at(columns.min_time_ms, rows, first_ms[given])
    np.maximum.at(columns.max_time_ms, rows, last_ms[given])
    return columns
