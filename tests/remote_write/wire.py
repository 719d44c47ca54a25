"""Protobuf written by hand, so that tests can write what no library writes: any order, over-long varints, unknown and repeated fields."""

import struct
from collections.abc import Sequence

import cramjam

VARINT, FIXED64, LENGTH, START_GROUP, END_GROUP, FIXED32 = range(6)


def varint(value: int, *, padding: int = 0) -> bytes:
    """Little-endian base 128; negative numbers take ten bytes; `padding` bytes more than needed."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    for _ in range(padding):
        out[-1] |= 0x80
        out.append(0)
    return bytes(out)


def tag(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)


def message(number: int, payload: bytes, *, padding: int = 0) -> bytes:
    return tag(number, LENGTH) + varint(len(payload), padding=padding) + payload


def label(name: str | bytes, value: str | bytes) -> bytes:
    """A field `labels` of a TimeSeries."""
    name = name.encode() if isinstance(name, str) else name
    value = value.encode() if isinstance(value, str) else value
    return message(1, (message(1, name) if name else b"") + (message(2, value) if value else b""))


def labels(*pairs: tuple[str | bytes, str | bytes]) -> bytes:
    return b"".join(label(name, value) for name, value in pairs)


def value_field(value: float | bytes) -> bytes:
    return tag(1, FIXED64) + (value if isinstance(value, bytes) else struct.pack("<d", value))


def time_field(time_ms: int, *, padding: int = 0) -> bytes:
    return tag(2, VARINT) + varint(time_ms, padding=padding)


def sample(value: float, time_ms: int) -> bytes:
    """A field `samples` of a TimeSeries, zero fields left out as proto3 does."""
    bits = struct.pack("<d", value)
    return message(2, (value_field(bits) if bits != bytes(8) else b"") + (time_field(time_ms) if time_ms else b""))


def series(*fields: bytes) -> bytes:
    """A field `timeseries` of a WriteRequest."""
    return message(1, b"".join(fields))


def simple(metric: str, samples: Sequence[tuple[float, int]], **more: str) -> bytes:
    pairs = sorted({"__name__": metric, **more}.items())
    return series(labels(*pairs), *(sample(value, time_ms) for value, time_ms in samples))


def snappy(data: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(data))
