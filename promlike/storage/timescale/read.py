"""Reading samples, and what is known of them."""

import asyncio
from typing import Any

from promlike.model.blocks import Int32, SampleBlock
from promlike.storage.arrange import arrange
from promlike.storage.store import StoreStats
from promlike.storage.timescale.copy import decode_rows
from promlike.storage.timescale.times import to_ms, to_time

DENSE = 4
"""When the asked refs span at most so many times their number, all series of the span are read and the others left out here."""

STATS = """
SELECT (SELECT count(*) FROM series) AS series, (SELECT count(*) FROM samples) AS samples,
       coalesce(hypertable_size('samples'), 0) AS bytes,
       (SELECT min(min_time) FROM series) AS first, (SELECT max(max_time) FROM series) AS last
"""


async def read_samples(connection: Any, refs: Int32, start_ms: int, end_ms: int) -> SampleBlock:
    """See `Store.read`."""
    received: list[bytes] = []

    async def receive(data: bytes) -> None:
        received.append(data)

    # Binary COPY hands over rows as one stream of bytes, so no Python object is made for a row.
    query = f"SELECT ts, series_id, value FROM samples WHERE {_wanted(refs)} AND ts > $1 AND ts <= $2"
    await connection.copy_from_query(query, to_time(start_ms), to_time(end_ms), output=receive, format="binary")
    found_refs, ts_ms, values = await asyncio.to_thread(decode_rows, b"".join(received))
    return await asyncio.to_thread(arrange, refs, found_refs, ts_ms, values)


async def count_samples(connection: Any, refs: Int32, start_ms: int, end_ms: int) -> int:
    """See `Store.count`."""
    query = f"SELECT count(*) FROM samples WHERE {_wanted(refs)} AND ts > $1 AND ts <= $2"
    return int(await connection.fetchval(query, to_time(start_ms), to_time(end_ms)))


async def load_stats(connection: Any) -> StoreStats:
    """See `Store.stats`."""
    row = await connection.fetchrow(STATS)
    return StoreStats(
        series=row["series"], samples=row["samples"], bytes=row["bytes"], min_time_ms=to_ms(row["first"]), max_time_ms=to_ms(row["last"])
    )


def _wanted(refs: Int32) -> str:
    """A condition that keeps at least these series (int32[S], S > 0): two bounds where they are dense, which is cheaper, else the list."""
    low, high = int(refs.min()), int(refs.max())
    span = f"series_id BETWEEN {low} AND {high}"
    return span if high - low < DENSE * len(refs) else f"{span} AND series_id = ANY('{{{','.join(map(str, refs.tolist()))}}}'::int[])"
