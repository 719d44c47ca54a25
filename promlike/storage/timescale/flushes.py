"""The book of flushes: what each changed, so that daemons know which of the answers that they keep still hold."""

import secrets
from collections.abc import Sequence
from typing import Any

from promlike.model.blocks import Int32
from promlike.model.flushes import FlushNews, FlushRecord, StoredChange, decode_changes, encode_changes
from promlike.storage.timescale.text import original, storable
from promlike.storage.timescale.writers import last_flush

TABLES = (
    """
    CREATE TABLE flushes (
        number bigint PRIMARY KEY, writer int NOT NULL, token bigint NOT NULL, changes text NOT NULL,
        noted_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE TABLE disputes (flush bigint NOT NULL, metric text, start_ms bigint NOT NULL, end_ms bigint NOT NULL)",
)
"""What version 10 of the schema adds. Times are Unix milliseconds; a metric that is NULL stands for all."""

KEPT = "2 days"
"""How long is known what a flush changed: longer than answers are kept in Redis."""
MOST_DISPUTES = 500
"""More become one that covers them all."""

COVERED = "DELETE FROM disputes WHERE (metric = $1 OR $1::text IS NULL) AND start_ms >= $2 AND end_ms <= $3"
MERGE = """
WITH gone AS (DELETE FROM disputes RETURNING start_ms, end_ms)
INSERT INTO disputes SELECT $1, NULL, min(start_ms), max(end_ms) FROM gone
"""


async def note_flush(
    connection: Any, writer: int, flush: int, changes: Sequence[StoredChange] = (), *, disputed: Sequence[StoredChange] = ()
) -> None:
    """Tell what a flush changed, inside its transaction, once for every flush."""
    await connection.execute(
        "INSERT INTO flushes (number, writer, token, changes) VALUES ($1, $2, $3, $4)",
        flush,
        writer,
        secrets.randbits(63),
        encode_changes(changes),
    )
    await connection.execute(f"DELETE FROM flushes WHERE noted_at < now() - INTERVAL '{KEPT}'")
    for each in disputed:
        metric = None if each.metric is None else storable(each.metric)
        await connection.execute(COVERED, metric, each.start_ms, each.end_ms)
        await connection.execute("INSERT INTO disputes VALUES ($1, $2, $3, $4)", flush, metric, each.start_ms, each.end_ms)
    if disputed and await connection.fetchval("SELECT count(*) FROM disputes") > MOST_DISPUTES:
        await connection.execute(MERGE, flush)


async def load_flushes(connection: Any, writer: int, after: int) -> FlushNews:
    """See `Store.load_flushes`."""
    last = await last_flush(connection)
    if last == after:
        return FlushNews(last=last)
    query = "SELECT number, writer, token, changes FROM flushes WHERE number > $1 AND number <= $2 ORDER BY number"
    rows = await connection.fetch(query, after if after <= last else 0, last)
    # Those of later flushes, too: one of them may have put the others together.
    disputes = await connection.fetch("SELECT metric, start_ms, end_ms FROM disputes WHERE flush > $1", after if after <= last else 0)
    return FlushNews(
        last=last,
        records=tuple(
            FlushRecord(number=row["number"], token=row["token"], own=row["writer"] == writer, changes=decode_changes(row["changes"]))
            for row in rows
        ),
        disputes=tuple(_dispute(row["metric"], row["start_ms"], row["end_ms"]) for row in disputes),
    )


async def changed_by_others(connection: Any, writer: int, after: int, upto: int) -> tuple[int, int] | None:
    """The range of time (start_ms, end_ms] in which flushes of others with numbers in (after, upto] changed anything; None: not known."""
    query = "SELECT number, writer, changes FROM flushes WHERE number > $1 AND number <= $2"
    rows = await connection.fetch(query, after, upto)
    if len(rows) < upto - after:
        return None
    changes = [change for row in rows if row["writer"] != writer for change in decode_changes(row["changes"])]
    if not changes:
        return 0, 0
    return min(change.start_ms for change in changes), max(change.end_ms for change in changes)


async def deletion_of(connection: Any, ids: Int32, start_ms: int, end_ms: int) -> list[StoredChange]:
    """The deletion of samples of some series (int32[S]) as changes of their metrics."""
    rows = await connection.fetch("SELECT DISTINCT metric FROM series WHERE id = ANY($1::int[]) LIMIT $2", ids.tolist(), MOST_DISPUTES + 1)
    metrics = [original(row["metric"]) for row in rows] if len(rows) <= MOST_DISPUTES else [None]
    return [StoredChange(metric=metric, start_ms=start_ms, end_ms=end_ms) for metric in metrics]


def _dispute(metric: str | None, start_ms: int, end_ms: int) -> StoredChange:
    return StoredChange(metric=None if metric is None else original(metric), start_ms=start_ms, end_ms=end_ms)
