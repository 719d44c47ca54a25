"""Exemplars in the database: few beside samples, so they stand in a plain table, with rows sent as arrays of values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from promlike.model.blocks import Int32
from promlike.model.exemplars import Exemplars
from promlike.storage.timescale.ids import SeriesIds
from promlike.storage.timescale.text import original, storable
from promlike.storage.timescale.times import to_ms, to_time
from promlike.storage.timescale.write import known_ids

INSERT = """
INSERT INTO exemplars (ts, series_id, value, labels)
SELECT DISTINCT ts, series_id, value, labels
FROM unnest($1::timestamptz[], $2::int[], $3::float8[], $4::text[]::jsonb[]) AS given (ts, series_id, value, labels)
WHERE NOT EXISTS (
    SELECT FROM exemplars AS stored
    WHERE stored.series_id = given.series_id AND stored.ts = given.ts AND stored.value = given.value AND stored.labels = given.labels
)
"""
READ = """
SELECT ts, series_id, value, labels::text AS labels FROM exemplars
WHERE series_id = ANY($1::int[]) AND ts > $2 AND ts <= $3 ORDER BY ts DESC LIMIT $4
"""


def exemplar_tables(_timescale: bool) -> Sequence[str]:
    """A version of the schema: the table, and a view for people."""
    return (
        "CREATE TABLE exemplars (ts timestamptz NOT NULL, series_id int NOT NULL, value float8 NOT NULL, labels jsonb NOT NULL)",
        "CREATE INDEX exemplars_series_ts ON exemplars (series_id, ts)",
        "CREATE INDEX exemplars_ts ON exemplars (ts)",
        """
        CREATE VIEW labelled_exemplars AS
        SELECT exemplars.ts AS time, series.metric, series.labels, exemplars.value, exemplars.labels AS exemplar_labels
        FROM exemplars JOIN series ON series.id = exemplars.series_id
        """,
    )


async def write_exemplars(connection: Any, ids: SeriesIds, exemplars: Exemplars) -> None:
    """Insert those that are not there yet, inside the transaction of a flush. PostgreSQL takes NaN for equal to itself."""
    if len(exemplars):
        times = [to_time(ms) for ms in exemplars.ts_ms.tolist()]
        labels = [_stored(text) for text in exemplars.labels]
        await connection.execute(INSERT, times, known_ids(ids, exemplars.refs).tolist(), exemplars.values.tolist(), labels)


async def read_exemplars(connection: Any, refs: Int32, ids: Int32, start_ms: int, end_ms: int, limit: int) -> Exemplars:
    """Those of `refs int32[S]`, whose ids are `ids int32[S]`, some of them perhaps NO_ID; see `Store.read_exemplars`."""
    ref_of = dict(zip(ids.tolist(), refs.tolist(), strict=True))
    rows = await connection.fetch(READ, ids[ids >= 0].tolist(), to_time(start_ms), to_time(end_ms), limit)
    return Exemplars(
        refs=np.array([ref_of[row["series_id"]] for row in rows], np.int32),
        ts_ms=np.array([to_ms(row["ts"]) for row in rows], np.int64),
        values=np.array([row["value"] for row in rows], np.float64),
        labels=[_given(row["labels"]) for row in rows],
    )


async def delete_exemplars_before(connection: Any, cutoff_ms: int) -> None:
    """Retention."""
    await connection.execute("DELETE FROM exemplars WHERE ts < $1", to_time(cutoff_ms))


def _stored(text: str) -> str:
    return orjson.dumps({storable(name): storable(value) for name, value in orjson.loads(text).items()}).decode()


def _given(text: str) -> str:
    """Labels as `label_text` wrote them: PostgreSQL has its own order and blanks."""
    pairs = {original(name): original(value) for name, value in orjson.loads(text).items()}
    return orjson.dumps(dict(sorted(pairs.items()))).decode()
