"""Packed rows of tiers in PostgreSQL's binary COPY format, both ways (see `copy.py` for the format).

Axis letters: P packed stretches, F fields.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promlike.errors import StorageError
from promlike.kernel import kernel
from promlike.model.blocks import Int32, Int64
from promlike.storage.tier_codec import HEADER, Bytes
from promlike.storage.tier_packing import Packing
from promlike.storage.tiers import PACKED_COLUMNS, PackedRows
from promlike.storage.timescale.copy import EPOCH_MS, INFINITY, SIGNATURE, TRAILER
from promlike.storage.timescale.copy import HEADER as PREFIX

FIXED = ("until", "series_id", "rows")
"""The columns that say what a stretch is; these are read back, and before the packed ones."""
TIMES = ("first_time", "last_time")
"""Columns for SQL alone: of the samples of a stretch; infinity and -infinity where there are only stale markers."""

FIXED_BYTES = 30
"""What a row takes at least, besides its packed columns."""


def encode_packing(given: Int32, packing: Packing) -> tuple[tuple[str, ...], bytearray]:
    """Names of columns, and the whole COPY stream of stretches of the series `given int32[P]` (ids in the database)."""
    fixed = (
        _wire(_microseconds(packing.until_ms), ">i8"),
        _wire(given, ">i4"),
        _wire(packing.rows, ">i4"),
        _wire(_microseconds(packing.first_ms), ">i8"),
        _wire(_microseconds(packing.last_ms), ">i8"),
    )
    sizes = [np.full(len(given), content.shape[1], np.int64) for content in fixed]
    sizes += [column.sizes for column in packing.columns.values()]
    lengths = 2 + sum(4 + size for size in sizes) if sizes else np.empty(0, np.int64)
    places = len(PREFIX) + np.append(0, np.cumsum(lengths)).astype(np.int64)
    stream = bytearray(int(places[-1]) + len(TRAILER))
    stream[: len(PREFIX)], stream[-len(TRAILER) :] = PREFIX, TRAILER
    data = np.frombuffer(stream, np.uint8)
    place = places[:-1].copy()
    _put(data, place, _wire(np.full(len(given), len(sizes), np.int16), ">i2"))
    place += 2
    for number, size in enumerate(sizes):
        _put(data, place, _wire(size, ">i4"))
        place += 4
        if number < len(fixed):
            _put(data, place, fixed[number])
        else:
            list(packing.columns.values())[number - len(fixed)].write(place, data)
        place += size
    return (*FIXED, *TIMES, *(PACKED_COLUMNS[name] for name in packing.columns)), stream


def decode_packed(names: Sequence[str], stream: bytearray) -> PackedRows:
    """The stretches of an answer whose columns are FIXED and those of `names`; `refs` are ids. Raises StorageError."""
    if not stream.startswith(SIGNATURE) or not stream.endswith(TRAILER):
        raise StorageError("the database answered with something that is not binary COPY")
    data = np.frombuffer(stream, np.uint8)
    starts = np.empty((len(FIXED) + len(names), len(stream) // (FIXED_BYTES + len(names) * HEADER) + 1), np.int64)
    found = find_fields(data, len(PREFIX), starts)
    if found < 0:
        raise StorageError("the database answered with packed rows of an unexpected shape")
    starts = starts[:, :found]
    until, refs, rows = (_taken(data, starts[k], kind) for k, kind in enumerate((">i8", ">i4", ">i4")))
    return PackedRows(
        refs=refs.astype(np.int32),
        until_ms=until.astype(np.int64) // 1000 + EPOCH_MS,
        rows=rows.astype(np.int64),
        columns={name: (data, starts[len(FIXED) + k]) for k, name in enumerate(names)},
        nbytes=len(stream) + starts.nbytes,
    )


def _microseconds(times_ms: Int64) -> Int64:
    endless = (times_ms == INFINITY) | (times_ms == -INFINITY - 1)
    return np.where(endless, times_ms, (times_ms - EPOCH_MS) * 1000)


def _wire(values: NDArray[Any], kind: str) -> Bytes:
    """`uint8[P, width]`"""
    return np.ascontiguousarray(values.astype(kind)).view(np.uint8).reshape(len(values), -1)


def _put(data: Bytes, places: Int64, content: Bytes) -> None:
    """Write row p of `content uint8[P, width]` from `places[p]` on."""
    data[places[:, np.newaxis] + np.arange(content.shape[1])] = content


def _taken(data: Bytes, places: Int64, kind: str) -> NDArray[Any]:
    """Numbers of one width, from everywhere."""
    width = np.dtype(kind).itemsize
    return np.ascontiguousarray(data[places[:, np.newaxis] + np.arange(width)]).view(kind).reshape(-1)


@kernel("(u1[::1], i8, i8[:,::1])")
def find_fields(data: Bytes, at: int, starts: Int64) -> int:
    """Write to `starts int64[F,…]` where each field of each row begins that stands in a stream from `at` on; how many rows there are.

    -1 when they are not of so many fields, or more than there is room for.
    """
    found, fields, last, place = 0, starts.shape[0], len(data) - 2, np.int64(at)
    while place < last:
        if found == starts.shape[1] or (np.int64(data[place]) << 8 | np.int64(data[place + 1])) != fields:
            return -1
        place += 2
        for field in range(fields):
            if place + 4 > last:
                return -1
            size = (
                np.int64(data[place]) << 24 | np.int64(data[place + 1]) << 16 | np.int64(data[place + 2]) << 8 | np.int64(data[place + 3])
            )
            starts[field, found] = place + 4
            place += 4 + size
            if size >= 2**31 or place > last:
                return -1
        found += 1
    return found
