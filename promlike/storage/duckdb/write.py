"""Writing into DuckDB. Every function runs inside the caller's transaction."""

from collections.abc import Sequence
from itertools import islice

import duckdb
import numpy as np
import orjson
import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no type information

from promlike.model.blocks import Int32, Int64
from promlike.model.labels import METRIC_NAME
from promlike.storage.duckdb.rows import insert, put_state, registered
from promlike.storage.duckdb.tiers import forget_deleted, load_tier_state, table_of, write_marks
from promlike.storage.store import NEVER_LAST_MS, Deletion, FlushBatch, SampleChunk, SeriesRecord
from promlike.storage.tiers import SPANS_MS

SERIES_AT_ONCE = 10_000
"""Series whose labels stand in memory together while they are written."""


def write_batch(connection: duckdb.DuckDBPyConnection, batch: FlushBatch) -> None:
    """What is new of a batch, see `Store.write`."""
    new_series = iter(batch.new_series)
    while part := list(islice(new_series, SERIES_AT_ONCE)):
        _write_series(connection, part)
    times = [_write_chunk(connection, chunk) for chunk in batch.chunks if len(chunk.samples.ts_ms)]
    if len(batch.late_refs):
        times.append(_write_late(connection, batch))
    if times:
        _write_times(connection, pa.concat_tables(times))
    if batch.metadata:
        _write_metadata(connection, batch)
    write_marks(connection, batch.marks(load_tier_state(connection).watermark))
    put_state(connection, "wal_segment", batch.position.segment)
    put_state(connection, "wal_offset", batch.position.offset)


def delete_before(connection: duckdb.DuckDBPyConnection, cutoff_ms: int) -> int:
    """See `Store.delete_before`."""
    deleted = connection.execute("DELETE FROM samples WHERE ts < $1", [cutoff_ms]).fetchall()[0][0]
    connection.execute("DELETE FROM exemplars WHERE ts < $1", [cutoff_ms])
    return int(deleted)


def delete_samples(connection: duckdb.DuckDBPyConnection, deletions: Sequence[Deletion], *, expired: bool = False) -> None:
    """See `Store.delete_samples`. Bounds on both columns let DuckDB skip most row groups."""
    for deletion in deletions:
        refs, start, end = deletion.refs, deletion.start_ms, deletion.end_ms
        if not len(refs):
            continue
        if not expired:
            forget_deleted(connection, deletion)
        inside = f"ts > {start} AND ts <= {end} AND series_id BETWEEN {refs.min()} AND {refs.max()}"
        ended = f"series_id IN (SELECT id FROM incoming) AND max_ts > {start} AND max_ts <= {end}"
        insert(
            connection,
            pa.table({"id": pa.array(refs)}),
            f"DELETE FROM samples USING incoming WHERE series_id = id AND {inside}",
            f"DELETE FROM exemplars USING incoming WHERE series_id = id AND {inside}",
            "CREATE OR REPLACE TEMP TABLE ended AS SELECT series_id, min(first_ts) AS min_ts, max(last_ts) AS max_ts FROM ("
            "  SELECT series_id, ts AS first_ts, ts AS last_ts FROM samples UNION ALL"
            "  SELECT series_id, first_ts, last_ts FROM rollup_1h WHERE first_ts <= last_ts"
            f") WHERE series_id IN (SELECT series_id FROM series_times WHERE {ended}) GROUP BY series_id",
            f"DELETE FROM series_times WHERE {ended}",
            "INSERT INTO series_times SELECT series_id, min_ts, max_ts FROM ended ORDER BY series_id",
            "DROP TABLE ended",
        )


def delete_series(connection: duckdb.DuckDBPyConnection, refs: Int32) -> None:
    """See `Store.delete_series`. Samples that retention hides may be there still; bounds let DuckDB skip most row groups."""
    given = pa.table({"id": pa.array(refs)})
    with registered(connection, "leaving", given):
        query = "SELECT coalesce(max(max_ts), $1) FROM series_times WHERE series_id IN (SELECT id FROM leaving)"
        last_ms = connection.execute(query, [NEVER_LAST_MS]).fetchall()[0][0]
    within = f"series_id IN (SELECT id FROM incoming) AND series_id BETWEEN {refs.min()} AND {refs.max()}"
    insert(
        connection,
        given,
        f"DELETE FROM samples WHERE ts <= {last_ms} AND {within}",
        *(f"DELETE FROM {table} WHERE {within}" for table in (*map(table_of, SPANS_MS), "rollup_marks")),
        "DELETE FROM series WHERE id IN (SELECT id FROM incoming)",
        "DELETE FROM series_times WHERE series_id IN (SELECT id FROM incoming)",
        "DELETE FROM exemplars WHERE series_id IN (SELECT id FROM incoming)",
    )


