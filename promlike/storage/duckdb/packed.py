"""Version 7 of the schema: rows of rollup tiers packed by series and stretch of time."""

import duckdb
import numpy as np

from promlike.model.tiers import RESOLUTIONS_MS
from promlike.storage.duckdb.tiers import write_packing
from promlike.storage.tier_packing import block_of_rows, pack
from promlike.storage.tiers import PACKED_COLUMNS, SPANS_MS

OLD = {
    "ends_ms": "bucket",
    "counts": "count",
    "sums": "sum",
    "mins": "min",
    "maxs": "max",
    "first_ms": "first_ts",
    "firsts": "first_value",
    "last_ms": "last_ts",
    "lasts": "last_value",
    "resets": "reset_sum",
    "stale": "ends_stale",
}
"""Fields of TierRows and the columns that held them."""

ROWS_AT_ONCE = 2_000_000

_TABLE = f"""
    series_id INTEGER NOT NULL, until BIGINT NOT NULL, rows INTEGER NOT NULL, first_ts BIGINT NOT NULL, last_ts BIGINT NOT NULL,
    {", ".join(f"{column} BLOB NOT NULL" for column in PACKED_COLUMNS.values())}
"""

_PACKED = " UNION ALL ".join(
    f"SELECT '{name}' AS resolution, {resolution_ms} AS step, * FROM rollup_{name}" for name, resolution_ms in RESOLUTIONS_MS.items()
)

STATEMENTS = (
    "DROP VIEW labelled_rollups",
    *(
        statement
        for name in RESOLUTIONS_MS
        for statement in (f"ALTER TABLE rollup_{name} RENAME TO rows_{name}", f"CREATE TABLE rollup_{name} ({_TABLE})")
    ),
    """
    CREATE MACRO rollup_integer(data, count, place) AS
        CAST(CAST(CAST('0x' || substr(hex(data), 5, 16) AS UBIGINT) AS BIT) AS BIGINT)
        + CAST(CAST(CAST('0x0' || array_to_string(list_transform(
            range(CAST('0x' || substr(hex(data), 3, 2) AS BIGINT) - 1, -1, -1),
            lambda plane: substr(hex(data), 2 * (10 + plane * count + place) + 1, 2)
        ), '') || repeat('00', CAST(substr(hex(data), 1, 1) AS INTEGER)) AS UBIGINT) AS BIT) AS BIGINT)
    """,
    """
    CREATE MACRO rollup_number(data, count, place) AS
        CASE WHEN substr(hex(data), 2, 1) = '7' THEN CAST(CAST(rollup_integer(data, count, place) AS BIT) AS DOUBLE)
        ELSE CAST(rollup_integer(data, count, place) AS DOUBLE) / power(10, CAST(substr(hex(data), 2, 1) AS INTEGER)) END
    """,
    f"""
    CREATE VIEW labelled_rollups AS
        SELECT make_timestamp((rollup_integer(buckets, rows, place) + place) * step * 1000) AS time, resolution, metric, labels,
            CAST(rollup_integer(counts, rows, place) AS INTEGER) AS count, rollup_number(sums, rows, place) AS sum,
            rollup_number(mins, rows, place) AS min, rollup_number(maxs, rows, place) AS max,
            rollup_number(first_values, rows, place) AS first_value, rollup_number(last_values, rows, place) AS last_value,
            rollup_number(last_values, rows, place) - rollup_number(first_values, rows, place) + rollup_number(resets, rows, place)
                AS increase,
            make_timestamp(until * 1000) AS until, series_id
        FROM (SELECT *, unnest(range(rows)) AS place FROM ({_PACKED})) AS unpacked
        JOIN series ON series.id = unpacked.series_id
        WHERE rollup_integer(counts, rows, place) > 0
    """,
)
"""A row is what a series has in a stretch of time whose last bucket ends at `until`: a day of buckets of 5 minutes, four of those of an
hour, or a part of it, which is put together with others later. The bytes of a column are described in `storage/tier_codec.py`, and taken
apart by the macros. `first_ts` and `last_ts` are of samples; where there are only stale markers the first is after the last. Of the view,
for people, conditions on `metric`, `labels`, `resolution` and `until` are cheap.
"""


def pack_old_rows(connection: duckdb.DuckDBPyConnection) -> None:
    """Move the rows of version 6 to the tables of version 7 and drop the old ones. Inside the transaction of the migration."""
    for name, resolution_ms in RESOLUTIONS_MS.items():
        table, span_ms = f"rows_{name}", SPANS_MS[resolution_ms]
        first, last, lowest, highest = connection.execute(
            f"SELECT min(bucket), max(bucket), min(series_id), max(series_id) FROM {table}"
        ).fetchall()[0]
        series = max(ROWS_AT_ONCE // (span_ms // resolution_ms), 1)
        for start_ms in range((first - 1) // span_ms * span_ms, last, span_ms) if first is not None else ():
            for low in range(lowest, highest + 1, series):
                _pack_some(connection, table, resolution_ms, start_ms, low, low + series)
        connection.execute(f"DROP TABLE {table}")


def _pack_some(connection: duckdb.DuckDBPyConnection, table: str, resolution_ms: int, start_ms: int, low: int, high: int) -> None:
    """Pack the rows of one stretch and some series."""
    end_ms = start_ms + SPANS_MS[resolution_ms]
    found = connection.sql(
        f"SELECT series_id, {', '.join(OLD.values())} FROM {table} WHERE bucket > {start_ms} AND bucket <= {end_ms}"
        f" AND series_id >= {low} AND series_id < {high} ORDER BY series_id, bucket"
    ).to_arrow_table()
    if found.num_rows:
        refs, *columns = (np.array(column.to_numpy()) for column in found.columns)
        given, block = block_of_rows(resolution_ms, refs, dict(zip(OLD, columns, strict=True)))
        write_packing(connection, resolution_ms, pack(given, block))
