"""Rollup tiers in DuckDB. Every function that writes runs inside the caller's transaction."""

from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no type information

from promlike.model.blocks import Int32, Int64
from promlike.model.tiers import COARSEST_MS, COLUMN_TYPES, RESOLUTION_NAMES, TierBlock, TierColumn, TierRows, ceil_ms, wanted_names
from promlike.storage.duckdb.rows import insert, put_state, wanted
from promlike.storage.store import Deletion
from promlike.storage.tier_codec import Bytes
from promlike.storage.tier_packing import Packing, change, span_of
from promlike.storage.tiers import PACKED_COLUMNS, SPANS_MS, Marks, PackedRows, TierBatch, TierState, Watermark

_STATE = {"upto_ms": "rollup_upto", "next_ms": "rollup_next", "next_ref": "rollup_next_series"}


def load_tier_state(cursor: duckdb.DuckDBPyConnection) -> TierState:
    """See `Store.load_tier_state`."""
    state = dict(cursor.execute("SELECT key, value FROM state").fetchall())
    if _STATE["upto_ms"] not in state:
        return TierState()
    return TierState(watermark=Watermark(**{name: state[key] for name, key in _STATE.items()}))


def load_marks(cursor: duckdb.DuckDBPyConnection, limit: int | None) -> Marks:
    """See `Store.load_marks`."""
    most = "" if limit is None else f"LIMIT {limit}"
    table = cursor.sql(f"SELECT series_id, start_ts, end_ts FROM rollup_marks ORDER BY start_ts, series_id {most}").to_arrow_table()
    refs, start_ms, end_ms = (np.ascontiguousarray(column.to_numpy()) for column in table.columns)
    return Marks(refs=refs, start_ms=start_ms, end_ms=end_ms)


def read_tier(
    cursor: duckdb.DuckDBPyConnection, resolution_ms: int, refs: Int32, start_ms: int, end_ms: int, columns: TierColumn
) -> list[PackedRows]:
    """See `Store.read_tier`. One part for each batch of DuckDB's answer, so that nothing is copied here."""
    if not len(refs) or start_ms >= end_ms:
        return []
    return _read(cursor, resolution_ms, refs, start_ms, ceil_ms(end_ms, SPANS_MS[resolution_ms]), wanted_names(columns))


def _read(
    cursor: duckdb.DuckDBPyConnection, resolution_ms: int, refs: Int32, low_ms: int, high_ms: int, names: Sequence[str]
) -> list[PackedRows]:
    """The stretches that end in (low, high] of the series `refs int32[S]`, and maybe of more."""
    with wanted(cursor, refs) as chosen:
        table = cursor.sql(
            f"SELECT series_id, until, rows, {', '.join(PACKED_COLUMNS[name] for name in names)} FROM {table_of(resolution_ms)} {chosen}"
            " AND until > $low AND until <= $high",
            params={"low": low_ms, "high": high_ms},
        ).to_arrow_table()
    return [_packed(batch, names) for batch in table.to_batches()]


def write_tiers(connection: duckdb.DuckDBPyConnection, batch: TierBatch) -> None:
    """See `Store.write_tiers`."""
    for block in batch.blocks:
        change_tier(connection, batch.refs, block, batch.replaced)
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


def change_tier(connection: duckdb.DuckDBPyConnection, refs: Int32, block: TierBlock, replaced: Marks) -> None:
    """Put rows of `refs int32[S]` in the place of those in the times `replaced`."""
    resolution_ms = block.resolution_ms
    span = span_of(resolution_ms, refs, block, replaced)
    if span is None:
        return
    stored = _read(connection, resolution_ms, np.union1d(refs, replaced.refs).astype(np.int32), *span, list(COLUMN_TYPES))
    changed = change(resolution_ms, stored, refs, block, replaced)
    if len(changed.refs):
        low, high = changed.until_ms.min(), changed.until_ms.max()
        insert(
            connection,
            pa.table({"id": pa.array(changed.refs), "ended": pa.array(changed.until_ms)}),
            f"DELETE FROM {table_of(resolution_ms)} USING incoming WHERE series_id = id AND until = ended"
            f" AND until BETWEEN {low} AND {high} AND series_id BETWEEN {changed.refs.min()} AND {changed.refs.max()}",
        )
    write_packing(connection, resolution_ms, changed.packing)


def write_packing(connection: duckdb.DuckDBPyConnection, resolution_ms: int, packing: Packing) -> None:
    """Store stretches of which none is there."""
    if len(packing.refs):
        insert(connection, _arrow(packing), f"INSERT INTO {table_of(resolution_ms)} BY NAME SELECT * FROM incoming")


