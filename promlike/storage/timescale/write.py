"""Writing samples. Every function runs inside the transaction of a flush."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from promlike.errors import StorageError
from promlike.model.blocks import Float64, Int32, Int64, SampleBlock
from promlike.model.flushes import StoredChange
from promlike.storage.store import DAY_MS, SampleChunk
from promlike.storage.timescale.connection import rows_of
from promlike.storage.timescale.copy import copy_out
from promlike.storage.timescale.days import add_samples, count_days, take_samples
from promlike.storage.timescale.ids import SeriesIds
from promlike.storage.timescale.partitions import make_partitions
from promlike.storage.timescale.read import wanted
from promlike.storage.timescale.server import ServerFeatures
from promlike.storage.timescale.text import original
from promlike.storage.timescale.times import to_time
from promlike.storage.timescale.values import Rows, copy_samples, encode_samples, value_of

SORTED_AT_ONCE = 1_000_000
"""Rows of one COPY that stay together: more than a chunk has."""

Times = tuple[Int32, Int64, Int64]
"""Refs of series, and the first and last time that was written of each."""
Late = tuple[Int32, Int64, Float64]
"""Samples that replace what is stored at their times: refs, times, values; sorted by ref, time."""

LAST_OF_OTHERS = """
SELECT series_id, max(max_time) FROM writer_series
WHERE writer <> $1 AND max_time IS NOT NULL AND series_id IN (SELECT series_id FROM writer_series WHERE writer = $1)
GROUP BY series_id ORDER BY series_id
"""

LATE_AT_ONCE = 250_000
"""Late samples that one statement puts in their places, so that none of them gets near the timeout of a statement."""
LATE_SERIES_AT_ONCE = 2000
"""Series whose samples of a day one statement looks through for those at the same times."""
REPLACED_AT_ONCE = 200
"""Series of which one statement drops samples of a day: it may have to decompress all of those."""

MAKE_LATE = (
    "CREATE TEMP TABLE late (LIKE samples) ON COMMIT DROP;"
    " CREATE TEMP TABLE met (series_id int, ts timestamptz, differs bool) ON COMMIT DROP"
)
"""Once for all portions: what a transaction has dropped stays locked until it ends, and locks are few."""
MET = f"""
INSERT INTO met
SELECT late.series_id, late.ts, bool_or(float8send({value_of("samples")}) <> float8send({value_of("late")})) AS differs
FROM late JOIN samples ON samples.series_id = late.series_id AND samples.ts = late.ts
WHERE {{within}} GROUP BY late.series_id, late.ts
"""
"""Late samples at whose times there is one already. Values are compared by their bits, since one NaN is not another."""
DROP_STORED = "DELETE FROM late USING met WHERE late.series_id = met.series_id AND late.ts = met.ts AND NOT met.differs"
DROP_OLD = "DELETE FROM samples USING met WHERE samples.series_id = met.series_id AND samples.ts = met.ts AND met.differs AND {within}"
DIFFERING = "SELECT series_id, min(ts) AS first, max(ts) AS last FROM met WHERE differs GROUP BY series_id ORDER BY series_id"
OVERWRITTEN = """
SELECT metric, round(extract(epoch FROM min(ts)) * 1000)::bigint AS first_ms, round(extract(epoch FROM max(ts)) * 1000)::bigint AS last_ms
FROM met JOIN series ON id = series_id WHERE differs GROUP BY metric
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Portion:
    """Rows, with their times and what their series got; beside them the samples that others have overtaken."""

    ts_ms: Int64
    days: Counter[int]
    rows: list[Rows]
    times: Times
    overtaken: Late


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LastOfOthers:
    """The newest time that other writers stored of K series that this one has, too: `ids int32[K]` ascending, `last_ms int64[K]`."""

    ids: Int32
    last_ms: Int64
    exist: bool
    """Is there another writer that has stored anything, of whatever series?"""

    def of(self, ids: Int32) -> Int64:
        """The time for each of `ids int32[S]`, the least of all where there is none: int64[S]."""
        if not len(self.ids):
            return np.full(len(ids), -(2**63), np.int64)
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[at] == ids, self.last_ms[at], -(2**63))


