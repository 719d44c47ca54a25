"""Rollup tiers in DuckDB. Every function that writes runs inside the caller's transaction."""

from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no type information

from promlike.model.blocks import Int32
from promlike.model.tiers import COARSEST_MS, COLUMN_TYPES, RESOLUTION_NAMES, RESOLUTIONS_MS, TierBlock, TierColumn, TierRows, wanted_names
from promlike.storage.duckdb.rows import insert, put_state, wanted
from promlike.storage.store import Deletion
from promlike.storage.tiers import Marks, StoredRows, TierBatch, TierState, Watermark

COLUMNS = {
    "ends_ms": "bucket",
    "counts": "count",
    "sums": "sum",
    "mins": "min",
    "maxs": "max",
    "first_ms": "first_ts",
    "firsts": "first_value",
    "last_ms": "last_ts",
    "lasts": "last_value",
    "resets": "reset_sum",
    "stale": "ends_stale",
}
"""Fields of TierRows and the columns that hold them."""

_STATE = {"upto_ms": "rollup_upto", "next_ms": "rollup_next", "next_ref": "rollup_next_series"}


def load_tier_state(cursor: duckdb.DuckDBPyConnection) -> TierState:
    """See `Store.load_tier_state`."""
    state = dict(cursor.execute("SELECT key, value FROM state").fetchall())
    if _STATE["upto_ms"] not in state:
        return TierState()
    return TierState(own=Watermark(**{name: state[key] for name, key in _STATE.items()}))


def load_marks(cursor: duckdb.DuckDBPyConnection, limit: int | None) -> Marks:
    """See `Store.load_marks`."""
    most = "" if limit is None else f"LIMIT {limit}"
    table = cursor.sql(f"SELECT series_id, start_ts, end_ts FROM rollup_marks ORDER BY start_ts, series_id {most}").to_arrow_table()
    refs, start_ms, end_ms = (np.ascontiguousarray(column.to_numpy()) for column in table.columns)
    return Marks(refs=refs, start_ms=start_ms, end_ms=end_ms)


def read_tier(
    cursor: duckdb.DuckDBPyConnection, resolution_ms: int, refs: Int32, start_ms: int, end_ms: int, columns: TierColumn
) -> list[StoredRows]:
    """See `Store.read_tier`. One part for each batch of DuckDB's answer, so that nothing is copied here."""
    if not len(refs) or start_ms >= end_ms:
        return []
    names = wanted_names(columns)
    with wanted(cursor, refs) as chosen:
        table = cursor.sql(
            f"SELECT series_id, {', '.join(COLUMNS[name] for name in names)} FROM {_table(resolution_ms)} {chosen}"
            " AND bucket > $start AND bucket <= $end",
            params={"start": start_ms, "end": end_ms},
        ).to_arrow_table()
    return [_rows(batch, names) for batch in table.to_batches()]


def write_tiers(connection: duckdb.DuckDBPyConnection, batch: TierBatch) -> None:
    """See `Store.write_tiers`."""
    if len(batch.replaced):
        _forget_rows(connection, batch.replaced)
    for block in batch.blocks:
        if block.rows.count:
            table = _table(block.resolution_ms)
            insert(connection, _arrow(batch.refs, block), f"INSERT INTO {table} BY NAME SELECT * FROM incoming")
    if len(batch.done):
        insert(
            connection,
            _marks(batch.done),
            "DELETE FROM rollup_marks m USING incoming i"
            " WHERE m.series_id = i.series_id AND m.start_ts = i.start_ts AND m.end_ts = i.end_ts",
        )
    for name, key in _STATE.items():
        put_state(connection, key, getattr(batch.watermark, name))


def write_marks(connection: duckdb.DuckDBPyConnection, marks: Marks) -> None:
    """Remember what has to be rolled up again."""
    if len(marks):
        insert(connection, _marks(marks), "INSERT INTO rollup_marks SELECT series_id, start_ts, end_ts FROM incoming")


