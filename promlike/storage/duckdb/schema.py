"""The tables of the DuckDB store as its first version makes them; later versions are steps of their own (`migrations.py`)."""

FIRST_TABLES = (
    "CREATE TABLE samples (series_id INTEGER NOT NULL, ts BIGINT NOT NULL, value DOUBLE)",
    "CREATE TABLE series (id INTEGER NOT NULL, metric VARCHAR NOT NULL, labels JSON NOT NULL)",
    "CREATE TABLE series_times (series_id INTEGER NOT NULL, min_ts BIGINT NOT NULL, max_ts BIGINT NOT NULL)",
    "CREATE TABLE metadata (metric VARCHAR NOT NULL, type VARCHAR NOT NULL, help VARCHAR NOT NULL, unit VARCHAR NOT NULL)",
    "CREATE TABLE state (key VARCHAR NOT NULL, value BIGINT NOT NULL)",
    """
    CREATE VIEW sample AS
        SELECT make_timestamp(ts * 1000) AS time, metric, labels, value, series_id
        FROM samples JOIN series ON series.id = samples.series_id
    """,
)
"""`samples` has no key: an index would cost more than the samples. `ts` is Unix time in milliseconds.
The view `sample`, for people, shows UTC.
"""

FLUSHES = (
    "CREATE TABLE flushes (number BIGINT NOT NULL, token BIGINT NOT NULL, noted_at BIGINT NOT NULL, changes VARCHAR NOT NULL)",
    "INSERT INTO state VALUES ('database', (hash(gen_random_uuid()) >> 1)::BIGINT), ('flush', 0), ('deleted_before', -(1::BIGINT << 62))",
)
"""What each flush changed; Unix times in milliseconds. `deleted_before`: up to where retention has deleted samples."""

EXEMPLARS = (
    "CREATE TABLE exemplars (series_id INTEGER NOT NULL, ts BIGINT NOT NULL, value DOUBLE, labels JSON NOT NULL)",
    """
    CREATE VIEW exemplar AS
        SELECT make_timestamp(ts * 1000) AS time, metric, series.labels, value, exemplars.labels AS exemplar_labels, series_id
        FROM exemplars JOIN series ON series.id = exemplars.series_id
    """,
)
"""The view `exemplar` is for people, as `sample` is."""


STRAYS = tuple(
    f"DELETE FROM {table} WHERE series_id NOT IN (SELECT id FROM series)"
    for table in ("samples", "exemplars", "series_times", "rollup_5m", "rollup_1h", "rollup_marks")
)
"""What retention left of series that it had removed. From version 8 on nothing is left, because the id may go to another series."""

_ROLLUP_COLUMNS = """
    series_id INTEGER NOT NULL, bucket BIGINT NOT NULL, count INTEGER NOT NULL, sum DOUBLE, min DOUBLE, max DOUBLE,
    first_ts BIGINT NOT NULL, first_value DOUBLE, last_ts BIGINT NOT NULL, last_value DOUBLE, reset_sum DOUBLE, ends_stale BOOLEAN NOT NULL
"""

ROLLUP_TABLES = (
    f"CREATE TABLE rollup_5m ({_ROLLUP_COLUMNS})",
    f"CREATE TABLE rollup_1h ({_ROLLUP_COLUMNS})",
    "CREATE TABLE rollup_marks (series_id INTEGER NOT NULL, start_ts BIGINT NOT NULL, end_ts BIGINT NOT NULL)",
    """
    CREATE VIEW labelled_rollups AS
        SELECT make_timestamp(bucket * 1000) AS time, resolution, metric, labels, count, sum, min, max, first_value, last_value,
            last_value - first_value + reset_sum AS increase, series_id
        FROM (SELECT '5m' AS resolution, * FROM rollup_5m UNION ALL SELECT '1h' AS resolution, * FROM rollup_1h) AS rows
        JOIN series ON series.id = rows.series_id
        WHERE count > 0
    """,
)
"""A row of a tier is a bucket of a series: the samples in (bucket - resolution, bucket], `bucket` being Unix time in milliseconds.
`reset_sum` is what a counter lost by resets inside the bucket. `rollup_marks` tells which times have to be rolled up again. The view
`labelled_rollups`, for people, shows UTC; its `time` is the end of the bucket.
"""