async def last_of_others(connection: Any, writer: int) -> LastOfOthers:
    """Read what a flush has to take care of. Mostly there is no other writer, which is cheap to see."""
    ids, last_ms = np.empty(0, np.int32), np.empty(0, np.int64)
    exist = await connection.fetchval("SELECT EXISTS (SELECT FROM writers WHERE number <> $1 AND segment IS NOT NULL)", writer)
    if exist:
        ids, last_ms = await copy_out(connection, ("int4", "timestamptz"), LAST_OF_OTHERS, writer)
    return LastOfOthers(ids=ids, last_ms=last_ms, exist=exist)


async def write_chunks(
    connection: Any, features: ServerFeatures, ids: SeriesIds, others: LastOfOthers, chunks: Iterator[SampleChunk]
) -> tuple[list[Times], list[Late]]:
    """COPY every chunk, straight into the columnstore where the server can.

    Left out, and returned, are samples that are not newer than what other writers stored of their series: some may stand there already.
    """
    if features.direct_compress:
        await connection.execute("SET LOCAL timescaledb.enable_direct_compress_copy = on")
        await connection.execute("SET LOCAL timescaledb.enable_direct_compress_copy_client_sorted = on")
        await connection.execute(f"SET LOCAL timescaledb.direct_compress_copy_tuple_sort_limit = {SORTED_AT_ONCE}")
    times, overtaken = [], []
    while (portion := await asyncio.to_thread(_next_portion, ids, others, chunks, features.timescale)) is not None:
        if not features.timescale:
            await make_partitions(connection, "samples", portion.ts_ms)
        await copy_samples(connection, "samples", portion.rows)
        await add_samples(connection, portion.days)
        times.append(portion.times)
        overtaken.append(portion.overtaken)
    if features.direct_compress:
        await connection.execute("SET LOCAL timescaledb.enable_direct_compress_copy = off")
    return times, [part for part in overtaken if len(part[0])]


def sorted_late(parts: list[Late]) -> Late:
    """Late samples of several sources, no time of a series twice, in order."""
    if len(parts) == 1:
        return parts[0]
    refs = np.concatenate([part[0] for part in parts])
    ts_ms = np.concatenate([part[1] for part in parts])
    values = np.concatenate([part[2] for part in parts])
    order = np.lexsort((ts_ms, refs))
    return refs[order], ts_ms[order], values[order]


async def write_late(connection: Any, features: ServerFeatures, ids: SeriesIds, late: Late) -> tuple[list[Times], list[StoredChange]]:
    """Put samples in the place of what is stored at their times, or beside it; and where they had other values there, by metric."""
    refs, ts_ms, values = late
    if not len(refs):
        return [], []
    if features.timescale:
        await connection.execute("SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0")
    else:
        await make_partitions(connection, "samples", ts_ms)
    given = known_ids(ids, refs)
    await connection.execute(MAKE_LATE)
    changed: list[StoredChange] = []
    for part in late_portions(given, ts_ms):
        changed += await _write_late(connection, features, given[part], ts_ms[part], values[part])
    starts = np.flatnonzero(np.diff(refs, prepend=refs[0] - 1))
    return [(refs[starts], ts_ms[starts], ts_ms[np.append(starts[1:], len(refs)) - 1])], changed