def forget_deleted(connection: duckdb.DuckDBPyConnection, deletion: Deletion) -> None:
    """Delete every row of a bucket that a deletion touches; what is left of the buckets at its borders is to be rolled up again."""
    refs, start, end = deletion.refs, deletion.start_ms, deletion.end_ms
    inside = f"series_id = id AND series_id BETWEEN {refs.min()} AND {refs.max()} AND bucket > {start}"
    for resolution_ms in RESOLUTIONS_MS.values():
        deleted = f"DELETE FROM {_table(resolution_ms)} USING incoming WHERE {inside} AND bucket < {end + resolution_ms}"
        insert(connection, pa.table({"id": pa.array(refs)}), deleted)
    for low, high in ((start // COARSEST_MS * COARSEST_MS, start), (end, -(-end // COARSEST_MS) * COARSEST_MS)):
        if high > low:
            write_marks(connection, Marks(refs=refs, start_ms=np.full(len(refs), low), end_ms=np.full(len(refs), high)))


def delete_tier_before(connection: duckdb.DuckDBPyConnection, resolution_ms: int, cutoff_ms: int) -> int:
    """See `Store.delete_tier_before`."""
    deleted = connection.execute(f"DELETE FROM {_table(resolution_ms)} WHERE bucket < $1", [cutoff_ms]).fetchall()[0][0]
    return int(deleted)


def _forget_rows(connection: duckdb.DuckDBPyConnection, replaced: Marks) -> None:
    """Bounds on both columns let DuckDB skip most row groups."""
    refs, start, end = replaced.refs, replaced.start_ms, replaced.end_ms
    bounds = f"series_id BETWEEN {refs.min()} AND {refs.max()} AND bucket > {start.min()} AND bucket <= {end.max()}"
    for table in map(_table, RESOLUTIONS_MS.values()):
        found = connection.execute(f"SELECT 1 FROM {table} WHERE {bounds} LIMIT 1").fetchall()
        if found:  # mostly not: a bucket is rolled up for the first time
            insert(
                connection,
                _marks(replaced),
                f"DELETE FROM {table} r USING incoming i WHERE r.series_id = i.series_id"
                f" AND r.bucket > i.start_ts AND r.bucket <= i.end_ts AND r.{bounds.replace('bucket', 'r.bucket')}",
            )


def _table(resolution_ms: int) -> str:
    return f"rollup_{RESOLUTION_NAMES[resolution_ms]}"


def _marks(marks: Marks) -> pa.Table:
    return pa.table({"series_id": pa.array(marks.refs), "start_ts": pa.array(marks.start_ms), "end_ts": pa.array(marks.end_ms)})


def _arrow(refs: Int32, block: TierBlock) -> pa.Table:
    columns = {COLUMNS[name]: pa.array(column, from_pandas=False) for name, column in block.rows.columns().items()}
    return pa.table({"series_id": pa.array(np.repeat(refs, np.diff(block.offsets))), **columns})


def _rows(batch: pa.RecordBatch, names: Sequence[str]) -> StoredRows:
    arrays: dict[str, Any] = {name: np.empty(0, dtype) for name, dtype in COLUMN_TYPES.items()}
    for name, column in zip(names, batch.columns[1:], strict=True):
        arrays[name] = _writable(column)
    return StoredRows(refs=_writable(batch.columns[0]), rows=TierRows(**arrays))


class _Lent:
    """The memory of an Arrow column as NumPy's array interface describes it: writable, because kernels take no other arrays.

    https://numpy.org/doc/stable/reference/arrays.interface.html
    """

    __slots__ = ("__array_interface__", "_owner")

    def __init__(self, column: pa.Array, typestr: str) -> None:
        address = column.buffers()[1].address + column.offset * column.type.bit_width // 8
        self.__array_interface__ = {"version": 3, "shape": (len(column),), "typestr": typestr, "data": (address, False)}
        self._owner = column


def _writable(column: pa.Array) -> Any:
    """The array of a column, without a copy where its values stand in memory as NumPy has them."""
    if pa.types.is_boolean(column.type) or column.null_count or not len(column):
        return column.to_numpy(zero_copy_only=False)
    return np.asarray(_Lent(column, np.dtype(column.type.to_pandas_dtype()).str))