def forget_deleted(connection: duckdb.DuckDBPyConnection, deletion: Deletion) -> None:
    """Delete every row of a bucket that a deletion touches; what is left of the buckets at its borders is to be rolled up again."""
    refs, start, end = deletion.refs, deletion.start_ms, deletion.end_ms
    count = len(refs)
    within = f"series_id = id AND series_id BETWEEN {refs.min()} AND {refs.max()}"
    for resolution_ms, span_ms in SPANS_MS.items():
        touched = end + resolution_ms - 1  # the last end of a bucket with a time of the deletion
        whole = (
            f"DELETE FROM {table_of(resolution_ms)} USING incoming WHERE {within} AND until - {span_ms} >= {start} AND until <= {touched}"
        )
        insert(connection, pa.table({"id": pa.array(refs)}), whole)
        marks = Marks(refs=refs, start_ms=np.full(count, start, np.int64), end_ms=np.full(count, touched, np.int64))
        none = TierBlock(resolution_ms=resolution_ms, rows=TierRows.blank(0), offsets=np.zeros(count + 1, np.int64))
        change_tier(connection, refs, none, marks)
    for low, high in ((start // COARSEST_MS * COARSEST_MS, start), (end, -(-end // COARSEST_MS) * COARSEST_MS)):
        if high > low:
            write_marks(connection, Marks(refs=refs, start_ms=np.full(len(refs), low), end_ms=np.full(len(refs), high)))


def delete_tier_before(connection: duckdb.DuckDBPyConnection, resolution_ms: int, cutoff_ms: int) -> int:
    """See `Store.delete_tier_before`."""
    query = f"DELETE FROM {table_of(resolution_ms)} WHERE until < $1 RETURNING rows"
    return sum(rows for (rows,) in connection.execute(query, [cutoff_ms]).fetchall())


def table_of(resolution_ms: int) -> str:
    return f"rollup_{RESOLUTION_NAMES[resolution_ms]}"


def _marks(marks: Marks) -> pa.Table:
    return pa.table({"series_id": pa.array(marks.refs), "start_ts": pa.array(marks.start_ms), "end_ts": pa.array(marks.end_ms)})


def _arrow(packing: Packing) -> pa.Table:
    fixed = {
        "series_id": packing.refs,
        "until": packing.until_ms,
        "rows": packing.rows,
        "first_ts": packing.first_ms,
        "last_ts": packing.last_ms,
    }
    columns = {name: pa.array(column) for name, column in fixed.items()}
    for name, column in packing.columns.items():
        data, starts = column.joined()
        buffers = [None, pa.py_buffer(starts.astype(np.int32)), pa.py_buffer(data)]
        columns[PACKED_COLUMNS[name]] = pa.Array.from_buffers(pa.binary(), len(packing.refs), buffers)
    return pa.table(columns)


def _packed(batch: pa.RecordBatch, names: Sequence[str]) -> PackedRows:
    refs, until, rows = map(_writable, batch.columns[:3])
    columns = {name: _bytes_of(column) for name, column in zip(names, batch.columns[3:], strict=True)}
    return PackedRows(refs=refs, until_ms=until, rows=rows.astype(np.int64), columns=columns, nbytes=batch.nbytes)


def _bytes_of(column: pa.Array) -> tuple[Bytes, Int64]:
    """The bytes of a column of blobs, and where each begins."""
    _, offsets, data = column.buffers()
    starts = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column)].astype(np.int64)
    return np.asarray(_Lent(data.address, data.size, np.dtype(np.uint8).str, data)), starts


class _Lent:
    """Memory of an Arrow column as NumPy's array interface describes it: writable, because kernels take no other arrays.

    https://numpy.org/doc/stable/reference/arrays.interface.html
    """

    __slots__ = ("__array_interface__", "_owner")

    def __init__(self, address: int, length: int, typestr: str, owner: object) -> None:
        self.__array_interface__ = {"version": 3, "shape": (length,), "typestr": typestr, "data": (address, False)}
        self._owner = owner


def _writable(column: pa.Array) -> Any:
    """The array of a column of numbers without NULL, without a copy."""
    if not len(column):
        return column.to_numpy(zero_copy_only=False)
    address = column.buffers()[1].address + column.offset * column.type.bit_width // 8
    return np.asarray(_Lent(address, len(column), np.dtype(column.type.to_pandas_dtype()).str, column))
