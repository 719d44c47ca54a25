"""Every legal body decodes to what the protobuf classes say; every illegal one is refused whole."""

import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promlike.errors import BadRequest, PayloadTooLarge, RejectReason
from promlike.model.blocks import STALE_BITS
from promlike.model.labels import Labels
from promlike.remote_write.decode_v1 import DecoderV1
from promlike.remote_write.scan import DecodedWrite
from promlike.storage.access import Metadata
from tests.remote_write import slow_decode, wire
from tests.remote_write.sink import ListSink, Row

T = 1_700_000_000_000
UP: Labels = (("__name__", "up"), ("job", "api"))


class Decoding:
    """A decoder with its sink; `rows` decodes a body and spells its samples out."""

    def __init__(self) -> None:
        self.sink = ListSink()
        self.decoder = DecoderV1(self.sink.series_ref)

    def decode(self, data: bytes) -> DecodedWrite:
        return self.decoder.decode(wire.snappy(data))

    def rows(self, data: bytes) -> list[Row]:
        decoded = self.decode(data)
        return self.sink.rows_of(decoded.refs, decoded.ts_ms, decoded.values)


@pytest.fixture
def decoding() -> Decoding:
    return Decoding()


def bits(value: float) -> int:
    found: int = struct.unpack("<Q", struct.pack("<d", value))[0]
    return found


UP_LABELS = wire.labels(("__name__", "up"), ("job", "api"))

