"""Series, their ids and the times of their samples, written into the database."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import orjson

from promlike.model.blocks import Int32, Int64
from promlike.model.labels import METRIC_NAME, Labels
from promlike.storage.store import SeriesRecord
from promlike.storage.timescale.copy import copy_in, copy_out
from promlike.storage.timescale.ids import NO_ID, SeriesIds
from promlike.storage.timescale.shared_ids import SharedIds
from promlike.storage.timescale.text import original, storable
from promlike.storage.timescale.version2 import KEY

SERIES_AT_ONCE = 10_000
"""Series whose labels stand in memory together while they are written."""

TIMES_AT_ONCE = 100_000
"""Series whose times one statement widens: about a second of work, far from the timeout of a statement."""

INSERT_SERIES = f"""
INSERT INTO series (metric, labels)
SELECT coalesce(labels->>'{METRIC_NAME}', ''), labels FROM (
    SELECT DISTINCT ON (key) key, labels FROM (SELECT {KEY.format(labels="labels")} AS key, labels FROM incoming_series) AS keyed
    WHERE NOT EXISTS (SELECT FROM series WHERE series.key = keyed.key)
) AS missing
ON CONFLICT (key) DO NOTHING
"""
MAP_SERIES = f"""
INSERT INTO writer_series (writer, ref, series_id)
SELECT $1, ref, series.id FROM incoming_series JOIN series ON series.key = {KEY.format(labels="incoming_series.labels")}
ON CONFLICT (writer, ref) DO UPDATE SET series_id = excluded.series_id
"""
MAP_GUESSED = """
WITH right_ones AS (
    DELETE FROM incoming_series USING series WHERE series.id = guess AND series.labels = incoming_series.labels RETURNING ref, guess
)
INSERT INTO writer_series (writer, ref, series_id) SELECT $1, ref, guess FROM right_ones
ON CONFLICT (writer, ref) DO UPDATE SET series_id = excluded.series_id
"""
"""Before the other two: what is found by its guess leaves `incoming_series`."""
DROP_UNUSED = "DELETE FROM series WHERE id = ANY($1::int[]) AND NOT EXISTS (SELECT FROM writer_series WHERE series_id = id)"
WIDEN_TIMES = """
UPDATE writer_series SET min_time = least(min_time, given.first), max_time = greatest(max_time, given.last), flush = $2
FROM (SELECT ref, min(first) AS first, max(last) AS last FROM incoming_times GROUP BY ref) AS given
WHERE writer = $1 AND writer_series.ref = given.ref
"""


async def load_ids(connection: Any, writer: int, ids: SeriesIds) -> None:
    """Learn which id each ref of a writer has."""
    ids.set(*await copy_out(connection, ("int4", "int4"), "SELECT ref, series_id FROM writer_series WHERE writer = $1", writer))


async def write_series(connection: Any, writer: int, ids: SeriesIds, shared: SharedIds, series: Iterable[SeriesRecord]) -> Int32:
    """Give series the ids that they have, or get now, in the database, and note which refs this writer has for them; their refs, int32[S].

    Inside the transaction of a flush: when that is rolled back, what was added to `ids` means nothing.
    """
    rest, announced = iter(series), [np.empty(0, np.int32)]
    while part := list(islice(rest, SERIES_AT_ONCE)):
        await connection.execute("CREATE TEMP TABLE incoming_series (ref int, labels jsonb, guess int) ON COMMIT DROP")
        refs, labels = [record.ref for record in part], [_json(record.labels) for record in part]
        announced.append(np.array(refs, np.int32))
        guesses = await shared.find(refs, labels)
        insert = "INSERT INTO incoming_series SELECT * FROM unnest($1::int[], $2::text[]::jsonb[], $3::int[])"
        await connection.execute(insert, refs, labels, guesses)
        await connection.execute("ANALYZE incoming_series")
        if max(guesses) != NO_ID:
            await connection.execute(MAP_GUESSED, writer)
        await connection.execute(INSERT_SERIES)
        await connection.execute(MAP_SERIES, writer)
        query = "SELECT ref, series_id FROM writer_series WHERE writer = $1 AND ref = ANY($2::int[])"
        ids.set(*await copy_out(connection, ("int4", "int4"), query, writer, refs))
        await connection.execute("DROP TABLE incoming_series")
    return np.concatenate(announced)


async def write_times(connection: Any, writer: int, flush: int, times: Sequence[tuple[Int32, Int64, Int64]]) -> None:
    """Widen the times of the series that got samples: refs int32[S], first and last times int64[S], of every portion that was written."""
    if not times:
        return
    columns = [np.concatenate(column) for column in zip(*times, strict=True)]
    for low in range(0, len(columns[0]), TIMES_AT_ONCE):
        part = [column[low : low + TIMES_AT_ONCE] for column in columns]
        await connection.execute("CREATE TEMP TABLE incoming_times (ref int, first timestamptz, last timestamptz) ON COMMIT DROP")
        await copy_in(connection, "incoming_times", {"ref": "int4", "first": "timestamptz", "last": "timestamptz"}, *part)
        await connection.execute("ANALYZE incoming_times")
        await connection.execute(WIDEN_TIMES, writer, flush)
        await connection.execute("DROP TABLE incoming_times")


async def delete_series(connection: Any, writer: int, refs: Int32) -> list[str]:
    """See `Store.delete_series`: this writer has these series no more, and what no writer has is dropped; the metrics of what was.

    Their ids are to be forgotten once this is committed: who tries it again may have samples of theirs to delete first.
    """
    await connection.execute(
        "DELETE FROM rollup_marks USING writer_series AS gone WHERE gone.writer = $1 AND ref = ANY($2::int[])"
        " AND rollup_marks.writer = gone.writer AND rollup_marks.series_id = gone.series_id",
        writer,
        refs.tolist(),
    )
    query = "DELETE FROM writer_series WHERE writer = $1 AND ref = ANY($2::int[]) RETURNING series_id"
    found = [row["series_id"] for row in await connection.fetch(query, writer, refs.tolist())]
    rows = await connection.fetch(f"WITH gone AS ({DROP_UNUSED} RETURNING metric) SELECT DISTINCT metric FROM gone", found)
    left = "DELETE FROM exemplars WHERE series_id = ANY($1::int[]) AND NOT EXISTS (SELECT FROM series WHERE id = series_id)"
    await connection.execute(left, found)
    return [original(row["metric"]) for row in rows]


def _json(series: Labels) -> str:
    return orjson.dumps({storable(name): storable(value) for name, value in series}).decode()
