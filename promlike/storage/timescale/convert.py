"""Packing the rows of rollup tiers that version 7 of the schema stored one by one."""

import logging
from typing import Any

import numpy as np

from promlike.model.tiers import RESOLUTIONS_MS
from promlike.storage.tier_packing import block_of_rows, pack
from promlike.storage.tiers import SPANS_MS
from promlike.storage.timescale.copy import copy_out
from promlike.storage.timescale.tiers import write_packing
from promlike.storage.timescale.times import to_ms, to_time

log = logging.getLogger(__name__)

OLD = {
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
"""Fields of TierRows, and name and type of the columns that held them."""

ROWS_AT_ONCE = 2_000_000


async def pack_old_rows(connection: Any) -> None:
    """Move the rows to the tables of version 11 and drop the old ones. Inside the transaction of the migration: all or nothing."""
    for name, resolution_ms in RESOLUTIONS_MS.items():
        await _pack_tier(connection, f"rows_{name}", resolution_ms)
        await connection.execute(f"DROP TABLE rows_{name}")


async def _pack_tier(connection: Any, table: str, resolution_ms: int) -> None:
    first, last = map(to_ms, await connection.fetchrow(f"SELECT min(bucket), max(bucket) FROM {table}"))
    if first is None or last is None:
        return
    lowest, highest = await connection.fetchrow("SELECT min(id), max(id) FROM series")
    span_ms = SPANS_MS[resolution_ms]
    series = max(ROWS_AT_ONCE // (span_ms // resolution_ms), 1)
    types = ("int4", *(kind for _, kind in OLD.values()))
    selected = ", ".join(["series_id", *(column for column, _ in OLD.values())])
    done = 0
    for start_ms in range((first - 1) // span_ms * span_ms, last, span_ms):
        for low in range(lowest, highest + 1, series):
            query = (
                f"SELECT {selected} FROM {table} WHERE bucket > $1 AND bucket <= $2"
                f" AND series_id BETWEEN {low} AND {low + series - 1} ORDER BY series_id, bucket"
            )
            ids, *columns = await copy_out(connection, types, query, to_time(start_ms), to_time(start_ms + span_ms))
            if len(ids):
                given, block = block_of_rows(resolution_ms, np.asarray(ids, np.int32), dict(zip(OLD, columns, strict=True)))
                await write_packing(connection, resolution_ms, pack(given, block))
                done += len(ids)
        log.info("%s: %d rows packed, up to %s", table, done, to_time(min(start_ms + span_ms, last)))
