"""Reading from DuckDB: rows as Arrow columns, arranged by a kernel."""

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import numpy as np
import orjson
import pyarrow as pa

from promlike.model.blocks import Float64, Int32, Int64, SampleBlock
from promlike.model.labels import labels
from promlike.storage.merge import arrange
from promlike.storage.store import Metadata, SeriesRecord, StoreStats, WalPosition

DENSE = 4
"""When the asked refs span at most so many times their number, all series of the span are read and the others left out here: comparing with
two bounds is much cheaper than a join."""


def read_samples(cursor: duckdb.DuckDBPyConnection, refs: Int32, start_ms: int, end_ms: int) -> SampleBlock:
    """See `Store.read`."""
    if not len(refs) or start_ms >= end_ms:
        return SampleBlock.empty(len(refs))
    with _wanted(cursor, refs) as condition:
        table = _arrow(
            cursor,
            f"SELECT series_id, ts, value FROM samples WHERE ts > $start AND ts <= $end AND {condition}",
            {"start": start_ms, "end": end_ms},
        )
    ids: Int32 = _column(table, 0)
    ts_ms: Int64 = _column(table, 1)
    values: Float64 = _column(table, 2)
    low, high = int(refs.min()), int(refs.max())
    rows = np.full(high - low + 1, -1, np.int32)
    rows[refs - low] = np.arange(len(refs), dtype=np.int32)
    return arrange(rows[ids - low], ts_ms, values.view(np.int64), len(refs))


def count_samples(cursor: duckdb.DuckDBPyConnection, refs: Int32, start_ms: int, end_ms: int) -> int:
    """See `Store.count`."""
    if not len(refs):
        return 0
    with _wanted(cursor, refs) as condition:
        return _integer(cursor.execute(f"SELECT count(*) FROM samples WHERE ts > $1 AND ts <= $2 AND {condition}", [start_ms, end_ms]))


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
    """A condition on `series_id` that keeps at least these refs: their span when it is dense, else a join with them."""
    low, high = int(refs.min()), int(refs.max())
    span = f"series_id BETWEEN {low} AND {high}"
    if high - low < DENSE * len(refs):
        yield span
        return
    cursor.register("wanted_refs", pa.table({"id": pa.array(refs)}))
    try:
        yield f"{span} AND series_id IN (SELECT id FROM wanted_refs)"
    finally:
        cursor.unregister("wanted_refs")


def _arrow(cursor: duckdb.DuckDBPyConnection, query: str, parameters: dict[str, int]) -> pa.Table:
    return cursor.execute(query, parameters).to_arrow_table()


def _column(table: pa.Table, column: int) -> np.ndarray:  # type: ignore[type-arg]  # the column decides
    return table.column(column).to_numpy()


def _integer(result: duckdb.DuckDBPyConnection) -> int:
    return int(result.fetchall()[0][0])
