"""Days of rows as partitions, on a PostgreSQL without TimescaleDB. A partition is dropped as a whole when retention ends it."""

from datetime import date, timedelta
from typing import Any

import numpy as np

from promlike.model.blocks import Int64
from promlike.storage.timescale.times import FIRST_MS, to_time

DAY_MS = 86_400_000
EPOCH = date(1970, 1, 1)


LOCK_TIMEOUT = "5s"
"""How long dropping waits for those who read, perhaps a `pg_dump` of hours: all who come later wait behind it. Retention tries again within
the hour."""


async def make_partitions(connection: Any, table: str, ts_ms: Int64, *, days: int = 1) -> None:
    """Make the partitions of `table`, each of so many days, that rows of these times (int64[N]) belong to.

    Attached instead of created in their place, because that would keep readers of all partitions out.
    """
    for number in np.unique(ts_ms // (DAY_MS * days)).tolist():
        first = EPOCH + timedelta(days=number * days)
        name = f"{table}_{first:%Y%m%d}"
        if await connection.fetchval("SELECT to_regclass(quote_ident(current_schema()) || $1) IS NULL", f".{name}"):
            await connection.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING INDEXES INCLUDING STORAGE)")
            bounds = f"FROM ('{first} 00:00+00') TO ('{first + timedelta(days=days)} 00:00+00')"
            await connection.execute(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES {bounds}")


async def drop_before(connection: Any, table: str, cutoff_ms: int, *, timescale: bool, days: int = 1) -> None:
    """Drop the chunks of `table`, or its partitions, each of so many days, that end at or before a time."""
    if cutoff_ms <= FIRST_MS + DAY_MS * days:
        return  # what is kept for ever
    await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
    if timescale:
        await connection.execute(f"SELECT drop_chunks('{table}', older_than => $1::timestamptz)", to_time(cutoff_ms))
    else:
        await _drop_partitions(connection, table, cutoff_ms, days)


async def _drop_partitions(connection: Any, table: str, cutoff_ms: int, days: int) -> None:
    names = await connection.fetch(
        "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = $1::regclass ORDER BY relname", table
    )
    last = EPOCH + timedelta(days=cutoff_ms // DAY_MS - days)
    for row in names:
        name = row["relname"]
        if name <= f"{table}_{last:%Y%m%d}":
            await connection.execute(f"DROP TABLE {name}")
