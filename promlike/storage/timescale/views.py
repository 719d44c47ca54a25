"""Views of PostgreSQL's store for people who write SQL. Every function runs on a connection whose `search_path` begins with the schema."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker

from promlike.errors import StorageUnavailable
from promlike.storage.metric_views import COLUMNS, LabelNames, MetricView, Naming, candidates, plan_views
from promlike.storage.timescale.connection import kind_of, quote_name
from promlike.storage.timescale.text import original, storable

log = logging.getLogger(__name__)

NAMING = Naming(max_bytes=63, key=str)
AT_ONCE = 100
"""Metrics whose views are made in one transaction."""

CHANGES_BY_ID = ("ALTER TABLE metric_view_change ADD PRIMARY KEY (id)",)
"""Version 8 of the schema: the oldest changes are found by index, however many wait."""

LOCK_TIMEOUT = "500ms"
"""How long replacing a view may wait for those who read it, and so keep others from it; then it is put off."""


def view_schema(schema: str) -> str:
    """The schema of the views that belong to a store's schema."""
    return "metric" if schema == "promlike" else f"{schema.encode()[:56].decode('utf-8', 'ignore')}_metric"


async def load_books(connection: Any) -> dict[str, LabelNames]:
    """Each metric that has a view, with the labels it shows."""
    rows = await connection.fetch("SELECT metric, labels FROM metric_view")
    return {original(row["metric"]): _originals(row["labels"]) for row in rows}


async def note_growth(connection: Any, growth: Mapping[str, LabelNames]) -> None:
    """Remember which views are to show more, in the transaction that brings the series. Inserts alone, so it waits for nobody."""
    if growth:
        rows = [(storable(metric), sorted(map(storable, labels))) for metric, labels in sorted(growth.items())]
        await connection.copy_records_to_table("metric_view_change", columns=("metric", "labels"), records=rows)


async def note_loss(connection: Any, metrics: Iterable[str]) -> list[str]:
    """Remember which of these metrics have no series any more, and return them; in the transaction that removed the series."""
    rows = await connection.fetch(
        "INSERT INTO metric_view_change (metric) SELECT DISTINCT asked.metric FROM unnest($1::text[]) AS asked (metric)"
        " WHERE metric <> '' AND NOT EXISTS (SELECT FROM series WHERE series.metric = asked.metric) RETURNING metric",
        list(map(storable, metrics)),
    )
    return [original(row["metric"]) for row in rows]


async def note_unshown(connection: Any, recent: Mapping[str, LabelNames]) -> None:
    """Remember the metrics of new series whose views neither show all labels nor are about to, although this process believed so."""
    if not recent:
        return
    rows = await connection.fetch(
        "SELECT metric, labels FROM metric_view WHERE metric = ANY($1) UNION ALL"
        " SELECT metric, labels FROM metric_view_change WHERE metric = ANY($1) AND labels IS NOT NULL",
        list(map(storable, recent)),
    )
    shown: dict[str, LabelNames] = {}
    for row in rows:
        metric = original(row["metric"])
        shown[metric] = shown.get(metric, frozenset()) | _originals(row["labels"])
    missing = {metric: labels for metric, labels in recent.items() if metric and not (metric in shown and labels <= shown[metric])}
    await note_growth(connection, missing)


async def note_differences(connection: Any, schema: str) -> None:
    """Remember metrics without a view, views that somebody dropped, and views without series; for the first time after a start."""
    await connection.execute(
        "INSERT INTO metric_view_change (metric, labels)"
        " SELECT metric, coalesce(array_agg(DISTINCT label) FILTER (WHERE label IS NOT NULL), '{}')"
        " FROM series LEFT JOIN LATERAL jsonb_object_keys(labels) AS label ON true"
        " WHERE metric <> '' AND metric NOT IN (SELECT metric FROM metric_view UNION ALL SELECT metric FROM metric_view_change)"
        " GROUP BY metric ORDER BY metric"
    )
    await connection.execute(
        "INSERT INTO metric_view_change (metric, labels) SELECT metric, labels FROM metric_view"
        " WHERE view_name NOT IN (SELECT viewname FROM pg_views WHERE schemaname = $1)",
        view_schema(schema),
    )
    await connection.execute(
        "INSERT INTO metric_view_change (metric) SELECT metric FROM metric_view"
        " WHERE NOT EXISTS (SELECT FROM series WHERE series.metric = metric_view.metric)"
    )


