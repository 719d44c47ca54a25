"""The bytes of the write-ahead log.

A segment file is SEGMENT_MAGIC, then records, the first of which says where the log ended before (`encode_segment_head`). A record is a
header of 16 bytes, little-endian, and a payload padded to 8 bytes:

    uint32 length of the payload, without padding
    uint32 CRC-32 of type and payload
    uint8  type, 3 zero bytes
    uint32 CRC-32 of the 12 bytes before: tells a payload that was cut off from a length that is not one

Sample payload: uint32 N, uint32 width of times (4 or 8), int64 base; N int32 refs; N times (uint32 milliseconds after the base, or int64);
N float64 values. Exemplar payload: uint32 X, 4 zero bytes; X int32 refs; X uint32 lengths of labels; X int64 times; X float64 values; the
labels of all, UTF-8. Series and metadata payloads are JSON: `[[ref, [[name, value], …]], …]` and `[[metric, type, help, unit], …]`.
Deletion payload: int64 start, int64 end (start exclusive), int32 refs to the end. Payload of a segment's first record: int64 segment, int64
offset.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import orjson

from promlike.model.blocks import Float64, Int32, Int64
from promlike.model.exemplars import Exemplars
from promlike.storage.access import Metadata
from promlike.storage.store import Deletion, SeriesRecord, WalPosition

SEGMENT_MAGIC = b"promlkW1"
HEADER = struct.Struct("<IIB3xI")
_SAMPLES = struct.Struct("<IIq")
_DELETION = struct.Struct("<qq")
_EXEMPLARS = struct.Struct("<I4x")
_FOLLOWS = struct.Struct("<qq")


class RecordType(IntEnum):
    SAMPLES = 1
    SERIES = 2
    METADATA = 3
    EXEMPLARS = 4
    DELETE = 5
    FOLLOWS = 6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampleColumns:
    """Samples as they were appended: int32[N], int64[N], float64[N]."""

    refs: Int32
    ts_ms: Int64
    values: Float64


def padded(length: int) -> int:
    """A payload's length in the file."""
    return (length + 7) & ~7


def encode_record(kind: RecordType, payload: bytes) -> bytes:
    """A whole record, ready to be written."""
    crc = zlib.crc32(payload, kind)
    head = struct.pack("<IIB3x", len(payload), crc, kind)
    return b"".join((head, struct.pack("<I", zlib.crc32(head)), payload, b"\0" * (padded(len(payload)) - len(payload))))


def encode_segment_head(end: WalPosition) -> bytes:
    """The beginning of a segment's file, when the log ended there before."""
    return SEGMENT_MAGIC + encode_record(RecordType.FOLLOWS, _FOLLOWS.pack(end.segment, end.offset))


def encode_samples(refs: Int32, ts_ms: Int64, values: Float64) -> bytes:
    """A record of samples; N > 0."""
    base = int(ts_ms.min())
    narrow = int(ts_ms.max()) - base < 2**32
    times = (ts_ms - base).astype(np.uint32) if narrow else ts_ms
    head = _SAMPLES.pack(len(refs), 4 if narrow else 8, base)
    return encode_record(RecordType.SAMPLES, b"".join((head, refs.data, times.data, values.data)))


def encode_series(series: Sequence[SeriesRecord]) -> bytes:
    return encode_record(RecordType.SERIES, orjson.dumps([(record.ref, record.labels) for record in series]))


def encode_metadata(metadata: Sequence[Metadata]) -> bytes:
    return encode_record(RecordType.METADATA, orjson.dumps([(m.metric, m.type, m.help, m.unit) for m in metadata]))


def encode_exemplars(exemplars: Exemplars) -> bytes:
    """A record of exemplars; X > 0."""
    labels = [text.encode() for text in exemplars.labels]
    lengths = np.array([len(text) for text in labels], np.uint32)
    columns = (exemplars.refs.data, lengths.data, exemplars.ts_ms.data, exemplars.values.data)
    return encode_record(RecordType.EXEMPLARS, b"".join((_EXEMPLARS.pack(len(labels)), *columns, *labels)))


def encode_deletion(deletion: Deletion) -> bytes:
    return encode_record(RecordType.DELETE, _DELETION.pack(deletion.start_ms, deletion.end_ms) + deletion.refs.tobytes())


def decode_follows(payload: memoryview) -> WalPosition:
    """Where the log ended before a segment."""
    segment, offset = _FOLLOWS.unpack_from(payload)
    return WalPosition(segment=segment, offset=offset)


def decode_samples(payload: memoryview) -> SampleColumns:
    """The columns of a sample record; copies, so that the file's bytes can be let go."""
    count, width, base = _SAMPLES.unpack_from(payload)
    at = _SAMPLES.size
    refs = np.frombuffer(payload, np.int32, count, at)
    values = np.frombuffer(payload, np.float64, count, at + (4 + width) * count)
    if width == 4:
        ts_ms = np.frombuffer(payload, np.uint32, count, at + 4 * count).astype(np.int64) + base
    else:
        ts_ms = np.frombuffer(payload, np.int64, count, at + 4 * count).copy()
    return SampleColumns(refs=refs.copy(), ts_ms=ts_ms, values=values.copy())


def decode_exemplars(payload: memoryview) -> Exemplars:
    """The exemplars of a record; copies, so that the file's bytes can be let go."""
    (count,) = _EXEMPLARS.unpack_from(payload)
    at = _EXEMPLARS.size
    refs = np.frombuffer(payload, np.int32, count, at)
    lengths = np.frombuffer(payload, np.uint32, count, at + 4 * count)
    ts_ms = np.frombuffer(payload, np.int64, count, at + 8 * count)
    values = np.frombuffer(payload, np.float64, count, at + 16 * count)
    ends = (at + 24 * count + np.cumsum(lengths, dtype=np.int64)).tolist()
    starts = [at + 24 * count, *ends]
    labels = [str(payload[start:end], "utf-8") for start, end in zip(starts, ends, strict=False)]
    return Exemplars(refs=refs.copy(), ts_ms=ts_ms.copy(), values=values.copy(), labels=labels)


def decode_series(payload: memoryview) -> list[SeriesRecord]:
    return [SeriesRecord(ref=ref, labels=tuple((name, value) for name, value in pairs)) for ref, pairs in orjson.loads(payload)]


def decode_metadata(payload: memoryview) -> list[Metadata]:
    return [Metadata(metric=metric, type=kind, help=help_, unit=unit) for metric, kind, help_, unit in orjson.loads(payload)]


def decode_deletion(payload: memoryview) -> Deletion:
    """A copy, so that the file's bytes can be let go."""
    start_ms, end_ms = _DELETION.unpack_from(payload)
    return Deletion(refs=np.frombuffer(payload, np.int32, offset=_DELETION.size).copy(), start_ms=start_ms, end_ms=end_ms)
