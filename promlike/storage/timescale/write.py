"""Writing samples. Every function runs inside the caller's transaction."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np

from promlike.model.blocks import Float64, Int32, Int64
from promlike.storage.store import FlushBatch, SampleChunk
from promlike.storage.timescale import series
from promlike.storage.timescale.copy import encode_rows
from promlike.storage.timescale.times import to_time

COLUMNS = ("ts", "series_id", "value")
UPDATE_TIMES = """
UPDATE series SET min_time = least(min_time, given.first), max_time = greatest(max_time, given.last)
FROM unnest($1::int[], $2::timestamptz[], $3::timestamptz[]) AS given (id, first, last) WHERE series.id = given.id
"""


async def write_batch(connection: Any, batch: FlushBatch) -> None:
    """See `Store.write`."""
    stored = await series.load_position(connection)
    if stored is not None and (stored.segment, stored.offset) >= (batch.position.segment, batch.position.offset):
        return  # the answer to an earlier commit was lost with the connection
    await series.write_series(connection, batch.new_series)
    await series.write_metadata(connection, batch.metadata)
    await _write_chunks(connection, batch)
    await _write_late(connection, batch.late_refs, batch.late_ts_ms, batch.late_values)
    await series.write_position(connection, batch.position)


async def _write_chunks(connection: Any, batch: FlushBatch) -> None:
    """COPY every chunk straight into the columnstore; chunks are sorted by (series, time), which direct compress relies on."""
    await connection.execute("SET LOCAL timescaledb.enable_direct_compress_copy = on")
    await connection.execute("SET LOCAL timescaledb.enable_direct_compress_copy_client_sorted = on")
    chunks = iter(batch.chunks)
    while (prepared := await asyncio.to_thread(_next_chunk, chunks)) is not None:
        chunk, rows = prepared
        await connection.copy_to_table("samples", columns=COLUMNS, source=_stream(rows), format="binary")
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
    times = [[to_time(ms) for ms in column.tolist()] for column in (first_ms, last_ms)]  # once a series and flush, not once a sample
    await connection.execute(UPDATE_TIMES, refs.tolist(), *times)


async def _write_late(connection: Any, refs: Int32, ts_ms: Int64, values: Float64) -> None:
    if not len(refs):
        return
    await connection.execute("SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0")
    await connection.execute("CREATE TEMP TABLE late (ts timestamptz, series_id int, value float8) ON COMMIT DROP")
    await connection.copy_to_table("late", columns=COLUMNS, source=_stream(encode_rows(refs, ts_ms, values)), format="binary")
    span = to_time(int(ts_ms.min())), to_time(int(ts_ms.max()))
    # The constant bounds let TimescaleDB leave out chunks; the join alone would decompress candidates in all of them.
    await connection.execute(
        "DELETE FROM samples USING late WHERE samples.series_id = late.series_id AND samples.ts = late.ts"
        f" AND samples.ts BETWEEN '{span[0].isoformat()}' AND '{span[1].isoformat()}'"
    )
    await connection.execute("INSERT INTO samples (ts, series_id, value) SELECT ts, series_id, value FROM late")
    starts = np.flatnonzero(np.diff(refs, prepend=refs[0] - 1))
    ends = np.append(starts[1:], len(refs)) - 1
    await _update_times(connection, refs[starts], ts_ms[starts], ts_ms[ends])


async def _stream(rows: bytes) -> AsyncIterator[bytes]:
    yield rows
