"""What the receiver answers, and what it has stored then."""

from http import HTTPStatus

import pytest

from promlike.errors import RejectReason
from promlike.remote_write.receiver import MESSAGES, RemoteWriteReceiver, negotiate
from promlike.storage.access import Metadata
from tests.remote_write import wire, wire2
from tests.remote_write.sink import ListSink

T = 1_700_000_000_000
GOOD = wire.simple("up", [(1.0, T)], job="api")
BAD = wire.series(wire.labels(("job", "x")), wire.sample(1.0, T))


async def test_success_says_nothing() -> None:
    sink = ListSink()
    receiver = RemoteWriteReceiver(sink)
    outcome = await receiver.write(wire.snappy(GOOD), content_type="application/x-protobuf", content_encoding="snappy")
    assert (outcome.status, outcome.text, outcome.samples) == (HTTPStatus.NO_CONTENT, "", 1)
    assert [row[:2] for row in sink.rows] == [((("__name__", "up"), ("job", "api")), T)]
    assert receiver.known_series == 1


async def test_valid_series_are_stored_beside_refused_ones() -> None:
    sink = ListSink(refuse=frozenset({"many"}))
    receiver = RemoteWriteReceiver(sink)
    outcome = await receiver.write(wire.snappy(BAD + GOOD + wire.simple("many", [(1.0, T), (2.0, T)])))
    assert outcome.status == HTTPStatus.BAD_REQUEST
    assert outcome.text == 'series 0: no metric name in {job="x"}\nseries 2: too many series of many'
    assert len(sink.rows) == 1
    assert receiver.counters.rejected == {RejectReason.MISSING_METRIC_NAME: 1, RejectReason.TOO_MANY_SERIES: 2}
    assert receiver.counters.samples == 1


async def test_only_the_first_problems_are_named() -> None:
    outcome = await RemoteWriteReceiver(ListSink()).write(wire.snappy(BAD * 25))
    assert len(outcome.text.splitlines()) == 11
    assert outcome.text.endswith("\nand 15 more")


async def test_times_that_storage_refuses_are_told() -> None:
    sink = ListSink(before_ms=T)
    outcome = await RemoteWriteReceiver(sink).write(wire.snappy(wire.simple("up", [(1.0, T), (2.0, 5)])))
    assert outcome.status == HTTPStatus.BAD_REQUEST
    assert outcome.text == "1 of 2 samples have times that storage does not take"
    assert len(sink.rows) == 1


async def test_malformed_is_not_repeated_and_unavailable_is() -> None:
    malformed = await RemoteWriteReceiver(ListSink()).write(wire.snappy(GOOD + b"\x0a\x7f"))
    assert malformed.status == HTTPStatus.BAD_REQUEST
    unavailable = await RemoteWriteReceiver(ListSink(unavailable=True)).write(wire.snappy(GOOD))
    assert (unavailable.status, unavailable.text) == (HTTPStatus.SERVICE_UNAVAILABLE, "the disk is full")
    large = await RemoteWriteReceiver(ListSink(), max_decoded_bytes=10).write(wire.snappy(GOOD))
    assert large.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


async def test_metadata_is_kept_and_what_is_not_stored_is_counted() -> None:
    sink = ListSink()
    receiver = RemoteWriteReceiver(sink)
    series = wire.series(wire.label("__name__", "m"), wire.message(3, b""))
    outcome = await receiver.write(wire.snappy(series + wire.message(3, b"\x08\x02" + wire.message(2, b"m"))))
    assert outcome.status == HTTPStatus.NO_CONTENT
    assert sink.metadata == [Metadata(metric="m", type="gauge", help="")]
    counters = receiver.counters
    assert (counters.exemplars, counters.metadata, counters.samples) == (1, 1, 0)
    assert sink.exemplars == [((("__name__", "m"),), 0, 0.0, "{}")]
    assert outcome.exemplars == 1
    assert counters.requests == {204: 1}


TOO_LONG = wire.label("trace_id", "x" * 200)


async def test_refused_exemplars_are_told_to_senders_of_version_2_only(caplog: pytest.LogCaptureFixture) -> None:
    """A 400 means to others that samples were refused."""
    sink = ListSink(before_ms=T)
    receiver = RemoteWriteReceiver(sink)
    good, old = wire.tag(3, wire.VARINT) + wire.varint(T), wire.tag(3, wire.VARINT) + wire.varint(T - 1)
    first = wire.series(wire.label("__name__", "m"), wire.sample(1.0, T), *(wire.message(3, part) for part in (TOO_LONG, good, old)))
    for _ in range(2):
        outcome = await receiver.write(wire.snappy(first))
        assert (outcome.status, outcome.samples, outcome.exemplars) == (HTTPStatus.NO_CONTENT, 1, 1)
    refs = wire2.packed([3, 4])
    second = wire2.request(
        ["", "__name__", "m", "trace_id", "x" * 200],
        wire2.series([1, 2], wire.sample(1.0, T), *(wire.message(4, part) for part in (refs + good, good, old))),
    )
    outcome = await receiver.write(wire.snappy(second), content_type=wire2.CONTENT_TYPE)
    assert (outcome.status, outcome.samples, outcome.exemplars) == (HTTPStatus.BAD_REQUEST, 1, 1)
    assert outcome.text == (
        'series 0: the labels of an exemplar have 208 characters (limit 128), the first is "trace_id"\n'
        "1 of 2 exemplars have times that storage does not take"
    )
    assert receiver.counters.exemplars_rejected == {RejectReason.EXEMPLAR_LABELS_TOO_LONG: 3}
    assert receiver.counters.exemplars == 9
    assert [record.message.count("exemplars are refused") for record in caplog.records] == [1]


