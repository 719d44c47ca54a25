"""Answers of remote read as bytes. Axis letters: S series, N samples, L label names, P pieces, C chunks.

XOR chunks as Prometheus's documentation of chunk formats describes them (tsdb/docs/format/chunks.md): Gorilla's compression
(Pelkonen et al., VLDB 2015) with millisecond times and other widths of bits. A frame is the length of a message, its CRC-32C, the message.
"""

import numpy as np

from promlike.kernel import inlined, kernel
from promlike.model.blocks import Int32, Int64
from promlike.model.label_texts import Bytes

Bits = np.ndarray[tuple[int, ...], np.dtype[np.uint64]]
Table = np.ndarray[tuple[int, ...], np.dtype[np.uint32]]

CHUNK_SAMPLES = 120
"""What Prometheus puts into a chunk."""
SAMPLE_BYTES = 32
"""More than a sample takes in either kind of answer."""
SERIES_BYTES = 64
"""More than all lengths, times and checksums of a series, or of one of its chunks, take."""


def castagnoli_table() -> Table:
    """The table of the CRC-32C: polynomial 0x1EDC6F41, reflected."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(0x82F63B78), table >> 1).astype(np.uint32)
    return table


@kernel("(u1[::1], i8[::1], i4[:,::1], i8[::1], i8[::1], u8[::1], i8, i8, i8, u4[::1], u1[::1], u1[::1])")
def write_frames(
    blob: Bytes,
    borders: Int64,
    pieces: Int32,
    offsets: Int64,
    ts_ms: Int64,
    bits: Bits,
    query: int,
    chunk_samples: int,
    frame_bytes: int,
    table: Table,
    chunks: Bytes,
    out: Bytes,
) -> int:
    """Write S series as frames, each a ChunkedReadResponse with one series and as many chunks as `frame_bytes` allow; at least one.

    `bits uint64[N]` are the values' bits, `query` the number of the query, `chunks` room for those of a frame. Return the bytes written.
    """
    at = 0
    for row in range(pieces.shape[0]):
        labels = _labels_size(borders, pieces, row)
        held = 0
        for first in range(offsets[row], offsets[row + 1], chunk_samples):
            last = min(first + chunk_samples, offsets[row + 1])
            held = _write_chunk(ts_ms, bits, first, last, chunks, held)
            if labels + held >= frame_bytes or last == offsets[row + 1]:
                at = _write_frame(blob, borders, pieces, row, labels, chunks, held, query, table, out, at)
                held = 0
    return at


@kernel("(u1[::1], i8[::1], i4[:,::1], i8[::1], i8[::1], u8[::1], u1[::1])")
def write_timeseries(blob: Bytes, borders: Int64, pieces: Int32, offsets: Int64, ts_ms: Int64, bits: Bits, out: Bytes) -> int:
    """Write S series with their samples as the fields `timeseries` of a QueryResult; return the bytes written."""
    at = 0
    for row in range(pieces.shape[0]):
        size = _labels_size(borders, pieces, row)
        for i in range(offsets[row], offsets[row + 1]):
            size += 12 + _varint_size(np.uint64(ts_ms[i]))
        at = _write_length(10, size, out, at)
        at = _write_labels(blob, borders, pieces, row, out, at)
        for i in range(offsets[row], offsets[row + 1]):
            at = _write_length(18, 10 + _varint_size(np.uint64(ts_ms[i])), out, at)
            out[at] = 9
            at += 1
            for byte in range(8):
                out[at] = np.uint8(bits[i] >> np.uint64(8 * byte) & np.uint64(0xFF))
                at += 1
            out[at] = 16
            at = _write_varint(np.uint64(ts_ms[i]), out, at + 1)
    return at


@inlined
def _labels_size(borders: Int64, pieces: Int32, row: int) -> int:
    size = 0
    for column in range(pieces.shape[1]):
        size += borders[pieces[row, column] + 1] - borders[pieces[row, column]]
    return size


@inlined
def _write_labels(blob: Bytes, borders: Int64, pieces: Int32, row: int, out: Bytes, at: int) -> int:
    for column in range(pieces.shape[1]):
        piece = pieces[row, column]
        for i in range(borders[piece], borders[piece + 1]):
            out[at] = blob[i]
            at += 1
    return at


@inlined
def _varint_size(number: np.uint64) -> int:
    size = 1
    while number >= np.uint64(0x80):
        number >>= np.uint64(7)
        size += 1
    return size


@inlined
def _write_varint(number: np.uint64, out: Bytes, at: int) -> int:
    while number >= np.uint64(0x80):
        out[at] = np.uint8(number & np.uint64(0x7F) | np.uint64(0x80))
        number >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(number)
    return at + 1


@inlined
def _write_length(tag: int, size: int, out: Bytes, at: int) -> int:
    """The tag of a field with a length, and that length."""
    out[at] = tag
    return _write_varint(np.uint64(size), out, at + 1)


@inlined
def _write_frame(
    blob: Bytes,
    borders: Int64,
    pieces: Int32,
    row: int,
    labels: int,
    chunks: Bytes,
    held: int,
    query: int,
    table: Table,
    out: Bytes,
    at: int,
) -> int:
    """Length, checksum and message of one frame."""
    size = 1 + _varint_size(np.uint64(labels + held)) + labels + held
    if query:
        size += 1 + _varint_size(np.uint64(query))
    check_at = _write_varint(np.uint64(size), out, at)
    start = check_at + 4
    at = _write_length(10, labels + held, out, start)
    at = _write_labels(blob, borders, pieces, row, out, at)
    for i in range(held):
        out[at] = chunks[i]
        at += 1
    if query:
        out[at] = 16
        at = _write_varint(np.uint64(query), out, at + 1)
    crc = np.uint32(0xFFFFFFFF)
    for i in range(start, at):
        crc = table[(crc ^ np.uint32(out[i])) & np.uint32(0xFF)] ^ crc >> np.uint32(8)
    crc ^= np.uint32(0xFFFFFFFF)
    for byte in range(4):
        out[check_at + byte] = np.uint8(crc >> np.uint32(24 - 8 * byte) & np.uint32(0xFF))
    return at


@inlined
def _write_chunk(ts_ms: Int64, bits: Bits, first: int, last: int, out: Bytes, at: int) -> int:
    """One field `chunks` of a series: times of its first and last sample, encoding, data."""
    head = 2 * 11 + 2 + 1 + 4  # the most that stands before the data; the data moves back to where it belongs
    end = _write_xor(ts_ms, bits, first, last, out, at + head)
    size = end - at - head
    inner = 2 + 1 + _varint_size(np.uint64(size)) + size
    for time in (ts_ms[first], ts_ms[last - 1]):
        inner += 1 + _varint_size(np.uint64(time))
    data = at + head
    at = _write_length(18, inner, out, at)
    out[at] = 8
    at = _write_varint(np.uint64(ts_ms[first]), out, at + 1)
    out[at] = 16
    at = _write_varint(np.uint64(ts_ms[last - 1]), out, at + 1)
    out[at] = 24
    out[at + 1] = 1
    at = _write_length(34, size, out, at + 2)
    for i in range(size):
        out[at + i] = out[data + i]
    return at + size


@inlined
def _write_xor(ts_ms: Int64, bits: Bits, first: int, last: int, out: Bytes, at: int) -> int:
    """The data of an XOR chunk with the samples first..last-1."""
    count = last - first
    out[at] = np.uint8(count >> 8)
    out[at + 1] = np.uint8(count & 0xFF)
    time = ts_ms[first]
    at = _write_varint(np.uint64(time << 1) ^ np.uint64(time >> 63), out, at + 2)
    acc, held = np.uint64(0), 0
    at, acc, held = _put64(bits[first], 64, acc, held, out, at)
    before = np.int64(0)
    leading, trailing = 255, 0
    for i in range(first + 1, last):
        delta = ts_ms[i] - ts_ms[i - 1]
        if i == first + 1:
            at = _write_varint(np.uint64(delta), out, at)
        else:
            at, acc, held = _put_time(delta - before, acc, held, out, at)
        before = delta
        at, acc, held, leading, trailing = _put_value(bits[i] ^ bits[i - 1], leading, trailing, acc, held, out, at)
    if held:
        out[at] = np.uint8(acc << np.uint64(8 - held) & np.uint64(0xFF))
        at += 1
    return at


@inlined
def _put(value: np.uint64, width: int, acc: np.uint64, held: int, out: Bytes, at: int) -> tuple[int, np.uint64, int]:
    """Write the low `width` bits of a value, at most 56; fewer than 8 bits are held back in `acc`."""
    acc = acc << np.uint64(width) | value & (np.uint64(1) << np.uint64(width)) - np.uint64(1)
    held += width
    while held >= 8:
        held -= 8
        out[at] = np.uint8(acc >> np.uint64(held) & np.uint64(0xFF))
        at += 1
    return at, acc, held


@inlined
def _put64(value: np.uint64, width: int, acc: np.uint64, held: int, out: Bytes, at: int) -> tuple[int, np.uint64, int]:
    """Write the low `width` bits of a value."""
    if width > 32:
        at, acc, held = _put(value >> np.uint64(32), width - 32, acc, held, out, at)
        width = 32
    return _put(value, width, acc, held, out, at)


@inlined
def _put_time(change: int, acc: np.uint64, held: int, out: Bytes, at: int) -> tuple[int, np.uint64, int]:
    """A change of the distance between times, in 1, 16, 20, 24 or 68 bits."""
    if change == 0:
        return _put(np.uint64(0), 1, acc, held, out, at)
    mark = np.uint64(2)
    marked = 2
    for width in (14, 17, 20):
        if -(1 << width - 1) < change <= 1 << width - 1:
            at, acc, held = _put(mark, marked, acc, held, out, at)
            return _put(np.uint64(change), width, acc, held, out, at)
        mark = mark << np.uint64(1) | np.uint64(2)
        marked += 1
    at, acc, held = _put(np.uint64(15), 4, acc, held, out, at)
    return _put64(np.uint64(change), 64, acc, held, out, at)


@inlined
def _put_value(
    change: np.uint64, leading: int, trailing: int, acc: np.uint64, held: int, out: Bytes, at: int
) -> tuple[int, np.uint64, int, int, int]:
    """The bits in which a value differs from the one before: none, inside the window of the last change, or with a window of their own."""
    if change == 0:
        at, acc, held = _put(np.uint64(0), 1, acc, held, out, at)
        return at, acc, held, leading, trailing
    zeros_before = 0
    while change >> np.uint64(63 - zeros_before) & np.uint64(1) == 0:
        zeros_before += 1
    zeros_before = min(zeros_before, 31)
    zeros_behind = 0
    while change >> np.uint64(zeros_behind) & np.uint64(1) == 0:
        zeros_behind += 1
    if leading != 255 and zeros_before >= leading and zeros_behind >= trailing:
        at, acc, held = _put(np.uint64(2), 2, acc, held, out, at)
    else:
        leading, trailing = zeros_before, zeros_behind
        at, acc, held = _put(np.uint64(3), 2, acc, held, out, at)
        at, acc, held = _put(np.uint64(leading), 5, acc, held, out, at)
        at, acc, held = _put(np.uint64(64 - leading - trailing), 6, acc, held, out, at)
    at, acc, held = _put64(change >> np.uint64(trailing), 64 - leading - trailing, acc, held, out, at)
    return at, acc, held, leading, trailing
