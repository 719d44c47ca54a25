"""Reading from DuckDB: rows as Arrow columns, arranged by a kernel."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import numpy as np
import orjson
import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no type information
from numpy.typing import NDArray

from promlike.model.blocks import Int32, SampleBlock
from promlike.model.labels import labels
from promlike.storage.arrange import arrange
from promlike.storage.store import Metadata, SeriesRecord, StoreStats, WalPosition

DENSE = 4
"""When the asked refs span at most so many times their number, all series of the span are read and the others left out here: comparing with
two bounds is much cheaper than a join."""


def read_samples(cursor: duckdb.DuckDBPyConnection, refs: Int32, start_ms: int, end_ms: int) -> SampleBlock:
    """See `Store.read`."""
    if not len(refs) or start_ms >= end_ms:
        return SampleBlock.empty(len(refs))
    with _wanted(cursor, refs) as wanted:
        query = f"SELECT series_id, ts, value FROM samples {wanted} AND ts > $start AND ts <= $end"
        table = cursor.sql(query, params={"start": start_ms, "end": end_ms}).to_arrow_table()
    ids, ts_ms, values = (_column(column) for column in table.columns)
    return arrange(refs, ids, ts_ms, values)


def count_samples(cursor: duckdb.DuckDBPyConnection, refs: Int32, start_ms: int, end_ms: int) -> int:
    """See `Store.count`."""
    if not len(refs):
        return 0
    with _wanted(cursor, refs) as wanted:
        return _integer(cursor.execute(f"SELECT count(*) FROM samples {wanted} AND ts > $1 AND ts <= $2", [start_ms, end_ms]))


def load_series(cursor: duckdb.DuckDBPyConnection) -> list[SeriesRecord]:
    """See `Store.load_series`."""
    rows = cursor.execute("SELECT id, labels, min_ts, max_ts FROM series LEFT JOIN series_times ON series_id = id ORDER BY id").fetchall()
    return [
        SeriesRecord(ref=ref, labels=labels(orjson.loads(text)), min_time_ms=first, max_time_ms=last) for ref, text, first, last in rows
    ]


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
    series = _integer(cursor.execute("SELECT count(*) FROM series"))
    samples = _integer(cursor.execute("SELECT count(*) FROM samples"))
    first, last = cursor.execute("SELECT min(min_ts), max(max_ts) FROM series_times").fetchall()[0]
    return StoreStats(series=series, samples=samples, bytes=0, min_time_ms=first, max_time_ms=last)


@contextmanager
def _wanted(cursor: duckdb.DuckDBPyConnection, refs: Int32) -> Iterator[str]:
    """What follows `FROM samples` to keep at least these refs: their span when it is dense, else a join with them.

    (A join is twice as fast here as `series_id IN (SELECT …)`.)
    """
    low, high = int(refs.min()), int(refs.max())
    if high - low < DENSE * len(refs):
        yield f"WHERE series_id BETWEEN {low} AND {high}"
        return
    cursor.register("wanted", pa.table({"id": pa.array(refs)}))
    try:
        yield "JOIN wanted ON id = series_id WHERE true"
    finally:
        cursor.unregister("wanted")


def _column(column: pa.ChunkedArray) -> NDArray[Any]:
    """A column as one writable array; what type, the query says."""
    return (
        np.concatenate([chunk.to_numpy() for chunk in column.chunks]) if column.num_chunks else np.empty(0, column.type.to_pandas_dtype())
    )


def _integer(result: duckdb.DuckDBPyConnection) -> int:
    return int(result.fetchall()[0][0])
