"""Views and macros of the DuckDB store for people who write SQL."""

from collections.abc import Iterable, Mapping
from itertools import islice

import duckdb

from promlike.model.blocks import Int32
from promlike.storage.metric_views import COLUMNS, LabelNames, MetricView, Naming, candidates, plan_views

NAMING = Naming(max_bytes=0, key=str.lower)
MAX_VIEWS = 10_000
"""DuckDB keeps all views in memory, about 12 KB each, and writes them with every check-point."""

AT_ONCE = 100
"""Metrics whose views are made in one transaction: about 60 ms of the writing thread."""

STALE = "'0111111111110000000000000000000000000000000000000000000000000010'::BIT"

STATEMENTS = (
    "CREATE TABLE metric_view (metric VARCHAR NOT NULL, view_name VARCHAR NOT NULL, labels VARCHAR[] NOT NULL, columns VARCHAR[] NOT NULL)",
    "CREATE TABLE metric_view_change (metric VARCHAR NOT NULL, labels VARCHAR[])",
    "CREATE SCHEMA metric",
    f"""
    CREATE VIEW sample_value AS
        SELECT series_id, to_timestamp(ts / 1000) AS time, value FROM samples WHERE NOT isnan(value) OR try_cast(value AS BIT) <> {STALE}
    """,
    """
    CREATE OR REPLACE VIEW sample AS
        SELECT time, metric, labels, value, series_id
        FROM sample_value JOIN (SELECT id AS series_id, metric, labels FROM series) USING (series_id)
    """,
)
"""`metric_view`: the view of each metric in the schema `metric`. `metric_view_change`: what flushes and retention changed since views were
brought up to date; labels that a view is to show, or NULL when the metric may have no series any more.

The views are worded so that DuckDB, 2.0 at least, reads little: with `to_timestamp` and `try_cast` it skips row groups by time, which it
does not with `make_timestamptz` or a plain cast; and as samples and series are apart below the join, it looks for the series first,
whatever the condition on their labels, and then skips row groups by series.
"""


MAKE_AGAIN = ("INSERT INTO metric_view_change SELECT metric, labels FROM metric_view",)
"""Version 9: views did not name the schema of our tables, so a metric `series` had its view read by all others, which failed."""


def load_books(connection: duckdb.DuckDBPyConnection) -> dict[str, LabelNames]:
    """Each metric that has a view, with the labels it shows."""
    return {metric: frozenset(labels) for metric, labels in connection.execute("SELECT metric, labels FROM metric_view").fetchall()}


def metrics_of(connection: duckdb.DuckDBPyConnection, refs: Int32) -> list[str]:
    """The metrics of the series `refs int32[S]`."""
    found = "SELECT DISTINCT metric FROM series WHERE metric <> '' AND id IN (SELECT unnest($1::INTEGER[]))"
    return [metric for (metric,) in connection.execute(found, [refs.tolist()]).fetchall()]


def note_growth(connection: duckdb.DuckDBPyConnection, growth: Mapping[str, LabelNames]) -> None:
    """Remember which views are to show more, in the transaction that brings the series."""
    if growth:
        connection.execute(
            "INSERT INTO metric_view_change SELECT unnest($1::VARCHAR[]), unnest($2::VARCHAR[][])",
            [list(growth), [sorted(labels) for labels in growth.values()]],
        )


def note_loss(connection: duckdb.DuckDBPyConnection, metrics: Iterable[str]) -> list[str]:
    """Remember which of these metrics have no series any more, and return them; in the transaction that removed the series."""
    asked = sorted(metrics)
    gone = "SELECT metric FROM (SELECT unnest($1::VARCHAR[]) AS metric) WHERE metric NOT IN (SELECT metric FROM series)"
    lost = [metric for (metric,) in connection.execute(gone, [asked]).fetchall()]
    connection.execute("INSERT INTO metric_view_change SELECT unnest($1::VARCHAR[]), NULL", [lost])
    return lost


def note_differences(connection: duckdb.DuckDBPyConnection) -> None:
    """Remember the metrics without a view and the views that somebody dropped; for the first time after a start."""
    connection.execute(
        "INSERT INTO metric_view_change SELECT metric, list_distinct(flatten(list(json_keys(labels)))) FROM series"
        " WHERE metric <> '' AND metric NOT IN (SELECT metric FROM metric_view) GROUP BY metric"
    )
    connection.execute(
        "INSERT INTO metric_view_change SELECT metric, labels FROM metric_view WHERE view_name NOT IN"
        " (SELECT view_name FROM duckdb_views() WHERE schema_name = 'metric')"
    )


