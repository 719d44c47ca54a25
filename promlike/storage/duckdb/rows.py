"""What every statement on DuckDB's tables needs: series to choose, rows to insert."""

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no type information

from promlike.model.blocks import Int32

DENSE = 4
"""When the asked refs span at most so many times their number, all series of the span are read and the others left out here: comparing with
two bounds is much cheaper than a join."""


@contextmanager
def wanted(cursor: duckdb.DuckDBPyConnection, refs: Int32) -> Iterator[str]:
    """What follows `FROM samples` to keep at least these refs: their span when it is dense, else a join with them.

    (A join is twice as fast here as `series_id IN (SELECT …)`.)
    """
    low, high = int(refs.min()), int(refs.max())
    if high - low < DENSE * len(refs):
        yield f"WHERE series_id BETWEEN {low} AND {high}"
        return
    with registered(cursor, "wanted", pa.table({"id": pa.array(refs)})):
        yield "JOIN wanted ON id = series_id WHERE true"


@contextmanager
def registered(cursor: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> Iterator[None]:
    """Queries inside can read the table under this name."""
    cursor.register(name, table)
    try:
        yield
    finally:
        cursor.unregister(name)


def put_state(connection: duckdb.DuckDBPyConnection, key: str, value: int) -> None:
    connection.execute("DELETE FROM state WHERE key = $1", [key])
    connection.execute("INSERT INTO state VALUES ($1, $2)", [key, value])


def insert(connection: duckdb.DuckDBPyConnection, table: pa.Table, *statements: str) -> None:
    """Run statements that read `table` under the name `incoming`.

    When one fails the name stays, for the caller's ROLLBACK: taking it back in a transaction that failed would fail too and hide the cause.
    """
    connection.register("incoming", table)
    for statement in statements:
        connection.execute(statement)
    connection.unregister("incoming")
