"""Samples as delimited protobuf messages `io.prometheus.client.MetricFamily`, byte for byte as Prometheus writes them for federation.

Axis letters: S series.
"""

import struct
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

import numpy as np

from promlike.api.accept import Escaping
from promlike.api.federate_names import label_name, metric_name
from promlike.model.blocks import Float64, Int64
from promlike.model.frame import LabelFrame
from promlike.model.labels import METRIC_NAME, Labels

_UNTYPED = b"\x18\x03"  # field 3, `type`, of a family
_VALUE = b"\x2a\x09\x09"  # field 5, `untyped`, of a metric: a message with a double in field 1
_TIME = b"\x30"  # field 6, `timestamp_ms`, of a metric
_NAME, _VALUE_OF_LABEL, _LABEL, _METRIC = 1, 2, 1, 4


def federate_protobuf(labels: LabelFrame, ts_ms: Int64, values: Float64, external: Labels, escaping: Escaping) -> bytes:
    """As `federate_text`, in families of untyped metrics."""
    names = labels.symbols.texts(labels.column(METRIC_NAME))
    families = groupby(zip(names, _metrics(labels, ts_ms, values, external, escaping), strict=True), key=itemgetter(0))
    return b"".join(_family(metric_name(name, escaping), b"".join(metric for _, metric in metrics)) for name, metrics in families)


def _family(name: str, metrics: bytes) -> bytes:
    body = _field(_NAME, name.encode()) + _UNTYPED + metrics
    return _varint(len(body)) + body


def _metrics(labels: LabelFrame, ts_ms: Int64, values: Float64, external: Labels, escaping: Escaping) -> Iterator[bytes]:
    columns = [_column(labels, name, escaping) for name in labels.names if name != METRIC_NAME]
    columns += [_missing(labels, name, value, escaping) for name, value in sorted({"instance": "", **dict(external)}.items())]
    for pairs, at, value in zip(zip(*columns, strict=True), ts_ms.tolist(), values.tolist(), strict=True):
        yield _field(_METRIC, b"".join(pairs) + _VALUE + struct.pack("<d", value) + _TIME + _varint(at))


def _column(labels: LabelFrame, name: str, escaping: Escaping) -> list[bytes]:
    """The label of each series that has it, else nothing."""
    codes, rows = np.unique(labels.column(name), return_inverse=True)
    pairs = [_pair(name, text, escaping) if code else b"" for code, text in zip(codes.tolist(), labels.symbols.texts(codes), strict=True)]
    return [pairs[row] for row in rows.tolist()]


def _missing(labels: LabelFrame, name: str, value: str, escaping: Escaping) -> list[bytes]:
    """An external label for each series that does not have it."""
    pair = _pair(name, value, escaping)
    return [b"" if code else pair for code in labels.column(name).tolist()]


def _pair(name: str, value: str, escaping: Escaping) -> bytes:
    return _field(_LABEL, _field(_NAME, label_name(name, escaping).encode()) + _field(_VALUE_OF_LABEL, value.encode()))


def _field(number: int, payload: bytes) -> bytes:
    """A field of bytes."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(number: int) -> bytes:
    number &= 2**64 - 1
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
