"""Messages of remote write 2.0 written by hand, see `wire.py`."""

from collections.abc import Sequence

from tests.remote_write import wire

CONTENT_TYPE = "application/x-protobuf;proto=io.prometheus.write.v2.Request"


def symbols(*texts: str | bytes) -> bytes:
    """Fields `symbols` of a Request."""
    return b"".join(wire.message(4, text.encode() if isinstance(text, str) else text) for text in texts)


def packed(refs: Sequence[int]) -> bytes:
    """A field `labels_refs` of a TimeSeries or Exemplar."""
    return wire.message(1, b"".join(wire.varint(ref) for ref in refs)) if refs else b""


def unpacked(refs: Sequence[int]) -> bytes:
    """The same, as encoders write it that do not pack."""
    return b"".join(wire.tag(1, wire.VARINT) + wire.varint(ref) for ref in refs)


def metadata(kind: int, help_ref: int = 0, unit_ref: int = 0) -> bytes:
    """A field `metadata` of a TimeSeries."""
    fields = ((1, kind), (3, help_ref), (4, unit_ref))
    return wire.message(5, b"".join(wire.tag(number, wire.VARINT) + wire.varint(value) for number, value in fields if value))


def series(refs: Sequence[int], *fields: bytes) -> bytes:
    """A field `timeseries` of a Request."""
    return wire.message(5, packed(refs) + b"".join(fields))


def request(texts: Sequence[str | bytes], *timeseries: bytes) -> bytes:
    return symbols(*texts) + b"".join(timeseries)
