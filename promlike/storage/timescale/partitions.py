"""Days of samples as partitions, on a PostgreSQL without TimescaleDB. A day is dropped as a whole when retention ends it."""

from datetime import date, timedelta
from typing import Any

import numpy as np

from promlike.model.blocks import Int64

DAY_MS = 86_400_000
EPOCH = date(1970, 1, 1)


async def make_partitions(connection: Any, table: str, ts_ms: Int64) -> None:
    """Make the partitions of `table` that samples of these times (int64[N]) belong to.

    Attached instead of created in their place, because that would keep readers of all partitions out.
    """
    for day in np.unique(ts_ms // DAY_MS).tolist():
        first = EPOCH + timedelta(days=day)
        name = f"{table}_{first:%Y%m%d}"
        if await connection.fetchval("SELECT to_regclass(quote_ident(current_schema()) || $1) IS NULL", f".{name}"):
            await connection.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING INDEXES)")
            bounds = f"FROM ('{first} 00:00+00') TO ('{first + timedelta(days=1)} 00:00+00')"
            await connection.execute(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES {bounds}")


async def drop_partitions(connection: Any, table: str, cutoff_ms: int) -> None:
    """Drop the days of `table` that end at or before a time."""
    names = await connection.fetch(
        "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = $1::regclass ORDER BY relname", table
    )
    last = EPOCH + timedelta(days=cutoff_ms // DAY_MS - 1)
    for row in names:
        name = row["relname"]
        if name <= f"{table}_{last:%Y%m%d}":
            await connection.execute(f"DROP TABLE {name}")