BODIES: dict[str, tuple[bytes, list[Row]]] = {
    "nothing": (b"", []),
    "one sample": (wire.series(UP_LABELS, wire.sample(1.5, T)), [(UP, T, bits(1.5))]),
    "value zero is left out": (wire.series(UP_LABELS, wire.message(2, wire.time_field(T))), [(UP, T, 0)]),
    "time zero is left out": (wire.series(UP_LABELS, wire.message(2, wire.value_field(2.0))), [(UP, 0, bits(2.0))]),
    "value and time zero": (wire.series(UP_LABELS, wire.message(2, b"")), [(UP, 0, 0)]),
    "negative zero": (wire.series(UP_LABELS, wire.sample(-0.0, T)), [(UP, T, 1 << 63)]),
    "negative time": (wire.series(UP_LABELS, wire.sample(3.0, -5)), [(UP, -5, bits(3.0))]),
    "first and last time": (
        wire.series(UP_LABELS, wire.sample(1.0, -(2**63)), wire.sample(2.0, 2**63 - 1)),
        [(UP, -(2**63), bits(1.0)), (UP, 2**63 - 1, bits(2.0))],
    ),
    "times of five and seven bytes": (
        wire.series(UP_LABELS, wire.sample(1.0, 2**35 - 1), wire.sample(2.0, 2**35), wire.sample(3.0, 2**42 - 1), wire.sample(4.0, 2**42)),
        [(UP, 2**35 - 1, bits(1.0)), (UP, 2**35, bits(2.0)), (UP, 2**42 - 1, bits(3.0)), (UP, 2**42, bits(4.0))],
    ),
    "several samples": (
        wire.simple("up", [(1.0, T), (2.0, T + 1), (3.0, T + 2)], job="api"),
        [(UP, T, bits(1.0)), (UP, T + 1, bits(2.0)), (UP, T + 2, bits(3.0))],
    ),
    "the same series twice": (wire.simple("up", [(1.0, T)], job="api") * 2, [(UP, T, bits(1.0))] * 2),
    "time before value": (
        wire.series(UP_LABELS, wire.message(2, wire.time_field(T) + wire.value_field(7.0))),
        [(UP, T, bits(7.0))],
    ),
    "the last of repeated fields": (
        wire.series(UP_LABELS, wire.message(2, wire.value_field(1.0) + wire.time_field(1) + wire.value_field(2.0) + wire.time_field(T))),
        [(UP, T, bits(2.0))],
    ),
    "labels after samples": (wire.series(wire.sample(1.0, T), UP_LABELS), [(UP, T, bits(1.0))]),
    "labels around samples": (
        wire.series(wire.label("__name__", "up"), wire.sample(1.0, T), wire.label("job", "api"), wire.sample(2.0, T + 1)),
        [(UP, T, bits(1.0)), (UP, T + 1, bits(2.0))],
    ),
    "value of a label before its name": (
        wire.series(wire.message(1, wire.message(2, b"up") + wire.message(1, b"__name__")), wire.label("job", "api"), wire.sample(1.0, T)),
        [(UP, T, bits(1.0))],
    ),
    "exemplars and histograms": (
        wire.series(UP_LABELS, wire.message(3, wire.label("trace", "x")), wire.sample(1.0, T), wire.message(4, wire.time_field(T))),
        [(UP, T, bits(1.0))],
    ),
    "no sample": (wire.series(UP_LABELS), []),
    "empty series": (wire.series(), []),
    "empty label value": (wire.simple("up", [(1.0, T)], job="api", zone=""), [(UP, T, bits(1.0))]),
    "over-long length of a series": (wire.message(1, UP_LABELS + wire.sample(1.0, T), padding=2), [(UP, T, bits(1.0))]),
    "over-long length of a sample": (
        wire.series(UP_LABELS, wire.message(2, wire.value_field(1.0) + wire.time_field(T), padding=3)),
        [(UP, T, bits(1.0))],
    ),
    "over-long time": (
        wire.series(UP_LABELS, wire.message(2, wire.value_field(1.0) + wire.time_field(T, padding=4))),
        [(UP, T, bits(1.0))],
    ),
    "a tag in more bytes than it needs": (b"\x8a\x00" + wire.simple("up", [(1.0, T)], job="api")[1:], [(UP, T, bits(1.0))]),
    "unknown fields of a request": (
        wire.tag(2, wire.VARINT)
        + wire.varint(300)
        + wire.series(UP_LABELS, wire.sample(1.0, T))
        + wire.message(1000, b"later")
        + wire.tag(9, wire.FIXED64)
        + bytes(8)
        + wire.tag(10, wire.FIXED32)
        + bytes(4),
        [(UP, T, bits(1.0))],
    ),
    "unknown fields of a series": (
        wire.series(wire.tag(9, wire.VARINT) + b"\x01", UP_LABELS, wire.message(77, b"x"), wire.sample(1.0, T)),
        [(UP, T, bits(1.0))],
    ),
    "unknown fields of a sample": (
        wire.series(UP_LABELS, wire.message(2, wire.tag(3, wire.VARINT) + b"\x05" + wire.value_field(1.0) + wire.time_field(T))),
        [(UP, T, bits(1.0))],
    ),
    "a known field of another wire type": (
        wire.series(UP_LABELS, wire.message(2, wire.tag(1, wire.VARINT) + b"\x05" + wire.value_field(1.0) + wire.time_field(T))),
        [(UP, T, bits(1.0))],
    ),
    "groups": (
        wire.tag(5, wire.START_GROUP)
        + wire.tag(1, wire.VARINT)
        + b"\x01"
        + wire.tag(5, wire.END_GROUP)
        + wire.series(UP_LABELS, wire.sample(1.0, T)),
        [(UP, T, bits(1.0))],
    ),
    "stale marker": (
        wire.series(UP_LABELS, wire.message(2, wire.value_field(struct.pack("<Q", int(STALE_BITS))) + wire.time_field(T))),
        [(UP, T, int(STALE_BITS))],
    ),
    "signalling NaN with a payload, in an odd body": (
        wire.series(
            wire.message(2, wire.value_field(struct.pack("<Q", 0x7FF4000000000123)) + wire.time_field(T)),
            UP_LABELS,
        ),
        [(UP, T, 0x7FF4000000000123)],
    ),
    "names of any UTF-8": (
        wire.series(wire.labels(("__name__", "température.été"), ("größe in m", "日本")), wire.sample(1.0, T)),
        [((("__name__", "température.été"), ("größe in m", "日本")), T, bits(1.0))],
    ),
    "labels in no order": (
        wire.series(wire.labels(("job", "api"), ("__name__", "up")), wire.sample(1.0, T)) + wire.simple("up", [(2.0, T + 1)], job="api"),
        [(UP, T, bits(1.0)), (UP, T + 1, bits(2.0))],
    ),
    "a name before __name__": (
        wire.series(wire.labels(("A", "1"), ("__name__", "up")), wire.sample(1.0, T)),
        [((("A", "1"), ("__name__", "up")), T, bits(1.0))],
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_legal_body(decoding: Decoding, name: str) -> None:
    data, expected = BODIES[name]
    for _ in range(3):  # unseen, found by hash, found as the follower of the last series
        assert decoding.rows(data) == expected
    decoded = decoding.decode(data)
    assert not decoded.problems
    assert not decoded.rejected
    rows = slow_decode.decode(data)
    assert rows is not None
    assert [row for row in rows if not is_signalling(row[2])] == [row for row in expected if not is_signalling(row[2])]


def is_signalling(value_bits: int) -> bool:
    """A NaN that Python's floats make quiet on the way through the slow decoder."""
    return value_bits & 0x7FF0000000000000 == 0x7FF0000000000000 and 0 < value_bits & 0xFFFFFFFFFFFFF < 1 << 51


def test_all_legal_bodies_after_one_another(decoding: Decoding) -> None:
    data = b"".join(data for data, _ in BODIES.values())
    assert decoding.rows(data) == [row for _, rows in BODIES.values() for row in rows]


INVALID = {
    "no labels": (b"", RejectReason.MISSING_METRIC_NAME, "series 1: no metric name in {}"),
    "no metric name": (wire.labels(("job", "x")), RejectReason.MISSING_METRIC_NAME, 'series 1: no metric name in {job="x"}'),
    "empty metric name": (wire.labels(("__name__", "")), RejectReason.MISSING_METRIC_NAME, 'series 1: no metric name in {__name__=""}'),
    "empty label name": (
        wire.labels(("", "x"), ("__name__", "m")),
        RejectReason.INVALID_LABEL_NAME,
        'series 1: empty label name in {="x", __name__="m"}',
    ),
    "twice": (
        wire.labels(("__name__", "m"), ("a", "1"), ("a", "2")),
        RejectReason.DUPLICATE_LABEL_NAME,
        'series 1: label name "a" twice in {__name__="m", a="1", a="2"}',
    ),
    "twice, apart": (
        wire.labels(("b", "1"), ("__name__", "m"), ("b", "2")),
        RejectReason.DUPLICATE_LABEL_NAME,
        'series 1: label name "b" twice in {b="1", __name__="m", b="2"}',
    ),
    "twice, once empty": (
        wire.labels(("__name__", "m"), ("a", ""), ("a", "2")),
        RejectReason.DUPLICATE_LABEL_NAME,
        'series 1: label name "a" twice in {__name__="m", a="", a="2"}',
    ),
    "name not UTF-8": (
        wire.labels(("__name__", "m"), (b"a\xff", "1")),
        RejectReason.INVALID_LABEL_NAME,
        "series 1: label name is not valid UTF-8: b'a\\xff'",
    ),
    "value not UTF-8": (
        wire.labels(("__name__", "m"), ("a", b"\xc3")),
        RejectReason.INVALID_LABEL_VALUE,
        "series 1: value of label b'a' is not valid UTF-8: b'\\xc3'",
    ),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_series_is_refused_beside_valid_ones(decoding: Decoding, name: str) -> None:
    label_bytes, reason, problem = INVALID[name]
    data = (
        wire.simple("up", [(1.0, T)], job="api")
        + wire.series(label_bytes, wire.sample(1.0, T), wire.sample(2.0, T + 1))
        + wire.simple("up", [(2.0, T + 2)], job="api")
    )
    for _ in range(2):
        decoded = decoding.decode(data)
        assert decoding.sink.rows_of(decoded.refs, decoded.ts_ms, decoded.values) == [(UP, T, bits(1.0)), (UP, T + 2, bits(2.0))]
        assert decoded.problems == [problem]
        assert decoded.rejected == {reason: 2}
    assert list(decoding.sink.refs) == [UP]


def test_long_series_are_cut_in_messages(decoding: Decoding) -> None:
    decoded = decoding.decode(wire.series(wire.labels(("a", "x" * 10_000)), wire.sample(1.0, T)))
    assert len(decoded.problems[0]) < 600


def test_labels_that_are_too_long_are_refused_without_reading_them(decoding: Decoding) -> None:
    good = wire.simple("up", [(1.0, T)], job="api")
    decoded = decoding.decode(wire.series(wire.label("", "") * 600_000, wire.sample(1.0, T)) + good)
    assert decoded.problems == ["series 0: labels of 1200000 bytes (limit 1048576)"]
    assert decoded.rejected == {RejectReason.LABELS_TOO_LONG: 1}
    assert len(decoded.refs) == 1


GOOD = wire.simple("up", [(1.0, T)], job="api")

MALFORMED = {
    "a tag alone": (GOOD + b"\x0a", f"malformed protobuf in prometheus.WriteRequest: series 1, at byte {len(GOOD)} of {len(GOOD) + 1}"),
    "a series that goes on past the end": (
        GOOD + b"\x0a\x20\x0a",
        f"malformed protobuf in prometheus.WriteRequest: series 1, at byte {len(GOOD)} of {len(GOOD) + 3}",
    ),
    "a sample that goes on past its series": (wire.series(UP_LABELS, b"\x12\x20\x09"), "series 0, at byte 0"),
    "a label that goes on past its series": (wire.series(b"\x0a\x20\x0a"), "series 0, at byte 0"),
    "a value that goes on past its sample": (wire.series(UP_LABELS, wire.message(2, b"\x09\x00\x00")), "series 0, at byte 0"),
    "a time of eleven bytes": (wire.series(UP_LABELS, wire.message(2, b"\x10" + b"\xff" * 10 + b"\x01")), "series 0, at byte 0"),
    "field number zero": (b"\x00\x01", "series 0, at byte 0 of 2"),
    "a group without an end": (wire.tag(5, wire.START_GROUP), "series 0, at byte 0 of 1"),
    "a broken label": (
        wire.series(wire.message(1, b"\x0a\x7f"), wire.sample(1.0, T)),
        "malformed protobuf in the labels b'\\n\\x02\\n\\x7f'",
    ),
    "a broken exemplar": (
        wire.series(UP_LABELS, wire.message(3, b"\x11\x00"), wire.sample(1.0, T)),
        "malformed protobuf in an exemplar of series 1: b'\\x11\\x00'",
    ),
    "broken metadata": (wire.message(3, b"\x12\x7f"), "malformed protobuf in the metadata b'\\x12\\x7f'"),
    "text": (b"hello, this is no protobuf", "series 0, at byte 2 of 26"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_body_is_refused_whole(decoding: Decoding, name: str) -> None:
    data, text = MALFORMED[name]
    assert slow_decode.decode(data) is None
    with pytest.raises(BadRequest) as caught:
        decoding.decode(GOOD + data if "at byte" not in text else data)
    assert text in str(caught.value)
    assert not decoding.sink.refs


BLOCKS = {
    "nothing": (b"", "malformed snappy block of 0 bytes: its header is not a size"),
    "no header": (b"\xff" * 9, "malformed snappy block of 9 bytes: its header is not a size"),
    "truncated": (wire.snappy(GOOD)[:-2], "malformed snappy block"),
    "bytes after the end": (wire.snappy(GOOD) + b"\x00x", "malformed snappy block"),
    "not compressed": (GOOD, "malformed snappy block"),
    "says less than it has": (b"\x04\x10hello", "malformed snappy block of 7 bytes"),
    "says more than it has": (b"\x06\x10hello", "malformed snappy block of 7 bytes"),
    "says nothing, has some": (b"\x00\x10hello", "malformed snappy block of 7 bytes"),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_malformed_block_is_refused(decoding: Decoding, name: str) -> None:
    block, text = BLOCKS[name]
    with pytest.raises(BadRequest) as caught:
        decoding.decoder.decode(block)
    assert text in str(caught.value)


@pytest.mark.parametrize("size", [(32 << 20) + 1, 2**32 - 1])
def test_a_bomb_is_refused_by_its_header(decoding: Decoding, size: int) -> None:
    with pytest.raises(PayloadTooLarge) as caught:
        decoding.decoder.decode(wire.varint(size) + b"\x10hello")
    assert str(caught.value) == f"the decoded body would have {size} bytes, allowed are 33554432"


def test_a_body_of_the_largest_size_is_taken(decoding: Decoding) -> None:
    data = wire.message(15, bytes((32 << 20) - 5))
    assert len(data) == 32 << 20
    assert decoding.rows(data) == []


def test_many_empty_samples_need_more_room_than_expected(decoding: Decoding) -> None:
    data = wire.series(UP_LABELS, b"\x12\x00" * 10_000) + b"\x0a\x00" * 10_000
    assert decoding.rows(data) == [(UP, 0, 0)] * 10_000


def test_metadata(decoding: Decoding) -> None:
    def field(number: int, text: bytes) -> bytes:
        return wire.message(number, text)

    data = (
        wire.message(3, b"\x08\x01" + field(2, b"requests_total") + field(4, b"How many.") + field(5, b"requests"))
        + GOOD
        + wire.message(3, b"\x08\x63" + field(2, b"odd") + field(4, b"\xff"))
        + wire.message(3, field(4, b"of no metric"))
        + wire.message(3, field(2, b"plain"))
    )
    decoded = decoding.decode(data)
    assert decoded.metadata == [
        Metadata(metric="requests_total", type="counter", help="How many.", unit="requests"),
        Metadata(metric="odd", type="unknown", help="\ufffd"),
        Metadata(metric="plain", type="unknown", help=""),
    ]
    assert decoding.sink.rows_of(decoded.refs, decoded.ts_ms, decoded.values) == [(UP, T, bits(1.0))]


def exemplar(labels: bytes, value: float, time_ms: int) -> bytes:
    """A field `exemplars` of a TimeSeries."""
    return wire.message(3, labels + wire.tag(2, wire.FIXED64) + struct.pack("<d", value) + wire.tag(3, wire.VARINT) + wire.varint(time_ms))


TRACED = exemplar(wire.labels(("trace_id", "abc"), ("span", "")), 0.5, T - 3)


def test_exemplars_are_read_and_histograms_counted(decoding: Decoding) -> None:
    bare, histogram = wire.message(3, b""), wire.message(4, wire.time_field(T))
    other = wire.series(wire.labels(("__name__", "other")), TRACED)
    for order in ((UP_LABELS, TRACED, bare, histogram), (TRACED, UP_LABELS, histogram, bare)):
        for _ in range(2):
            decoded = decoding.decode(wire.series(*order) + other + wire.series(UP_LABELS, wire.sample(1.0, T)))
            rows = decoded.exemplars
            names = list(decoding.sink.refs)
            assert [names[ref] for ref in rows.refs.tolist()] == [UP, UP, (("__name__", "other"),)]
            assert (rows.ts_ms.tolist(), rows.values.tolist()) == ([T - 3, 0, T - 3], [0.5, 0.0, 0.5])
            assert rows.labels == ['{"trace_id":"abc"}', "{}", '{"trace_id":"abc"}']
            assert (decoded.histograms, len(decoded.refs), decoded.exemplar_problems) == (1, 1, [])


def test_refused_exemplars_cost_nothing_else(decoding: Decoding) -> None:
    long = exemplar(wire.labels(("trace_id", "x" * 200)), 1.0, T)
    broken = exemplar(wire.labels(("trace_id", b"\xff")), 1.0, T)
    nameless = wire.series(wire.labels(("job", "x")), TRACED, wire.sample(1.0, T))
    decoded = decoding.decode(wire.series(UP_LABELS, long, TRACED, broken, wire.sample(1.0, T)) + nameless)
    assert decoding.sink.rows_of(decoded.refs, decoded.ts_ms, decoded.values) == [(UP, T, bits(1.0))]
    assert decoded.exemplars.labels == ['{"trace_id":"abc"}']
    assert decoded.exemplar_problems == [
        'series 0: the labels of an exemplar have 208 characters (limit 128), the first is "trace_id"',
        "series 0: value of label b'trace_id' is not valid UTF-8: b'\\xff'",
        'series 1: no metric name in {job="x"}',
    ]
    assert decoded.exemplars_rejected == {
        RejectReason.EXEMPLAR_LABELS_TOO_LONG: 1,
        RejectReason.INVALID_LABEL_VALUE: 1,
        RejectReason.MISSING_METRIC_NAME: 1,
    }
    assert decoded.rejected == {RejectReason.MISSING_METRIC_NAME: 1}


def test_label_bytes_that_differ_may_be_one_series(decoding: Decoding) -> None:
    plain = wire.series(UP_LABELS, wire.sample(1.0, T))
    other = wire.series(UP_LABELS, wire.label("zone", ""), wire.sample(2.0, T))
    assert [row[0] for row in decoding.rows(plain + other)] == [UP, UP]
    assert len(decoding.sink.refs) == 1
    assert decoding.decoder.table.count == 2


# --- any body whatever -----------------------------------------------------------------------------------------------------------------

texts = st.sampled_from(["a", "b", "job", "le", "0.5", "+Inf", "x" * 130, "ü", ""])
pairs_of_series = st.dictionaries(texts.filter(bool), texts, max_size=4).flatmap(
    lambda pairs: st.sampled_from(["up", "m", "n" * 200]).map(lambda metric: sorted({**pairs, "__name__": metric}.items()))
)
times = st.one_of(st.integers(T, T + 1000), st.integers(-(2**63), 2**63 - 1), st.just(0))
values = st.floats(width=64, allow_nan=False) | st.just(0.0)
unknown = st.sampled_from(
    [
        b"",
        b"",
        wire.tag(20, wire.VARINT) + wire.varint(-1),
        wire.message(21, b"\x0a\x02hi"),
        wire.tag(22, wire.FIXED32) + b"abcd",
        wire.tag(23, wire.FIXED64) + b"abcdefgh",
        wire.tag(24, wire.START_GROUP) + wire.message(1, b"x") + wire.tag(24, wire.END_GROUP),
    ]
)


@st.composite
def samples(draw: st.DrawFn) -> bytes:
    time_ms = draw(times)
    padding = draw(st.sampled_from([0, 0, 1])) if 0 <= time_ms < 2**56 else 0  # ten bytes are the most a varint may have
    fields = [wire.value_field(draw(values)), wire.time_field(time_ms, padding=padding)]
    kept = draw(st.lists(st.sampled_from(fields), max_size=3) if draw(st.integers(0, 4)) == 0 else st.just(fields))
    if draw(st.integers(0, 9)) == 0:
        kept = [*kept, draw(unknown)]
    return wire.message(2, b"".join(kept), padding=draw(st.sampled_from([0, 0, 0, 1])))


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    parts: list[bytes] = []
    for _ in range(draw(st.integers(0, 5))):
        pairs = draw(pairs_of_series)
        fields = [wire.label(*pair) for pair in pairs] + draw(st.lists(samples(), max_size=4))
        fields += draw(st.lists(st.sampled_from([wire.message(3, wire.value_field(1.0)), wire.message(4, b"")]), max_size=2))
        style = draw(st.integers(0, 5))
        if style == 0:
            fields = draw(st.permutations([*fields, draw(unknown)]))
        parts.append(wire.message(1, b"".join(fields), padding=draw(st.sampled_from([0, 0, 1]))))
    if draw(st.integers(0, 3)) == 0:
        parts += [draw(unknown), wire.message(3, wire.message(2, b"m"))]
        parts = list(draw(st.permutations(parts)))
    return b"".join(parts)


LASTING = Decoding()
"""Keeps its table over all examples, so that series are unseen, found and followed in every order."""


@given(bodies())
@settings(max_examples=600, deadline=None)
def test_any_body_decodes_as_the_protobuf_classes_read_it(data: bytes) -> None:
    expected = slow_decode.decode(data)
    assert expected is not None
    for _ in range(2):
        assert LASTING.rows(data) == expected
    assert Decoding().rows(data) == expected


def check_damaged(data: bytes) -> None:
    """What is damaged decodes as the protobuf classes read it, or is refused as they refuse it."""
    expected = slow_decode.decode(data)
    try:
        found = LASTING.rows(data)
    except BadRequest:
        assert expected is None, data
        return
    if expected is None:
        expected = slow_decode.decode_shallow(data)
    assert found == expected, data


SAMPLE_BODY = (
    wire.simple("up", [(1.0, T), (0.0, T + 1)], job="api")
    + wire.series(UP_LABELS, wire.message(3, wire.label("t", "x") + wire.value_field(1.0)), wire.sample(2.0, -1))
    + wire.message(3, b"\x08\x01" + wire.message(2, b"m"))
    + wire.series(wire.sample(5.0, T), wire.label("__name__", "late"))
)


def test_truncation_at_every_byte() -> None:
    for end in range(len(SAMPLE_BODY)):
        check_damaged(SAMPLE_BODY[:end])


def test_every_byte_replaced() -> None:
    for at in range(len(SAMPLE_BODY)):
        for mask in (*(1 << bit for bit in range(8)), 0xFF, SAMPLE_BODY[at]):
            damaged = bytearray(SAMPLE_BODY)
            damaged[at] ^= mask
            check_damaged(bytes(damaged))


@given(bodies(), st.randoms(use_true_random=False))
@settings(max_examples=400, deadline=None)
def test_bodies_damaged_at_random(data: bytes, random_source: random.Random) -> None:
    damaged = bytearray(data)
    for _ in range(random_source.randint(1, 3)):
        if not damaged:
            break
        at = random_source.randrange(len(damaged))
        action = random_source.randrange(3)
        if action == 0:
            damaged[at] = random_source.randrange(256)
        elif action == 1:
            del damaged[at]
        else:
            damaged.insert(at, random_source.randrange(256))
    check_damaged(bytes(damaged))


def test_every_byte_of_a_block_replaced(decoding: Decoding) -> None:
    """Damage that snappy cannot see gives another body; then that body must be what the protobuf classes read."""
    block = wire.snappy(SAMPLE_BODY * 3)
    for at in range(len(block)):
        for mask in (1, 0x10, 0x80, 0xFF):
            damaged = bytearray(block)
            damaged[at] ^= mask
            try:
                decoded = decoding.decoder.decode(bytes(damaged))
            except BadRequest:
                continue
            assert np.isin(decoded.refs, list(decoding.sink.refs.values())).all()
