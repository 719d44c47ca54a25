"""Version 7 of the schema: rollup tiers."""

from collections.abc import Sequence

_COLUMNS = """
    bucket timestamptz NOT NULL, series_id int NOT NULL, count int NOT NULL, sum float8 NOT NULL, min float8 NOT NULL, max float8 NOT NULL,
    first_time timestamptz NOT NULL, first_value float8 NOT NULL, last_time timestamptz NOT NULL, last_value float8 NOT NULL,
    reset_sum float8 NOT NULL, ends_stale bool NOT NULL
"""

CHUNK_DAYS = {"5m": 1, "1h": 7}
"""Days of a chunk of a tier: a batch of its columnstore is then some hundred rows of a series."""

PARTITION_DAYS = {"5m": 7, "1h": 28}
"""Days of a partition, where there is no TimescaleDB."""


def rollup_tiers(timescale: bool) -> Sequence[str]:
    """A row of a tier is a bucket of a series, with the time at which it ends. `reset_sum` is what a counter lost by resets inside it.

    `rollup_state` tells how far each writer's samples are rolled up, `rollup_marks` which times of which of its series are to be rolled up
    again; both in Unix milliseconds. A continuous aggregate could hold neither resets nor stale markers.
    """
    tables = [statement for name in CHUNK_DAYS for statement in (_hypertable(name) if timescale else _partitioned(name))]
    return (*tables, *_BOOKS, _VIEW)


def _hypertable(name: str) -> Sequence[str]:
    table = f"rollup_{name}"
    return (
        f"CREATE TABLE {table} ({_COLUMNS})",
        f"SELECT create_hypertable('{table}', by_range('bucket', INTERVAL '{CHUNK_DAYS[name]} days'), create_default_indexes => false)",
        f"CREATE INDEX {table}_series_bucket ON {table} (series_id, bucket)",
        f"ALTER TABLE {table} SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'series_id', timescaledb.orderby = 'bucket')",
        f"CALL add_columnstore_policy('{table}', after => INTERVAL '1 day')",
    )


def _partitioned(name: str) -> Sequence[str]:
    table = f"rollup_{name}"
    return (
        f"CREATE TABLE {table} ({_COLUMNS}) PARTITION BY RANGE (bucket)",
        f"CREATE INDEX {table}_series_bucket ON {table} (series_id, bucket)",
    )


_BOOKS = (
    """
    CREATE TABLE rollup_state (
        writer int PRIMARY KEY REFERENCES writers ON DELETE CASCADE,
        upto_ms bigint NOT NULL, next_ms bigint NOT NULL, next_ref int NOT NULL
    )
    """,
    """
    CREATE TABLE rollup_marks (
        writer int NOT NULL REFERENCES writers ON DELETE CASCADE,
        series_id int NOT NULL, start_ms bigint NOT NULL, end_ms bigint NOT NULL
    )
    """,
    "CREATE INDEX rollup_marks_start ON rollup_marks (writer, start_ms)",
)

_VIEW = """
    CREATE VIEW labelled_rollups AS
    SELECT bucket AS time, resolution, metric, labels, count, sum, min, max, first_value, last_value,
        last_value - first_value + reset_sum AS increase
    FROM (SELECT '5m' AS resolution, * FROM rollup_5m UNION ALL SELECT '1h' AS resolution, * FROM rollup_1h) AS rows
    JOIN series ON series.id = rows.series_id
    WHERE count > 0
"""
"""For people."""
