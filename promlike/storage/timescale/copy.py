"""PostgreSQL's binary COPY format for columns of fixed width, both ways, from and to arrays, without a Python object for a row.

Format: https://www.postgresql.org/docs/15/sql-copy.html (Binary Format): an 11-byte signature, flags and extension length; each row a field
count and, a field, its length and big-endian bytes; a trailer of -1.

The types of columns are written as PostgreSQL names them: int4 (int32[N]), int8 (int64[N]), float8 (float64[N], NaN keeps its bits),
bool (bool[N]) and timestamptz (int64[N], Unix time in milliseconds; infinity and -infinity are the largest and the least int64). None may
be NULL.
"""

from collections.abc import AsyncIterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promlike.errors import StorageError

SIGNATURE = b"PGCOPY\n\xff\r\n\0"
HEADER = SIGNATURE + bytes(8)
TRAILER = b"\xff\xff"
INFINITY = 2**63 - 1
EPOCH_MS = 946_684_800_000
"""PostgreSQL counts microseconds from 2000-01-01."""

_WIRE = {"int4": ">i4", "int8": ">i8", "float8": ">u8", "bool": "u1", "timestamptz": ">i8"}
_NATIVE = {"int4": np.int32, "int8": np.int64, "float8": np.uint64, "bool": np.bool_, "timestamptz": np.int64}

SAMPLE = ("timestamptz", "int4", "float8")
"""The columns of a sample: ts, series_id, value."""


def encode_columns(types: Sequence[str], *columns: NDArray[Any]) -> bytes:
    """The whole COPY stream of N rows."""
    row = _row(tuple(types))
    rows = np.empty(len(columns[0]), row)
    rows["fields"] = len(types)
    for i, (kind, column) in enumerate(zip(types, columns, strict=True)):
        rows[f"n{i}"] = row[f"c{i}"].itemsize
        if kind == "timestamptz":
            rows[f"c{i}"] = (column - EPOCH_MS) * 1000
        else:
            rows[f"c{i}"] = column.view(np.uint64) if kind == "float8" else column
    return HEADER + rows.tobytes() + TRAILER


def decode_columns(types: Sequence[str], stream: bytes | bytearray) -> list[NDArray[Any]]:
    """The columns of a COPY stream; raise StorageError when it is not one of N such rows."""
    row = _row(tuple(types))
    if not stream.startswith(SIGNATURE) or not stream.endswith(TRAILER):
        raise StorageError("the database answered with something that is not binary COPY")
    body = memoryview(stream)[len(HEADER) : -len(TRAILER)]
    if len(body) % row.itemsize:
        raise StorageError("the database answered with rows of an unexpected shape")
    rows = np.frombuffer(body, row)
    if not (rows["fields"] == len(types)).all():
        raise StorageError("the database answered with rows of an unexpected shape")
    return [_native(kind, rows[f"c{i}"]) for i, kind in enumerate(types)]


async def copy_in(connection: Any, table: str, columns: dict[str, str], *arrays: NDArray[Any]) -> None:
    """COPY arrays (all of N) into a table; `columns` are the names and types of the columns that they go to."""
    stream = encode_columns(tuple(columns.values()), *arrays)
    await connection.copy_to_table(table, columns=list(columns), source=stream_of(stream), format="binary")


async def copy_out(connection: Any, types: Sequence[str], query: str, *arguments: object) -> list[NDArray[Any]]:
    """The columns of a query's answer, whose types are these and which has no NULL."""
    return decode_columns(types, await copy_bytes(connection, query, *arguments))


async def copy_bytes(connection: Any, query: str, *arguments: object) -> bytearray:
    """The COPY stream of a query's answer; while it comes it is in memory once, not in parts and as a whole."""
    received = bytearray()

    async def receive(data: bytes) -> None:
        received.extend(data)

    await connection.copy_from_query(query, *arguments, output=receive, format="binary")
    return received


async def stream_of(stream: bytes | bytearray) -> AsyncIterator[bytes | bytearray]:
    """A COPY stream as asyncpg takes it."""
    yield stream


@cache
def _row(types: tuple[str, ...]) -> np.dtype[np.void]:
    """A row as it stands in the stream: the number of fields, then of each its length `n…` and content `c…`."""
    fields = [part for i, kind in enumerate(types) for part in ((f"n{i}", ">i4"), (f"c{i}", _WIRE[kind]))]
    return np.dtype([("fields", ">i2"), *fields])


def _native(kind: str, column: NDArray[Any]) -> NDArray[Any]:
    native: NDArray[Any] = column.astype(_NATIVE[kind])
    if kind == "timestamptz":
        finite = (native != INFINITY) & (native != -INFINITY - 1)
        return np.where(finite, native // 1000 + EPOCH_MS, native)
    return native.view(np.float64) if kind == "float8" else native
