"""The tables of the store as its first version makes them; later versions are steps of their own (`migrations.py`)."""

from collections.abc import Sequence


def first_tables(timescale: bool) -> Sequence[str]:
    """Version 1. Everything is IF NOT EXISTS, because databases from before the versions have these tables."""
    return (*_TABLES, *(_HYPERTABLE if timescale else _PARTITIONED), _VIEW)


_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS wal_position (
        only_row bool PRIMARY KEY DEFAULT true CHECK (only_row), segment bigint NOT NULL, byte_offset bigint NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS series (
        id int PRIMARY KEY,
        metric text NOT NULL,
        labels jsonb NOT NULL,
        min_time timestamptz,
        max_time timestamptz
    )
    """,
    "CREATE INDEX IF NOT EXISTS series_metric ON series (metric)",
    "CREATE INDEX IF NOT EXISTS series_labels ON series USING gin (labels jsonb_path_ops)",
    "CREATE TABLE IF NOT EXISTS metadata (metric text PRIMARY KEY, type text NOT NULL, help text NOT NULL, unit text NOT NULL)",
)

# No primary key and no trigger: direct compress switches itself off where there is one. The writer keeps (series_id, ts) unique.
_SAMPLES = "CREATE TABLE IF NOT EXISTS samples (ts timestamptz NOT NULL, series_id int NOT NULL, value float8 NOT NULL)"
_INDEX = "CREATE INDEX IF NOT EXISTS samples_series_ts ON samples (series_id, ts)"

_HYPERTABLE = (
    _SAMPLES,
    "SELECT create_hypertable('samples', by_range('ts', INTERVAL '1 day'), create_default_indexes => false, if_not_exists => true)",
    _INDEX,
    "ALTER TABLE samples SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'series_id', timescaledb.orderby = 'ts')",
    "CALL add_columnstore_policy('samples', after => INTERVAL '2 days', if_not_exists => true)",
)

_PARTITIONED = (f"{_SAMPLES} PARTITION BY RANGE (ts)", _INDEX)
"""On PostgreSQL without the extension; the partitions, one a day, are made by whoever writes into them (`partitions.py`)."""

_VIEW = """
    CREATE OR REPLACE VIEW labelled_samples AS
    SELECT samples.ts AS time, series.metric, series.labels, samples.value
    FROM samples JOIN series ON series.id = samples.series_id
"""
"""For people: `SELECT … FROM promlike.labelled_samples WHERE metric = 'up'`."""
