"""Rows of labels in PostgreSQL's binary COPY format (see `copy.py`), taken apart by a kernel: they are texts of any length.

A row is: id int4, labels text, none NULL.
"""

import numpy as np
from numpy.typing import NDArray

from promlike.errors import StorageError
from promlike.kernel import inlined, kernel
from promlike.model.blocks import Int32, Int64
from promlike.storage.label_columns import LabelColumns, read_labels
from promlike.storage.timescale.copy import HEADER, SIGNATURE, TRAILER
from promlike.storage.timescale.text import ESCAPE, original

SHORTEST_ROW = 2 + 4 + 4 + 4 + 2


def decode_labels(stream: bytes | bytearray) -> tuple[Int32, LabelColumns]:
    """Ids, int32[S], and labels of a COPY stream; raise StorageError when it is not one of such rows."""
    if not stream.startswith(SIGNATURE) or not stream.endswith(TRAILER):
        raise StorageError("the database answered with something that is not binary COPY")
    data = np.frombuffer(bytearray(stream), np.uint8)
    most = len(data) // SHORTEST_ROW + 1
    ids, starts, ends = np.empty(most, np.int32), np.empty(most, np.int64), np.empty(most, np.int64)
    count = split_rows(data, len(HEADER), len(data) - len(TRAILER), ids, starts, ends)
    if count < 0:
        raise StorageError("the database answered with rows of an unexpected shape")
    return ids[:count], read_labels(data, starts[:count], ends[:count], _original if ESCAPE.encode() in stream else None)


def _original(text: str) -> str:
    return original(text) if ESCAPE in text else text


@inlined
def _integer(data: NDArray[np.uint8], at: int) -> int:
    """A big-endian int32."""
    value = np.uint32(0)
    for i in range(4):
        value = (value << np.uint32(8)) | np.uint32(data[at + i])
    return int(np.int32(value))


@kernel("(u1[::1], i8, i8, i4[::1], i8[::1], i8[::1])")
def split_rows(data: NDArray[np.uint8], start: int, end: int, ids: Int32, starts: Int64, ends: Int64) -> int:
    """Id, and start and end of the text, of each row of `data[start:end]`. Returns how many, or -1 where a row has another shape."""
    count = 0
    at = start
    while at < end:
        if at + 14 > end or data[at] != 0 or data[at + 1] != 2 or _integer(data, at + 2) != 4:
            return -1
        length = _integer(data, at + 10)
        if length < 0 or at + 14 + length > end:
            return -1
        ids[count] = _integer(data, at + 6)
        starts[count] = at + 14
        at += 14 + length
        ends[count] = at
        count += 1
    return count
