"""The labels of a series not seen before: parsed and checked, once."""

from itertools import pairwise

from google.protobuf.message import DecodeError

from promlike.errors import BadRequest, RejectReason, SampleRejected
from promlike.model.labels import METRIC_NAME, Labels, format_labels, quote
from promlike.remote_write.pb.remote_write_v1_pb2 import TimeSeries

MOST_LABEL_BYTES = 1 << 20
"""What the labels of one series may have. A body of millions of empty labels would otherwise take gigabytes and seconds to be refused."""


def parse_labels(data: bytes) -> Labels:
    """The labels in the bytes of a TimeSeries' label fields.

    Empty values mean that the label is absent. Raise SampleRejected when the labels are not those of a series, BadRequest when the
    bytes are no protobuf.
    """
    check_length(len(data))
    try:
        message = TimeSeries.FromString(data)
    except DecodeError as error:
        raise BadRequest(f"malformed protobuf in the labels {data[:200]!r}") from error
    return labels_of([(label.name, label.value) for label in message.labels])


def check_length(size: int) -> None:
    """Raise SampleRejected when labels of so many bytes are too long."""
    if size > MOST_LABEL_BYTES:
        raise SampleRejected(RejectReason.LABELS_TOO_LONG, f"labels of {size} bytes (limit {MOST_LABEL_BYTES})")


def labels_of(pairs: list[tuple[bytes, bytes]]) -> Labels:
    """The names and values of a series as they came. Raise SampleRejected when they are not those of a series."""
    return checked(decoded_pairs(pairs))


def decoded_pairs(pairs: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Names and values as text. Raise SampleRejected where one is no UTF-8."""
    return [(_name(name), _value(name, value)) for name, value in pairs]


def checked(pairs: list[tuple[str, str]]) -> Labels:
    """The pairs as Labels; raise SampleRejected naming what is wrong. Names may be any UTF-8, as in Prometheus 3.

    As in Prometheus, they may come in any order: senders ought to sort them, and some do not.
    """
    ordered = sorted(pairs)
    for (name, _), (following, _) in pairwise([("", ""), *ordered]):
        if not following:
            raise SampleRejected(RejectReason.INVALID_LABEL_NAME, f"empty label name in {_shown(pairs)}")
        if following == name:
            raise SampleRejected(RejectReason.DUPLICATE_LABEL_NAME, f"label name {quote(name)} twice in {_shown(pairs)}")
    series = tuple(pair for pair in ordered if pair[1])
    if not any(name == METRIC_NAME for name, _ in series):
        raise SampleRejected(RejectReason.MISSING_METRIC_NAME, f"no metric name in {_shown(pairs)}")
    return series


def _name(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise SampleRejected(RejectReason.INVALID_LABEL_NAME, f"label name is not valid UTF-8: {data[:200]!r}") from error


def _value(name: bytes, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        text = f"value of label {name[:200]!r} is not valid UTF-8: {data[:200]!r}"
        raise SampleRejected(RejectReason.INVALID_LABEL_VALUE, text) from error


def _shown(pairs: list[tuple[str, str]]) -> str:
    text = format_labels(tuple(pairs))
    return text if len(text) <= 500 else text[:500] + "…"
