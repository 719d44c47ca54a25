"""Tables of the TimescaleDB store. Everything lives in the schema `promlike`; creating it again changes nothing."""

STATEMENTS: tuple[str, ...] = (
    "CREATE EXTENSION IF NOT EXISTS timescaledb",
    "CREATE SCHEMA IF NOT EXISTS promlike",
    """
    CREATE TABLE IF NOT EXISTS promlike.wal_position (
        only_row bool PRIMARY KEY DEFAULT true CHECK (only_row), segment bigint NOT NULL, byte_offset bigint NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS promlike.series (
        id int PRIMARY KEY,
        metric text NOT NULL,
        labels jsonb NOT NULL,
        min_time timestamptz,
        max_time timestamptz
    )
    """,
    "CREATE INDEX IF NOT EXISTS series_metric ON promlike.series (metric)",
    "CREATE INDEX IF NOT EXISTS series_labels ON promlike.series USING gin (labels jsonb_path_ops)",
    "CREATE TABLE IF NOT EXISTS promlike.metadata (metric text PRIMARY KEY, type text NOT NULL, help text NOT NULL, unit text NOT NULL)",
    # No primary key and no trigger: direct compress switches itself off where there is one. The writer keeps (series_id, ts) unique.
    "CREATE TABLE IF NOT EXISTS promlike.samples (ts timestamptz NOT NULL, series_id int NOT NULL, value float8 NOT NULL)",
    """
    SELECT create_hypertable(
        'promlike.samples', by_range('ts', INTERVAL '1 day'), create_default_indexes => false, if_not_exists => true
    )
    """,
    "CREATE INDEX IF NOT EXISTS samples_series_ts ON promlike.samples (series_id, ts)",
    """
    ALTER TABLE promlike.samples SET (
        timescaledb.enable_columnstore, timescaledb.segmentby = 'series_id', timescaledb.orderby = 'ts'
    )
    """,
    "CALL add_columnstore_policy('promlike.samples', after => INTERVAL '2 days', if_not_exists => true)",
    """
    CREATE OR REPLACE VIEW promlike.labelled_samples AS
    SELECT samples.ts AS time, series.metric, series.labels, samples.value
    FROM promlike.samples JOIN promlike.series ON series.id = samples.series_id
    """,
)
"""Run in order when the store opens. Reading what is joined by labels: `SELECT … FROM promlike.labelled_samples WHERE metric = 'up'`."""
