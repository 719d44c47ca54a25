"""The tables of the DuckDB store."""

SCHEMA_VERSION = 1

TABLES = """
CREATE TABLE IF NOT EXISTS samples (series_id INTEGER NOT NULL, ts BIGINT NOT NULL, value DOUBLE);
CREATE TABLE IF NOT EXISTS series (id INTEGER NOT NULL, metric VARCHAR NOT NULL, labels JSON NOT NULL);
CREATE TABLE IF NOT EXISTS series_times (series_id INTEGER NOT NULL, min_ts BIGINT NOT NULL, max_ts BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS metadata (metric VARCHAR NOT NULL, type VARCHAR NOT NULL, help VARCHAR NOT NULL, unit VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS state (key VARCHAR NOT NULL, value BIGINT NOT NULL);
CREATE OR REPLACE VIEW sample AS
    SELECT make_timestamp(ts * 1000) AS time, metric, labels, value, series_id
    FROM samples JOIN series ON series.id = samples.series_id;
"""
"""`samples` has no key: an index would cost more than the samples. `ts` is Unix time in milliseconds.
The view `sample`, for people, shows UTC.
"""
