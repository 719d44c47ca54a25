"""Version 3: what the store's schema offers to people who write SQL.

Everything is reached through the view `labelled_samples`. Its lateral join makes PostgreSQL choose the series first and then look up their
samples by index, whatever it believes of the number of rows; and as `DISTINCT ON (ts)` stands where conditions on the time pass through,
chunks and partitions are left out by time, and samples that two servers wrote are seen once.
"""

from collections.abc import Sequence

STALE = r"'\x7ff0000000000002'::bytea"

TABLES = (
    "CREATE TABLE metric_view (metric text PRIMARY KEY, view_name text NOT NULL UNIQUE, labels text[] NOT NULL, columns text[] NOT NULL)",
    "CREATE TABLE metric_view_change (id bigint GENERATED ALWAYS AS IDENTITY, metric text NOT NULL, labels text[])",
)
"""`metric_view`: the view of each metric. `metric_view_change`: what flushes and retention changed since views were brought up to date;
labels that a view is to show, or NULL when the metric may have no series any more."""

NO_MARKER = f"(value <> 'NaN' OR float8send(value) <> {STALE})"


def labelled_samples(value: str, no_marker: str) -> str:
    """The view; what the value of a row of `samples` is, and the condition that it is no stale marker."""
    return f"""
    CREATE OR REPLACE VIEW labelled_samples AS
    SELECT newest.ts AS time, series.metric, series.labels, newest.value, series.id AS series_id
    FROM series CROSS JOIN LATERAL (
        SELECT DISTINCT ON (ts) ts, {value} AS value FROM samples
        WHERE samples.series_id = series.id AND {no_marker}
        ORDER BY ts
    ) AS newest
    """


def views_for_people(timescale: bool) -> Sequence[str]:
    """The same on TimescaleDB and without it."""
    return (*TABLES, labelled_samples("value", NO_MARKER))
