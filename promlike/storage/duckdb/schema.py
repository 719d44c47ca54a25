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

EXEMPLARS = (
    "CREATE TABLE exemplars (series_id INTEGER NOT NULL, ts BIGINT NOT NULL, value DOUBLE, labels JSON NOT NULL)",
    """
    CREATE VIEW exemplar AS
        SELECT make_timestamp(ts * 1000) AS time, metric, series.labels, value, exemplars.labels AS exemplar_labels, series_id
        FROM exemplars JOIN series ON series.id = exemplars.series_id
    """,
)
"""The view `exemplar` is for people, as `sample` is."""
