"""Exemplars in DuckDB."""

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no type information

from promlike.model.blocks import Int32
from promlike.model.exemplars import Exemplars
from promlike.storage.duckdb.read import column_array
from promlike.storage.duckdb.rows import insert, registered


def write_exemplars(connection: duckdb.DuckDBPyConnection, exemplars: Exemplars) -> None:
    """Insert those that are not there yet, inside the transaction of a flush. DuckDB takes NaN for equal to itself."""
    if not len(exemplars):
        return
    table = pa.table(
        {
            "series_id": pa.array(exemplars.refs),
            "ts": pa.array(exemplars.ts_ms),
            "value": pa.array(exemplars.values, from_pandas=False),
            "labels": pa.array(exemplars.labels, pa.string()),
        }
    )
    bounds = f"ts BETWEEN {exemplars.ts_ms.min()} AND {exemplars.ts_ms.max()}"
    insert(
        connection,
        table,
        "INSERT INTO exemplars SELECT DISTINCT series_id, ts, value, labels FROM incoming WHERE NOT EXISTS ("
        "  SELECT 1 FROM exemplars AS stored WHERE stored.series_id = incoming.series_id AND stored.ts = incoming.ts"
        f"    AND stored.value = incoming.value AND stored.labels = incoming.labels AND stored.{bounds}"
        ")",
    )


def read_exemplars(cursor: duckdb.DuckDBPyConnection, refs: Int32, start_ms: int, end_ms: int, limit: int) -> Exemplars:
    """See `Store.read_exemplars`."""
    if not len(refs) or start_ms >= end_ms:
        return Exemplars.empty()
    query = """
        SELECT series_id, ts, value, labels FROM exemplars
        WHERE series_id IN (SELECT id FROM wanted) AND ts > $start AND ts <= $end ORDER BY ts DESC LIMIT $limit
    """
    with registered(cursor, "wanted", pa.table({"id": pa.array(refs)})):
        table = cursor.sql(query, params={"start": start_ms, "end": end_ms, "limit": limit}).to_arrow_table()
    ids, ts_ms, values = (column_array(column) for column in table.columns[:3])
    return Exemplars(refs=ids, ts_ms=ts_ms, values=values, labels=table.column(3).to_pylist())
