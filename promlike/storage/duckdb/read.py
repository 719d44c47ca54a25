"""Reading from DuckDB: rows as Arrow columns, arranged by a kernel."""

from collections.abc import Iterator
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no type information
from numpy.typing import NDArray

from promlike.model.blocks import Int32, SampleBlock
from promlike.storage.access import Metadata
from promlike.storage.arrange import arrange
from promlike.storage.duckdb.rows import wanted
from promlike.storage.label_columns import LabelColumns, read_labels
from promlike.storage.store import DAY_MS, NEVER_FIRST_MS, NEVER_LAST_MS, StoredDay, StoredSeries, StoreStats, WalPosition

SERIES_AT_ONCE = 50_000
"""Series whose labels stand in memory together while they are loaded."""


def read_samples(cursor: duckdb.DuckDBPyConnection, refs: Int32, start_ms: int, end_ms: int) -> SampleBlock:
    """See `Store.read`."""
    if not len(refs) or start_ms >= end_ms:
        return SampleBlock.empty(len(refs))
    with wanted(cursor, refs) as chosen:
        query = f"SELECT series_id, ts, value FROM samples {chosen} AND ts > $start AND ts <= $end"
        columns = cursor.sql(query, params={"start": start_ms, "end": end_ms}).to_arrow_table().columns
    # Popped, so that none is in memory twice for longer than it takes to copy it.
    ids, ts_ms, values = (column_array(columns.pop(0)) for _ in range(3))
    return arrange(refs, ids, ts_ms, values)


def count_samples(cursor: duckdb.DuckDBPyConnection, refs: Int32, start_ms: int, end_ms: int) -> int:
    """See `Store.count`."""
    if not len(refs):
        return 0
    with wanted(cursor, refs) as chosen:
        return _integer(cursor.execute(f"SELECT count(*) FROM samples {chosen} AND ts > $1 AND ts <= $2", [start_ms, end_ms]))


def load_series(cursor: duckdb.DuckDBPyConnection) -> Iterator[StoredSeries]:
    """See `Store.load_series`."""
    query = (
        "SELECT id, CAST(labels AS VARCHAR), coalesce(min_ts, $first), coalesce(max_ts, $last)"
        " FROM series LEFT JOIN series_times ON series_id = id ORDER BY id"
    )
    for batch in cursor.sql(query, params={"first": NEVER_FIRST_MS, "last": NEVER_LAST_MS}).to_arrow_reader(SERIES_AT_ONCE):
        refs, first, last = (batch.column(at).to_numpy() for at in (0, 2, 3))
        yield StoredSeries(refs=refs, ids=refs.astype(np.int64), labels=_labels(batch.column(1)), min_time_ms=first, max_time_ms=last)


def _labels(column: pa.Array) -> LabelColumns:
    """The labels of a column of JSON texts, in place."""
    column = column.cast(pa.large_string())
    _, offsets, text = column.buffers()
    bounds = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1].copy()
    # Numba compiles for arrays that can be written to; nothing writes into this one.
    data = np.frombuffer(text, np.uint8)[bounds[0] : bounds[-1]].copy() if text is not None else np.empty(0, np.uint8)
    return read_labels(data, bounds[:-1] - bounds[0], bounds[1:] - bounds[0])


def load_metadata(cursor: duckdb.DuckDBPyConnection) -> list[Metadata]:
    """See `Store.load_metadata`."""
    rows = cursor.execute("SELECT metric, type, help, unit FROM metadata ORDER BY metric").fetchall()
    return [Metadata(metric=metric, type=kind, help=help_, unit=unit) for metric, kind, help_, unit in rows]


def load_position(cursor: duckdb.DuckDBPyConnection) -> WalPosition | None:
    """See `Store.load_position`."""
    state = dict(cursor.execute("SELECT key, value FROM state").fetchall())
    return WalPosition(segment=state["wal_segment"], offset=state["wal_offset"]) if "wal_segment" in state else None


def load_stats(cursor: duckdb.DuckDBPyConnection) -> StoreStats:
    """Everything but the size in bytes. The times come from `series_times`, so no sample is looked at."""
    block, free = cursor.execute("SELECT block_size, free_blocks FROM pragma_database_size()").fetchall()[0]
    series = _integer(cursor.execute("SELECT count(*) FROM series"))
    samples = _integer(cursor.execute("SELECT count(*) FROM samples"))
    first, last = cursor.execute("SELECT min(min_ts), max(max_ts) FROM series_times").fetchall()[0]
    return StoreStats(series=series, samples=samples, bytes=0, min_time_ms=first, max_time_ms=last, free_bytes=block * free)


def load_days(cursor: duckdb.DuckDBPyConnection) -> list[StoredDay]:
    """See `Store.days`. Reads the times of all samples: half a second for 50 million."""
    days = f"(CASE WHEN ts < 0 THEN ts - {DAY_MS - 1} ELSE ts END) // {DAY_MS}"  # integer division goes towards zero
    rows = cursor.execute(f"SELECT {days} AS day, count(*) FROM samples GROUP BY day ORDER BY day").fetchall()
    return [StoredDay(start_ms=day * DAY_MS, samples=samples) for day, samples in rows]


def column_array(column: pa.ChunkedArray) -> NDArray[Any]:
    """A column as one writable array; what type, the query says."""
    return (
        np.concatenate([chunk.to_numpy() for chunk in column.chunks]) if column.num_chunks else np.empty(0, column.type.to_pandas_dtype())
    )


def _integer(result: duckdb.DuckDBPyConnection) -> int:
    return int(result.fetchall()[0][0])
