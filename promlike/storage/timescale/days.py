"""How many samples each day has: kept with every change, because counting them would read them all."""

from collections import Counter
from typing import Any

import numpy as np

from promlike.model.blocks import Int64
from promlike.storage.store import DAY_MS, StoredDay

TABLES = (
    # Days since 1970.
    "CREATE TABLE sample_days (day int PRIMARY KEY, samples bigint NOT NULL)",
    "INSERT INTO sample_days SELECT floor(extract(epoch FROM ts) / 86400)::int, count(*) FROM samples GROUP BY 1",
)
"""What version 6 of the schema adds."""

ADD = """
INSERT INTO sample_days (day, samples) SELECT * FROM unnest($1::int[], $2::bigint[])
ON CONFLICT (day) DO UPDATE SET samples = greatest(sample_days.samples + excluded.samples, 0)
"""
TAKE = """
WITH span AS (SELECT day, samples, sum(samples) OVER () AS whole FROM sample_days WHERE day BETWEEN $1 AND $2 AND samples > 0)
UPDATE sample_days SET samples = greatest(sample_days.samples - ceil($3::numeric * span.samples / span.whole)::bigint, 0)
FROM span WHERE sample_days.day = span.day
"""


def count_days(ts_ms: Int64) -> Counter[int]:
    """Samples of each day among these times (int64[N])."""
    days, counts = np.unique(ts_ms // DAY_MS, return_counts=True)
    return Counter(dict(zip(days.tolist(), counts.tolist(), strict=True)))


async def add_samples(connection: Any, days: Counter[int]) -> None:
    """So many samples were written. Inside the transaction that wrote them."""
    if days:
        await connection.execute(ADD, list(days), list(days.values()))


async def take_samples(connection: Any, start_ms: int, end_ms: int, deleted: int) -> None:
    """So many samples of (start, end] were deleted; of which days is estimated."""
    if deleted:
        first, last = (min(max(ms // DAY_MS, -(2**31)), 2**31 - 1) for ms in (start_ms, end_ms))
        await connection.execute(TAKE, first, last, deleted)


async def load_days(connection: Any) -> list[StoredDay]:
    """See `Store.days`."""
    rows = await connection.fetch("SELECT day, samples FROM sample_days WHERE samples > 0 ORDER BY day")
    return [StoredDay(start_ms=row["day"] * DAY_MS, samples=row["samples"]) for row in rows]


async def drop_days(connection: Any, cutoff_ms: int) -> None:
    """The days that end at or before a time were dropped."""
    await connection.execute("DELETE FROM sample_days WHERE day < $1", max(cutoff_ms // DAY_MS, -(2**31)))
