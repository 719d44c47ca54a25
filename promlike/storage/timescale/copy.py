"""PostgreSQL's binary COPY format for rows of (ts timestamptz, series_id int4, value float8), both ways, from and to arrays.

Format: https://www.postgresql.org/docs/15/sql-copy.html (Binary Format): an 11-byte signature, flags and extension length; each row a field
count and, a field, its length and big-endian bytes; a trailer of -1.
"""

import numpy as np

from promlike.errors import StorageError
from promlike.model.blocks import Float64, Int32, Int64

ROW = np.dtype([("fields", ">i2"), ("n1", ">i4"), ("ts", ">i8"), ("n2", ">i4"), ("id", ">i4"), ("n3", ">i4"), ("value", ">u8")])
SIGNATURE = b"PGCOPY\n\xff\r\n\0"
HEADER = SIGNATURE + bytes(8)
TRAILER = b"\xff\xff"
EPOCH_MS = 946_684_800_000
"""PostgreSQL counts microseconds from 2000-01-01."""


def encode_rows(refs: Int32, ts_ms: Int64, values: Float64) -> bytes:
    """The whole COPY stream for int32[N], int64[N], float64[N]. NaN keeps its bits."""
    rows = np.empty(len(refs), ROW)
    rows["fields"], rows["n1"], rows["n2"], rows["n3"] = 3, 8, 4, 8
    rows["ts"], rows["id"], rows["value"] = (ts_ms - EPOCH_MS) * 1000, refs, values.view(np.uint64)
    return HEADER + rows.tobytes() + TRAILER


def decode_rows(stream: bytes) -> tuple[Int32, Int64, Float64]:
    """refs int32[N], ts_ms int64[N] and values float64[N] of a COPY stream; raise StorageError when it is not one of ours."""
    if not stream.startswith(SIGNATURE) or not stream.endswith(TRAILER):
        raise StorageError("the database answered with something that is not binary COPY")
    body = memoryview(stream)[len(HEADER) : -len(TRAILER)]
    if len(body) % ROW.itemsize:
        raise StorageError("the database answered with rows of an unexpected shape")
    rows = np.frombuffer(body, ROW)
    if not (rows["fields"] == 3).all():
        raise StorageError("the database answered with rows of an unexpected shape")
    ts_ms = rows["ts"].astype(np.int64) // 1000 + EPOCH_MS
    return rows["id"].astype(np.int32), ts_ms, rows["value"].astype(np.uint64).view(np.float64)