HISTOGRAMS = [
    (GOOD + wire.series(wire.label("__name__", "h"), wire.message(4, b""), wire.message(4, b"")), ""),
    (
        wire2.request(
            ["", "__name__", "up", "h"], wire2.series([1, 2], wire.sample(1.0, T)), wire2.series([1, 3], wire.message(3, b"") * 2)
        ),
        wire2.CONTENT_TYPE,
    ),
]


@pytest.mark.parametrize(("body", "content_type"), HISTOGRAMS)
async def test_native_histograms_are_refused_beside_samples_that_are_kept(
    body: bytes, content_type: str, caplog: pytest.LogCaptureFixture
) -> None:
    sink = ListSink()
    receiver = RemoteWriteReceiver(sink)
    for _ in range(2):
        outcome = await receiver.write(wire.snappy(body), content_type=content_type)
        assert outcome.status == HTTPStatus.BAD_REQUEST
        assert outcome.text == "2 native histograms are not stored, only samples that are plain numbers"
        assert (outcome.samples, outcome.histograms) == (1, 0)
    assert len(sink.rows) == 2
    assert receiver.counters.histograms == 4
    assert receiver.counters.rejected == {RejectReason.NATIVE_HISTOGRAM: 4}
    assert [record.message.count("native histograms") for record in caplog.records] == [1]


async def test_metadata_comes_again_when_a_body_is_repeated() -> None:
    """The sender repeats what was answered 503, and then its series must not count as known with their metadata."""
    sink = ListSink(unavailable=True)
    receiver = RemoteWriteReceiver(sink)
    body = wire.snappy(wire2.request(["", "__name__", "up", "Help."], wire2.series([1, 2], wire.sample(1.0, T), wire2.metadata(2, 3))))
    assert (await receiver.write(body, content_type=wire2.CONTENT_TYPE)).status == HTTPStatus.SERVICE_UNAVAILABLE
    sink.metadata.clear()
    sink.unavailable = False
    for _ in range(2):
        assert (await receiver.write(body, content_type=wire2.CONTENT_TYPE)).status == HTTPStatus.NO_CONTENT
    assert sink.metadata == [Metadata(metric="up", type="gauge", help="Help.")]


async def test_large_bodies_are_decoded_in_a_thread() -> None:
    sink = ListSink()
    receiver = RemoteWriteReceiver(sink, inline_bytes=10)
    for _ in range(2):
        assert (await receiver.write(wire.snappy(GOOD * 50))).status == HTTPStatus.NO_CONTENT
    assert len(sink.rows) == 100
    assert (await receiver.write(wire.snappy(GOOD * 50 + b"\x0a"))).status == HTTPStatus.BAD_REQUEST


V1, V2 = MESSAGES
BOTH = f"application/x-protobuf;proto={V1}, application/x-protobuf;proto={V2}"

SUPPORTED = [
    ("", "", V1),
    ("application/x-protobuf", "snappy", V1),
    ("application/x-protobuf", "Snappy", V1),
    ("Application/X-Protobuf; charset=utf-8", "snappy", V1),
    ("application/x-protobuf;proto=prometheus.WriteRequest", "snappy", V1),
    ('application/x-protobuf; proto="prometheus.WriteRequest"', "", V1),
    ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "snappy", V2),
]

UNSUPPORTED = [
    ("application/json", "snappy", "unsupported Content-Type 'application/json', supported: application/x-protobuf"),
    ("text/plain", "", "unsupported Content-Type 'text/plain', supported: application/x-protobuf"),
    (
        "application/x-protobuf;proto=io.prometheus.write.v3.Request",
        "snappy",
        (
            "unsupported remote write message 'io.prometheus.write.v3.Request' in Content-Type "
            f"'application/x-protobuf;proto=io.prometheus.write.v3.Request', supported: {BOTH}"
        ),
    ),
    ("application/x-protobuf", "gzip", "unsupported Content-Encoding 'gzip', supported: snappy"),
]


@pytest.mark.parametrize(("content_type", "encoding", "message"), SUPPORTED)
def test_supported_formats(content_type: str, encoding: str, message: str) -> None:
    assert negotiate(content_type, encoding, MESSAGES) == message


@pytest.mark.parametrize(("content_type", "encoding", "text"), UNSUPPORTED)
async def test_unsupported_formats(content_type: str, encoding: str, text: str) -> None:
    outcome = await RemoteWriteReceiver(ListSink()).write(wire.snappy(GOOD), content_type=content_type, content_encoding=encoding)
    assert (outcome.status, outcome.text) == (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text)


@pytest.mark.parametrize(("accepted", "refused"), [(V1, wire2.CONTENT_TYPE), (V2, ""), (V2, "application/x-protobuf")])
async def test_a_message_that_is_not_accepted_is_refused(accepted: str, refused: str) -> None:
    receiver = RemoteWriteReceiver(ListSink(), messages=[accepted])
    outcome = await receiver.write(wire.snappy(b""), content_type=refused)
    assert outcome.status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    assert outcome.text.endswith(f"supported: application/x-protobuf;proto={accepted}")
    taken = await receiver.write(wire.snappy(b""), content_type=f"application/x-protobuf;proto={accepted}")
    assert taken.status == HTTPStatus.NO_CONTENT
