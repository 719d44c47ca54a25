"""The slow, obvious twin of the decoder: the protobuf classes, walked label by label and sample by sample."""

import struct
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from promlike.model.labels import Labels
from promlike.remote_write.pb.remote_write_v1_pb2 import Label, MetricMetadata, WriteRequest
from tests.remote_write.sink import Row


def decode(data: bytes) -> list[Row] | None:
    """All samples of valid series in the body's order; None when the body is malformed."""
    try:
        request = WriteRequest.FromString(data)
    except DecodeError:
        return None
    rows: list[Row] = []
    for series in request.timeseries:
        rows += rows_of([(label.name, label.value) for label in series.labels], series.samples)
    return rows


def decode_shallow(data: bytes) -> list[Row] | None:
    """The same, but looking only at what is stored: not into histograms, nor labels of series without samples."""
    try:
        request = _SHALLOW.FromString(data)
        for metadata in request.metadata:
            MetricMetadata.FromString(metadata)
        rows: list[Row] = []
        for series in request.timeseries:
            if series.samples:
                parsed = [Label.FromString(label) for label in series.labels]
                rows += rows_of([(label.name, label.value) for label in parsed], series.samples)
    except DecodeError:
        return None
    return rows


def rows_of(pairs: list[tuple[bytes, bytes]], samples: Any) -> list[Row]:
    series = valid(pairs)
    if series is None:
        return []
    return [(series, sample.timestamp, struct.unpack("<Q", struct.pack("<d", sample.value))[0]) for sample in samples]


def valid(pairs: list[tuple[bytes, bytes]]) -> Labels | None:
    names = {name for name, _ in pairs}
    if b"" in names or len(names) < len(pairs) or not dict(pairs).get(b"__name__"):
        return None
    try:
        return tuple((name.decode(), value.decode()) for name, value in sorted(pairs) if value or not _utf8(name, value))
    except UnicodeDecodeError:
        return None


def _utf8(*texts: bytes) -> bool:
    for text in texts:
        text.decode()
    return True


def _shallow_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="shallow.proto", package="shallow", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto
    request, series, sample = (file.message_type.add(name=name) for name in ("Request", "Series", "Sample"))
    request.field.add(name="timeseries", number=1, label=field.LABEL_REPEATED, type=field.TYPE_MESSAGE, type_name=".shallow.Series")
    request.field.add(name="metadata", number=3, label=field.LABEL_REPEATED, type=field.TYPE_BYTES)
    series.field.add(name="labels", number=1, label=field.LABEL_REPEATED, type=field.TYPE_BYTES)
    series.field.add(name="samples", number=2, label=field.LABEL_REPEATED, type=field.TYPE_MESSAGE, type_name=".shallow.Sample")
    series.field.add(name="exemplars", number=3, label=field.LABEL_REPEATED, type=field.TYPE_BYTES)
    series.field.add(name="histograms", number=4, label=field.LABEL_REPEATED, type=field.TYPE_BYTES)
    sample.field.add(name="value", number=1, label=field.LABEL_OPTIONAL, type=field.TYPE_DOUBLE)
    sample.field.add(name="timestamp", number=2, label=field.LABEL_OPTIONAL, type=field.TYPE_INT64)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shallow.Request"))


_SHALLOW = _shallow_class()