async def refresh_views(connection: Any, schema: str) -> int:
    """Bring the views of the next metrics up to date, inside the caller's transaction; how many metrics those were.

    What is noted of a metric says what to look at, not what to do: doing it twice, or in another order, comes to the same.

    A view that somebody reads or that the database refuses to change keeps what the books say of it. The first is tried again later.
    """
    await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"promlike views {schema}")
    noted = await connection.fetch("SELECT id, metric, labels FROM metric_view_change ORDER BY id LIMIT $1", AT_ONCE)
    wanted: dict[str, LabelNames] = {original(row["metric"]): frozenset() for row in noted}
    if not wanted:
        return 0
    for row in noted:
        wanted[original(row["metric"])] |= _originals(row["labels"] or ())
    existing, taken = await _existing(connection, list(wanted))
    statements: dict[str, str] = {}
    for metric in await _without_series(connection, [row["metric"] for row in noted if row["labels"] is None]):
        del wanted[metric]
        if view := existing.pop(metric, None):
            statements[metric] = f"DROP VIEW IF EXISTS {quote_name(view_schema(schema))}.{quote_name(view.name)}"
    planned = plan_views(wanted, existing, taken, NAMING)
    statements |= {view.metric: view_text(view, schema) for view in planned}
    outcome = await _run(connection, statements)
    await _keep_books(connection, outcome.done, [view for view in planned if view.metric in outcome.done])
    settled = [row["id"] for row in noted if original(row["metric"]) not in outcome.put_off]
    await connection.execute("DELETE FROM metric_view_change WHERE id = ANY($1)", settled)
    return len(statements) - len(outcome.put_off) or len(settled)


def view_text(view: MetricView, schema: str) -> str:
    """The statement that makes a view. PostgreSQL replaces one in place as long as new columns stand at its end."""
    shown = [f"labels->>{_literal(label)} AS {quote_name(column)}" for label, column in zip(view.labels, view.columns, strict=True)]
    return (
        f"CREATE OR REPLACE VIEW {quote_name(view_schema(schema))}.{quote_name(view.name)} AS"
        f" SELECT {', '.join([*COLUMNS, *shown])} FROM {quote_name(schema)}.labelled_samples WHERE metric = {_literal(view.metric)}"
    )


@dataclass(slots=True, kw_only=True)
class _Outcome:
    """Metrics whose statement was run, and those whose view somebody uses. The others were refused for good."""

    done: set[str]
    put_off: set[str]


async def _run(connection: Any, statements: Mapping[str, str]) -> _Outcome:
    """Run the statements of all metrics: together if that works, which is twice as fast, else one by one."""
    if not statements:  # the driver stumbles over an empty text
        return _Outcome(done=set(), put_off=set())
    try:
        async with connection.transaction():
            await connection.execute("; ".join(statements.values()))
        return _Outcome(done=set(statements), put_off=set())
    except asyncpg.PostgresError as error:
        if not _concerns_one_view(error):
            raise
    outcome = _Outcome(done=set(), put_off=set())
    for metric, statement in statements.items():
        try:
            async with connection.transaction():
                await connection.execute(statement)
            outcome.done.add(metric)
        except asyncpg.LockNotAvailableError:
            outcome.put_off.add(metric)
        except asyncpg.PostgresError as error:
            if not _concerns_one_view(error):
                raise
            log.warning("the view of metric %r stays as it is: %s", metric, error)
    return outcome


def _concerns_one_view(error: asyncpg.PostgresError) -> bool:
    return isinstance(error, asyncpg.LockNotAvailableError) or not issubclass(kind_of(error.sqlstate or ""), StorageUnavailable)


async def _keep_books(connection: Any, done: Iterable[str], views: Iterable[MetricView]) -> None:
    """Write down the views of the metrics that are done; the others of these have none any more."""
    await connection.execute("DELETE FROM metric_view WHERE metric = ANY($1)", list(map(storable, done)))
    rows = [(storable(view.metric), view.name, list(map(storable, view.labels)), list(view.columns)) for view in views]
    await connection.copy_records_to_table("metric_view", columns=("metric", "view_name", "labels", "columns"), records=rows)


async def _existing(connection: Any, metrics: list[str]) -> tuple[dict[str, MetricView], list[str]]:
    """The views of these metrics, and the names that other metrics' views have of those these might get."""
    rows = await connection.fetch(
        "SELECT metric, view_name, labels, columns FROM metric_view WHERE metric = ANY($1) OR view_name = ANY($2)",
        list(map(storable, metrics)),
        [name for metric in metrics for name in islice(candidates(metric, NAMING), 3)],
    )
    views = [
        MetricView(
            metric=original(row["metric"]),
            name=row["view_name"],
            labels=tuple(map(original, row["labels"])),
            columns=tuple(row["columns"]),
        )
        for row in rows
    ]
    asked = set(metrics)
    return {view.metric: view for view in views if view.metric in asked}, [view.name for view in views if view.metric not in asked]


async def _without_series(connection: Any, metrics: list[str]) -> list[str]:
    """Those of the stored metric names that have no series."""
    rows = await connection.fetch(
        "SELECT DISTINCT metric FROM unnest($1::text[]) AS asked (metric)"
        " WHERE NOT EXISTS (SELECT FROM series WHERE series.metric = asked.metric)",
        metrics,
    )
    return [original(row["metric"]) for row in rows]


def _originals(labels: Iterable[str]) -> LabelNames:
    return frozenset(map(original, labels))


def _literal(text: str) -> str:
    return "'" + storable(text).replace("'", "''") + "'"
