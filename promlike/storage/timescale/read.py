"""Reading samples, and what is known of them."""

import asyncio
from typing import Any

import numpy as np

from promlike.model.blocks import Int32, SampleBlock
from promlike.model.clock import wall_clock_ms
from promlike.storage.arrange import arrange, rows_of
from promlike.storage.store import DAY_MS, StoreStats
from promlike.storage.timescale.copy import SAMPLE, copy_bytes, decode_columns
from promlike.storage.timescale.times import to_ms, to_time
from promlike.storage.timescale.values import value_of

DENSE = 4
"""When the asked ids span at most so many times their number, all series of the span are read and the others left out here."""


async def read_samples(connection: Any, ids: Int32, start_ms: int, end_ms: int) -> SampleBlock:
    """Samples of `ids int32[S]`, S > 0, some of which may be NO_ID; see `Store.read`."""
    # Binary COPY hands over rows as one stream of bytes, so no Python object is made for a row.
    query = f"SELECT ts, series_id, {value_of()} FROM samples WHERE {wanted(ids[ids >= 0])} AND ts > $1 AND ts <= $2"
    streams = [await copy_bytes(connection, query, to_time(start_ms), to_time(end_ms))]
    return await asyncio.to_thread(_block, ids, streams)


async def read_nothing(connection: Any) -> None:
    """Plan and run a read of the last day, of a series that there never is."""
    now_ms = wall_clock_ms()
    await read_samples(connection, np.zeros(1, np.int32), now_ms - DAY_MS, now_ms)


async def count_samples(connection: Any, ids: Int32, start_ms: int, end_ms: int) -> int:
    """See `Store.count`."""
    query = f"SELECT count(*) FROM samples WHERE {wanted(ids[ids >= 0])} AND ts > $1 AND ts <= $2"
    return int(await connection.fetchval(query, to_time(start_ms), to_time(end_ms)))


STATS = """
SELECT (SELECT count(*) FROM series) AS series, (SELECT coalesce(sum(samples), 0)::bigint FROM sample_days) AS samples,
       (SELECT min(min_time) FROM writer_series) AS first, (SELECT max(max_time) FROM writer_series) AS last
"""


async def load_stats(connection: Any, *, timescale: bool) -> StoreStats:
    """See `Store.stats`."""
    row = await connection.fetchrow(STATS)
    size = "hypertable_size('samples')" if timescale else "(SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('samples'))"
    return StoreStats(
        series=row["series"],
        samples=row["samples"],
        bytes=int(await connection.fetchval(f"SELECT coalesce({size}, 0)")),
        min_time_ms=to_ms(row["first"]),
        max_time_ms=to_ms(row["last"]),
    )


def _block(ids: Int32, streams: list[bytearray]) -> SampleBlock:
    ts_ms, found, values = decode_columns(SAMPLE, streams.pop())  # popped: it is gone before the columns are arranged
    return arrange(np.arange(len(ids), dtype=np.int32), rows_of(ids, found), ts_ms, values)


def wanted(ids: Int32, column: str = "series_id") -> str:
    """A condition that keeps at least these series (int32[S], S > 0): two bounds where they are dense, which is cheaper, else the list."""
    low, high = int(ids.min()), int(ids.max())
    span = f"{column} BETWEEN {low} AND {high}"
    return span if high - low < DENSE * len(ids) else f"{span} AND {column} = ANY('{{{','.join(map(str, ids.tolist()))}}}'::int[])"