def drop_beyond_limit(connection: duckdb.DuckDBPyConnection) -> int:
    """Forget new metrics once there are as many views as there may be; how many metrics that were."""
    if _room(connection):
        return 0
    beyond = "FROM metric_view_change WHERE metric NOT IN (SELECT metric FROM metric_view)"
    count = int(connection.execute(f"SELECT count(DISTINCT metric) {beyond}").fetchall()[0][0])
    connection.execute(f"DELETE {beyond}")
    return count


def refresh_views(connection: duckdb.DuckDBPyConnection) -> int:
    """Bring the views of the next metrics up to date, inside the caller's transaction; how many metrics those were."""
    noted = connection.execute(
        "SELECT metric, labels FROM metric_view_change WHERE metric IN"
        f" (SELECT DISTINCT metric FROM metric_view_change ORDER BY metric LIMIT {AT_ONCE})"
    ).fetchall()
    metrics = sorted({metric for metric, _ in noted})
    if not metrics:
        return 0
    wanted: dict[str, LabelNames] = dict.fromkeys(metrics, frozenset())
    for metric, labels in noted:
        wanted[metric] |= frozenset(labels or ())
    existing, taken = _existing(connection, metrics)
    for metric in _without_series(connection, sorted({metric for metric, labels in noted if labels is None})):
        del wanted[metric]
        if view := existing.pop(metric, None):
            connection.execute(f"DROP VIEW IF EXISTS metric.{_quoted(view.name)}")
    planned = plan_views(wanted, existing, taken, NAMING)
    beyond = {view.metric for view in [view for view in planned if view.metric not in existing][_room(connection) :]}
    planned = [view for view in planned if view.metric not in beyond]
    for view in planned:
        connection.execute(view_text(view))
    connection.execute("DELETE FROM metric_view WHERE list_contains($1, metric)", [metrics])
    if planned:
        rows = [(view.metric, view.name, list(view.labels), list(view.columns)) for view in planned]
        connection.executemany("INSERT INTO metric_view VALUES ($1, $2, $3, $4)", rows)
    settled = [metric for metric in metrics if metric not in beyond]
    connection.execute("DELETE FROM metric_view_change WHERE list_contains($1, metric)", [settled])
    return len(settled)


def view_text(view: MetricView) -> str:
    """The statement that makes a view. It names the schema of our tables: a view looks in its own one first, where all metrics are."""
    shown = [f"labels->>{_literal(_pointer(label))} AS {_quoted(column)}" for label, column in zip(view.labels, view.columns, strict=True)]
    return (
        f"CREATE OR REPLACE VIEW metric.{_quoted(view.name)} AS"
        f" SELECT {', '.join([*COLUMNS, *shown])} FROM main.sample_value"
        f" JOIN (SELECT id AS series_id, labels FROM main.series WHERE metric = {_literal(view.metric)}) USING (series_id)"
    )


def _existing(connection: duckdb.DuckDBPyConnection, metrics: list[str]) -> tuple[dict[str, MetricView], list[str]]:
    """The views of these metrics, and the names that other metrics' views have of those these might get."""
    names = [NAMING.key(name) for metric in metrics for name in islice(candidates(metric, NAMING), 3)]
    rows = connection.execute(
        "SELECT metric, view_name, labels, columns FROM metric_view WHERE list_contains($1, metric) OR list_contains($2, lower(view_name))",
        [metrics, names],
    ).fetchall()
    views = [MetricView(metric=metric, name=name, labels=tuple(labels), columns=tuple(columns)) for metric, name, labels, columns in rows]
    asked = set(metrics)
    return {view.metric: view for view in views if view.metric in asked}, [view.name for view in views if view.metric not in asked]


def _without_series(connection: duckdb.DuckDBPyConnection, metrics: list[str]) -> list[str]:
    found = connection.execute("SELECT DISTINCT metric FROM series WHERE list_contains($1, metric)", [metrics]).fetchall()
    return sorted(set(metrics) - {metric for (metric,) in found})


def _room(connection: duckdb.DuckDBPyConnection) -> int:
    """How many more views there may be."""
    return max(MAX_VIEWS - int(connection.execute("SELECT count(*) FROM metric_view").fetchall()[0][0]), 0)


def _pointer(label: str) -> str:
    """A label name as a JSON pointer, which can say any: https://www.rfc-editor.org/rfc/rfc6901."""
    return "/" + label.replace("~", "~0").replace("/", "~1")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