def late_portions(ids: Int32, ts_ms: Int64) -> Iterator[Int64]:
    """Rows (of int32[N] and int64[N]) that are written together, as positions int64[K] by id and time: those of one day, which are in one
    chunk, and of so few series, and so few, that no statement takes long.
    """
    order = np.lexsort((ts_ms, ids, ts_ms // DAY_MS))
    days = (ts_ms // DAY_MS)[order]
    for day in np.split(order, np.flatnonzero(np.diff(days)) + 1):
        series = np.cumsum(np.diff(ids[day], prepend=ids[day[0]]) != 0)
        low = 0
        while low < len(day):
            high = min(low + LATE_AT_ONCE, int(np.searchsorted(series, series[low] + LATE_SERIES_AT_ONCE)))
            yield day[low:high]
            low = high


async def _write_late(connection: Any, features: ServerFeatures, ids: Int32, ts_ms: Int64, values: Float64) -> list[StoredChange]:
    """Write one portion, whose ids int32[N] ascend. What stands in the database with the same value stays as it is."""
    day, offsets = int(ts_ms[0] // DAY_MS), np.append(np.flatnonzero(np.diff(ids, prepend=ids[0] - 1)), len(ids))
    rows = await asyncio.to_thread(encode_samples, ids, ts_ms, values, offsets, decimals=features.timescale)
    await copy_samples(connection, "late", rows)
    await connection.execute("ANALYZE late")
    met = await connection.execute(MET.format(within=_within(ids[offsets[:-1]], to_time(int(ts_ms.min())), to_time(int(ts_ms.max())))))
    changed = await _drop_met(connection, day) if rows_of(met) else []
    inserted = await connection.execute("INSERT INTO samples SELECT * FROM late")
    await add_samples(connection, Counter({day: rows_of(inserted)}))
    await connection.execute("TRUNCATE late, met")
    return changed


async def _drop_met(connection: Any, day: int) -> list[StoredChange]:
    """Of late samples at whose times there is one: those with its value leave `late`, and where they have another the old one goes."""
    await connection.execute(DROP_STORED)
    rows = await connection.fetch(DIFFERING)
    for low in range(0, len(rows), REPLACED_AT_ONCE):
        part = rows[low : low + REPLACED_AT_ONCE]
        within = _within(
            np.array([row["series_id"] for row in part], np.int32), min(row["first"] for row in part), max(row["last"] for row in part)
        )
        deleted = await connection.execute(DROP_OLD.format(within=within))
        await take_samples(connection, day * DAY_MS, day * DAY_MS, rows_of(deleted))
    return [
        StoredChange(metric=original(row["metric"]), start_ms=row["first_ms"] - 1, end_ms=row["last_ms"])
        for row in await connection.fetch(OVERWRITTEN)
    ]


def _within(ids: Int32, first: datetime, last: datetime) -> str:
    """Constants let TimescaleDB leave out chunks and compressed batches; by a join alone it would decompress all of a chunk."""
    return f"{wanted(ids, 'samples.series_id')} AND samples.ts BETWEEN '{first.isoformat()}' AND '{last.isoformat()}'"


def known_ids(ids: SeriesIds, refs: Int32) -> Int32:
    """The ids of refs (int32[N]) that must have one; raises StorageError."""
    found = ids.ids_of(refs)
    if len(found) and found.min() < 0:
        raise StorageError(f"series {refs[np.argmin(found)]} has samples to store, but the database was never told of it")
    return found


def _next_portion(ids: SeriesIds, others: LastOfOthers, chunks: Iterator[SampleChunk], decimals: bool) -> _Portion | None:
    chunk = next(chunks, None)
    if chunk is None:
        return None
    refs, given, samples = _by_id(chunk.refs, known_ids(ids, chunk.refs), chunk.samples)
    counts = np.diff(samples.offsets)
    some = np.flatnonzero(counts)
    times = refs[some], samples.ts_ms[samples.offsets[some]], samples.ts_ms[samples.offsets[some + 1] - 1]
    row_ids, ts_ms, values, offsets = np.repeat(given, counts), samples.ts_ms, samples.values, samples.offsets
    late = ts_ms <= np.repeat(others.of(given), counts)
    overtaken = np.repeat(refs, counts)[late], ts_ms[late], values[late]
    if late.any():
        row_ids, ts_ms, values = row_ids[~late], ts_ms[~late], values[~late]
        offsets = np.append(0, np.cumsum(~late))[offsets]
    rows = encode_samples(row_ids, ts_ms, values, offsets, decimals=decimals)
    return _Portion(ts_ms=ts_ms, days=count_days(ts_ms), rows=rows, times=times, overtaken=overtaken)


def _by_id(refs: Int32, given: Int32, samples: SampleBlock) -> tuple[Int32, Int32, SampleBlock]:
    """Rows sorted by id, as direct compress relies on. Mostly they are already: refs and ids are given in the same order."""
    if (np.diff(given) > 0).all():
        return refs, given, samples
    order = np.argsort(given)
    counts = np.diff(samples.offsets)[order]
    offsets = np.append(0, np.cumsum(counts))
    at = np.repeat(samples.offsets[:-1][order] - offsets[:-1], counts) + np.arange(offsets[-1])
    return refs[order], given[order], SampleBlock(ts_ms=samples.ts_ms[at], values=samples.values[at], offsets=offsets)