def _write_series(connection: duckdb.DuckDBPyConnection, series: Sequence[SeriesRecord]) -> None:
    """Insert series; one that is there already, because retention removed and samples revived it, is replaced."""
    insert(
        connection,
        pa.table(
            {
                "id": pa.array([record.ref for record in series], pa.int32()),
                "metric": pa.array([_metric(record) for record in series], pa.string()),
                "labels": pa.array([orjson.dumps(dict(record.labels)).decode() for record in series], pa.string()),
            }
        ),
        "DELETE FROM series WHERE id IN (SELECT id FROM incoming)",
        "INSERT INTO series SELECT id, metric, labels FROM incoming",
    )


def _metric(record: SeriesRecord) -> str:
    return next((value for name, value in record.labels if name == METRIC_NAME), "")


def _write_chunk(connection: duckdb.DuckDBPyConnection, chunk: SampleChunk) -> pa.Table:
    """Insert samples; return the first and last time of each series."""
    samples = chunk.samples
    counts = np.diff(samples.offsets)
    table = pa.table(
        {
            "series_id": pa.array(np.repeat(chunk.refs, counts)),
            "ts": pa.array(samples.ts_ms),
            "value": pa.array(samples.values, from_pandas=False),
        }
    )
    insert(connection, table, "INSERT INTO samples SELECT series_id, ts, value FROM incoming")
    rows = np.flatnonzero(counts)
    return _times(chunk.refs[rows], samples.ts_ms[samples.offsets[rows]], samples.ts_ms[samples.offsets[rows + 1] - 1])


def _write_late(connection: duckdb.DuckDBPyConnection, batch: FlushBatch) -> pa.Table:
    """Replace or insert late samples; return their first and last times. Bounds on both columns let DuckDB skip most row groups."""
    refs, ts = batch.late_refs, batch.late_ts_ms
    bounds = f"s.ts BETWEEN {ts.min()} AND {ts.max()} AND s.series_id BETWEEN {refs.min()} AND {refs.max()}"
    table = pa.table({"series_id": pa.array(refs), "ts": pa.array(ts), "value": pa.array(batch.late_values, from_pandas=False)})
    insert(
        connection,
        table,
        f"DELETE FROM samples s USING incoming i WHERE s.series_id = i.series_id AND s.ts = i.ts AND {bounds}",
        "INSERT INTO samples SELECT series_id, ts, value FROM incoming",
    )
    first = np.flatnonzero(np.diff(refs, prepend=-1))
    last = np.append(first[1:], len(refs)) - 1
    return _times(refs[first], ts[first], ts[last])


def _times(refs: Int32, first: Int64, last: Int64) -> pa.Table:
    return pa.table({"series_id": pa.array(refs), "min_ts": pa.array(first), "max_ts": pa.array(last)})


def _write_times(connection: duckdb.DuckDBPyConnection, times: pa.Table) -> None:
    """Widen the times of the series that got samples; a restart knows from them what is stored."""
    insert(
        connection,
        times,
        "CREATE OR REPLACE TEMP TABLE widened AS SELECT series_id, min(min_ts) AS min_ts, max(max_ts) AS max_ts FROM ("
        "  SELECT series_id, min_ts, max_ts FROM incoming UNION ALL"
        "  SELECT series_id, min_ts, max_ts FROM series_times WHERE series_id IN (SELECT series_id FROM incoming)"
        ") GROUP BY series_id",
        "DELETE FROM series_times WHERE series_id IN (SELECT series_id FROM incoming)",
        "INSERT INTO series_times SELECT series_id, min_ts, max_ts FROM widened ORDER BY series_id",
        "DROP TABLE widened",
    )


def _write_metadata(connection: duckdb.DuckDBPyConnection, batch: FlushBatch) -> None:
    entries = {entry.metric: entry for entry in batch.metadata}.values()
    table = pa.table(
        {
            "metric": [entry.metric for entry in entries],
            "type": [entry.type for entry in entries],
            "help": [entry.help for entry in entries],
            "unit": [entry.unit for entry in entries],
        }
    )
    insert(
        connection,
        table,
        "DELETE FROM metadata WHERE metric IN (SELECT metric FROM incoming)",
        "INSERT INTO metadata SELECT metric, type, help, unit FROM incoming",
    )
