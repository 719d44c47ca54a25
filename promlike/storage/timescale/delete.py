"""Deleting samples of some series."""

from typing import Any

from promlike.model.blocks import Int32
from promlike.storage.timescale.connection import rows_of
from promlike.storage.timescale.days import take_samples
from promlike.storage.timescale.times import to_time

LOWER_TIMES = """
UPDATE writer_series SET max_time = left_over.newest, min_time = CASE WHEN left_over.newest IS NULL THEN NULL ELSE min_time END, flush = $4
FROM unnest($1::int[]) AS given (id)
CROSS JOIN LATERAL (
    SELECT greatest(
        (SELECT max(ts) FROM samples WHERE samples.series_id = given.id),
        (SELECT nullif(max(last_time), '-infinity') FROM rollup_1h WHERE rollup_1h.series_id = given.id)
    ) AS newest
) AS left_over
WHERE series_id = given.id AND max_time > $2 AND max_time <= $3
"""
DELETED_AT_ONCE = 2_000_000
"""Samples that the series of one statement have on average, so that none gets near the timeout of a statement, however much is deleted."""
SAMPLES_OF_EACH = "SELECT coalesce((SELECT sum(samples) FROM sample_days) / nullif((SELECT count(*) FROM series), 0), 0)::bigint"
VACUUM_S = 3600.0


async def series_at_once(connection: Any) -> int:
    """Of how many series `delete_samples` deletes with one statement. Asked once for all deletions, since it counts all series."""
    return max(1, int(DELETED_AT_ONCE // max(await connection.fetchval(SAMPLES_OF_EACH), 1)))


async def delete_samples(connection: Any, flush: int, ids: Int32, start_ms: int, end_ms: int, *, at_once: int) -> None:
    """Delete the samples and exemplars of series by their ids in the database (int32[S]) with start_ms < ts <= end_ms.

    Inside the transaction of a flush. `max_time` of the series is exact afterwards.
    """
    if not len(ids):
        return
    # A setting that plain PostgreSQL takes, too, and does nothing with.
    await connection.execute("SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0")
    for low in range(0, len(ids), at_once):
        await _delete_samples(connection, flush, ids[low : low + at_once].tolist(), start_ms, end_ms)


async def _delete_samples(connection: Any, flush: int, ids: list[int], start_ms: int, end_ms: int) -> None:
    start, end = to_time(start_ms), to_time(end_ms)
    # Constants let TimescaleDB leave out chunks, and drop compressed batches of these series whole where all of their times are inside.
    deleted = await connection.execute(
        f"DELETE FROM samples WHERE series_id = ANY('{{{','.join(map(str, ids))}}}'::int[])"
        f" AND ts > '{start.isoformat()}' AND ts <= '{end.isoformat()}'"
    )
    await connection.execute("DELETE FROM exemplars WHERE series_id = ANY($1::int[]) AND ts > $2 AND ts <= $3", ids, start, end)
    await take_samples(connection, start_ms, end_ms, rows_of(deleted))
    await connection.execute(LOWER_TIMES, ids, start, end, flush)


async def vacuum(connection: Any) -> None:
    """Make the space of deleted rows free, outside of a transaction."""
    await connection.execute(f"SET statement_timeout = '{VACUUM_S}s'")
    await connection.execute("VACUUM samples", timeout=VACUUM_S)
