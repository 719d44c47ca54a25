"""Writing samples. Every function runs inside the transaction of a flush."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np

from promlike.errors import StorageError
from promlike.model.blocks import Float64, Int32, Int64, SampleBlock
from promlike.storage.store import SampleChunk
from promlike.storage.timescale.copy import SAMPLE, copy_in, encode_columns, stream_of
from promlike.storage.timescale.ids import SeriesIds
from promlike.storage.timescale.partitions import make_partitions
from promlike.storage.timescale.server import ServerFeatures
from promlike.storage.timescale.times import to_time

COLUMNS = ("ts", "series_id", "value")

Times = tuple[Int32, Int64, Int64]
"""Ids of series, and the first and last time that was written of each."""


async def write_chunks(connection: Any, features: ServerFeatures, ids: SeriesIds, chunks: Iterator[SampleChunk]) -> list[Times]:
    """COPY every chunk, straight into the columnstore where the server can."""
    if features.direct_compress:
        await connection.execute("SET LOCAL timescaledb.enable_direct_compress_copy = on")
        await connection.execute("SET LOCAL timescaledb.enable_direct_compress_copy_client_sorted = on")
    times = []
    while (prepared := await asyncio.to_thread(_next_chunk, ids, chunks)) is not None:
        samples, written, stream = prepared
        if not features.timescale:
            await make_partitions(connection, "samples", samples.ts_ms)
        await connection.copy_to_table("samples", columns=COLUMNS, source=stream_of(stream), format="binary")
        times.append(written)
    if features.direct_compress:
        await connection.execute("SET LOCAL timescaledb.enable_direct_compress_copy = off")
    return times


async def write_late(connection: Any, features: ServerFeatures, ids: SeriesIds, refs: Int32, ts_ms: Int64, values: Float64) -> list[Times]:
    """Put samples (int32[N], int64[N], float64[N], sorted by ref, time) in the place of what is stored at their times, or beside it."""
    if not len(refs):
        return []
    if features.timescale:
        await connection.execute("SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0")
    else:
        await make_partitions(connection, "samples", ts_ms)
    given = known_ids(ids, refs)
    await connection.execute("CREATE TEMP TABLE late (ts timestamptz, series_id int, value float8) ON COMMIT DROP")
    await copy_in(connection, "late", dict(zip(COLUMNS, SAMPLE, strict=True)), ts_ms, given, values)
    span = to_time(int(ts_ms.min())), to_time(int(ts_ms.max()))
    # The constant bounds let TimescaleDB leave out chunks; the join alone would decompress candidates in all of them.
    await connection.execute(
        "DELETE FROM samples USING late WHERE samples.series_id = late.series_id AND samples.ts = late.ts"
        f" AND samples.ts BETWEEN '{span[0].isoformat()}' AND '{span[1].isoformat()}'"
    )
    await connection.execute("INSERT INTO samples (ts, series_id, value) SELECT ts, series_id, value FROM late")
    starts = np.flatnonzero(np.diff(refs, prepend=refs[0] - 1))
    ends = np.append(starts[1:], len(refs)) - 1
    return [(given[starts], ts_ms[starts], ts_ms[ends])]


def known_ids(ids: SeriesIds, refs: Int32) -> Int32:
    """The ids of refs (int32[N]) that must have one; raises StorageError."""
    found = ids.ids_of(refs)
    if len(found) and found.min() < 0:
        raise StorageError(f"series {refs[np.argmin(found)]} has samples to store, but the database was never told of it")
    return found


def _next_chunk(ids: SeriesIds, chunks: Iterator[SampleChunk]) -> tuple[SampleBlock, Times, bytes] | None:
    chunk = next(chunks, None)
    if chunk is None:
        return None
    given, samples = _by_id(known_ids(ids, chunk.refs), chunk.samples)
    counts = np.diff(samples.offsets)
    some = np.flatnonzero(counts)
    times = given[some], samples.ts_ms[samples.offsets[some]], samples.ts_ms[samples.offsets[some + 1] - 1]
    return samples, times, encode_columns(SAMPLE, samples.ts_ms, np.repeat(given, counts), samples.values)


def _by_id(given: Int32, samples: SampleBlock) -> tuple[Int32, SampleBlock]:
    """Rows sorted by id, as direct compress relies on. Mostly they are already: refs and ids are given in the same order."""
    if (np.diff(given) > 0).all():
        return given, samples
    order = np.argsort(given)
    counts = np.diff(samples.offsets)[order]
    offsets = np.append(0, np.cumsum(counts))
    at = np.repeat(samples.offsets[:-1][order] - offsets[:-1], counts) + np.arange(offsets[-1])
    return given[order], SampleBlock(ts_ms=samples.ts_ms[at], values=samples.values[at], offsets=offsets)
