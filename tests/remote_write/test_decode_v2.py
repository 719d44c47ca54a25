"""Every legal body of version 2 decodes to what the protobuf classes say; every illegal one is refused whole."""

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promlike.errors import BadRequest, PayloadTooLarge, RejectReason
from promlike.model.labels import Labels
from promlike.remote_write.decode_v2 import DecoderV2, family_name
from promlike.remote_write.scan import DecodedWrite
from promlike.storage.access import Metadata
from tests.remote_write import slow_decode_v2, wire, wire2
from tests.remote_write.sink import ListSink, Row

T = 1_700_000_000_000
UP: Labels = (("__name__", "up"), ("job", "api"))
TEXTS = ["", "__name__", "up", "job", "api", "Whether it is up.", "seconds", "m"]
NAME, UP_, JOB, API, HELP, UNIT, M = range(1, 8)


class Decoding:
    """A decoder with its sink; `rows` decodes a body and spells its samples out."""

    def __init__(self) -> None:
        self.sink = ListSink()
        self.decoder = DecoderV2(self.sink.series_ref)

    def decode(self, data: bytes) -> DecodedWrite:
        return self.decoder.decode(wire.snappy(data))

    def rows(self, data: bytes) -> list[Row]:
        return self.rows_of(self.decode(data))

    def rows_of(self, decoded: DecodedWrite) -> list[Row]:
        return self.sink.rows_of(decoded.refs, decoded.ts_ms, decoded.values)


@pytest.fixture
def decoding() -> Decoding:
    return Decoding()


def bits(value: float) -> int:
    found: int = struct.unpack("<Q", struct.pack("<d", value))[0]
    return found


def started(value: float, time_ms: int, start_ms: int) -> bytes:
    """A sample with a start timestamp."""
    return wire.message(2, wire.value_field(value) + wire.time_field(time_ms) + wire.tag(3, wire.VARINT) + wire.varint(start_ms))


ONE = [(UP, T, bits(1.0))]
UP_SERIES = wire2.series([NAME, UP_, JOB, API], wire.sample(1.0, T))

BODIES: dict[str, tuple[bytes, list[Row]]] = {
    "nothing": (b"", []),
    "symbols alone": (wire2.symbols(*TEXTS), []),
    "one sample": (wire2.request(TEXTS, UP_SERIES), ONE),
    "symbols after series": (UP_SERIES + wire2.symbols(*TEXTS), ONE),
    "symbols around series": (wire2.symbols(*TEXTS[:2]) + UP_SERIES + wire2.symbols(*TEXTS[2:]), ONE),
    "the same symbol twice": (
        wire2.request([*TEXTS, "up", "api"], UP_SERIES, wire2.series([NAME, 8, JOB, 9], wire.sample(2.0, T))),
        [*ONE, (UP, T, bits(2.0))],
    ),
    "value and time zero": (wire2.request(TEXTS, wire2.series([NAME, UP_, JOB, API], wire.message(2, b""))), [(UP, 0, 0)]),
    "several samples": (
        wire2.request(TEXTS, wire2.series([NAME, UP_, JOB, API], wire.sample(1.0, T), wire.sample(2.0, T + 1))),
        [*ONE, (UP, T + 1, bits(2.0))],
    ),
    "references that are not packed": (
        wire2.request(TEXTS, wire.message(5, wire2.unpacked([NAME, UP_, JOB, API]) + wire.sample(1.0, T))),
        ONE,
    ),
    "references in parts, around the sample": (
        wire2.request(
            TEXTS, wire.message(5, wire2.packed([NAME]) + wire.sample(1.0, T) + wire2.packed([UP_, JOB]) + wire2.unpacked([API]))
        ),
        ONE,
    ),
    "references of three bytes": (
        wire2.request([*TEXTS, *(f"s{i}" for i in range(20_000))], wire2.series([NAME, UP_, JOB, 20_007], wire.sample(1.0, T))),
        [((("__name__", "up"), ("job", "s19999")), T, bits(1.0))],
    ),
    "references of ten bytes, of which the lower half counts": (
        wire2.request(
            TEXTS,
            wire.message(5, wire.message(1, b"".join(wire.varint(ref | 7 << 40) for ref in (NAME, UP_, JOB, API))) + wire.sample(1.0, T)),
        ),
        ONE,
    ),
    "labels in no order": (
        wire2.request(TEXTS, wire2.series([JOB, API, NAME, UP_], wire.sample(1.0, T)), UP_SERIES),
        ONE * 2,
    ),
    "an empty label value": (wire2.request(TEXTS, wire2.series([NAME, UP_, JOB, API, UNIT, 0], wire.sample(1.0, T))), ONE),
    "start timestamps": (
        wire2.request(TEXTS, wire2.series([NAME, UP_, JOB, API], started(1.0, T, T - 5), wire.tag(6, wire.VARINT) + wire.varint(T))),
        ONE,
    ),
    "histograms and exemplars": (
        wire2.request(
            TEXTS,
            wire2.series(
                [NAME, UP_, JOB, API], wire.message(4, wire2.packed([JOB, API])), wire.sample(1.0, T), wire.message(3, b"\x08\x01")
            ),
        ),
        ONE,
    ),
    "metadata in two parts, the later counts": (
        wire2.request(TEXTS, wire2.series([NAME, UP_, JOB, API], wire2.metadata(1, HELP), wire.sample(1.0, T), wire2.metadata(2, 0, UNIT))),
        ONE,
    ),
    "unknown fields": (
        wire.message(1000, b"later")
        + wire.tag(2, wire.VARINT)
        + b"\x05"
        + wire2.request(TEXTS, wire2.series([NAME, UP_, JOB, API], wire.message(77, b"x"), wire.sample(1.0, T), wire2.metadata(1)[:0])),
        ONE,
    ),
    "groups": (
        wire.tag(9, wire.START_GROUP) + wire.tag(9, wire.END_GROUP) + wire2.request(TEXTS, UP_SERIES),
        ONE,
    ),
    "a tag in more bytes than it needs": (wire2.symbols(*TEXTS) + b"\xaa\x00" + UP_SERIES[1:], ONE),
    "a series of version 1 is none": (wire.simple("up", [(1.0, T)]) + wire2.request(TEXTS, UP_SERIES), ONE),
    "no sample": (wire2.request(TEXTS, wire2.series([NAME, UP_])), []),
}


@pytest.mark.parametrize("name", BODIES)
def test_legal_body(decoding: Decoding, name: str) -> None:
    data, expected = BODIES[name]
    for _ in range(3):  # unseen, found by hash, found as the follower of the last series
        decoded = decoding.decode(data)
        assert decoding.rows_of(decoded) == expected
        assert not decoded.problems
        assert not decoded.rejected
    slow = slow_decode_v2.decode(data)
    assert slow is not None
    assert slow[0] == expected


def test_all_legal_bodies_after_one_another(decoding: Decoding) -> None:
    """Each has its own symbols, of which most are the same texts in other places."""
    for _ in range(2):
        for data, expected in BODIES.values():
            assert decoding.rows(data) == expected


def test_known_series_are_not_looked_at_again(decoding: Decoding) -> None:
    decoding.rows(wire2.request(TEXTS, UP_SERIES))
    decoding.sink.series_ref = None  # type: ignore[assignment,method-assign]  # from here on every series must be known
    turned = ["", *reversed(TEXTS[1:])]
    refs = [turned.index(text) for text in ("__name__", "up", "job", "api")]
    for data in (wire2.request(TEXTS, UP_SERIES), wire2.request(turned, wire2.series(refs, wire.sample(1.0, T)))):
        assert decoding.rows(data) == ONE


def test_symbols_of_exemplars_and_refused_series_are_not_remembered(decoding: Decoding) -> None:
    exemplar = wire.message(4, wire2.packed([8, 9]))
    bad = wire2.series([10, 11], wire.sample(1.0, T))
    decoding.decode(wire2.request([*TEXTS, "trace_id", "abc", "no", "name"], wire2.series([NAME, UP_], wire.sample(1.0, T), exemplar), bad))
    assert decoding.decoder.symbols.count == 2


def test_what_a_sweep_forgot_is_found_again(decoding: Decoding) -> None:
    data = wire2.request(TEXTS, UP_SERIES)
    assert decoding.rows(data) == ONE
    for sweeps in (1, 2, 3):
        for _ in range(sweeps):
            decoding.decoder.symbols.sweep()
        assert decoding.rows(data) == ONE
    assert decoding.decoder.symbols.count == 4


def exemplar(refs: list[int], value: float, time_ms: int) -> bytes:
    """A field `exemplars` of a TimeSeries."""
    fields = wire.tag(2, wire.FIXED64) + struct.pack("<d", value) + wire.tag(3, wire.VARINT) + wire.varint(time_ms)
    return wire.message(4, wire2.packed(refs) + fields)


def test_exemplars(decoding: Decoding) -> None:
    texts = [*TEXTS, "trace_id", "abc"]
    up = wire2.series([NAME, UP_, JOB, API], exemplar([8, 9, JOB, API], 0.5, T - 3), wire.sample(1.0, T), exemplar([], 2.0, T))
    alone = wire2.series([NAME, M], exemplar([JOB, 0], 3.0, T))
    wrong = wire2.series([NAME, UP_, JOB, API], exemplar([8], 1.0, T), exemplar([8, 10], 1.0, T), wire.sample(2.0, T))
    for _ in range(2):
        decoded = decoding.decode(wire2.request(texts, up, alone, wrong))
        rows, names = decoded.exemplars, list(decoding.sink.refs)
        assert [names[ref] for ref in rows.refs.tolist()] == [UP, UP, (("__name__", "m"),)]
        assert (rows.ts_ms.tolist(), rows.values.tolist()) == ([T - 3, T, T], [0.5, 2.0, 3.0])
        assert rows.labels == ['{"job":"api","trace_id":"abc"}', "{}", "{}"]
        assert decoding.rows_of(decoded) == [*ONE, (UP, T, bits(2.0))]
        assert decoded.exemplar_problems == [
            "series 2: 1 label references, which are no pairs",
            "series 2: labels_refs names symbol 10, there are 10",
        ]
        assert decoded.exemplars_rejected == {RejectReason.INVALID_LABEL_REFERENCE: 2}


def test_when_ids_run_out_new_series_are_read_again_every_time(decoding: Decoding, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promlike.remote_write.decode_v2.MOST_IDS", 6)
    for _ in range(2):
        assert decoding.rows(wire2.request(TEXTS, UP_SERIES)) == ONE
        other = wire2.series([NAME, M, JOB, UNIT], wire.sample(2.0, T))
        assert decoding.rows(wire2.request(TEXTS, other)) == [((("__name__", "m"), ("job", "seconds")), T, bits(2.0))]
        turned = [*TEXTS[:6], "m", "seconds"]
        assert decoding.rows(wire2.request(turned, other)) == [((("__name__", "seconds"), ("job", "m")), T, bits(2.0))]
    assert decoding.decoder.table.count == 1


METADATA = [
    ("up", 2, HELP, 0, Metadata(metric="up", type="gauge", help="Whether it is up.")),
    ("up", 0, HELP, 0, Metadata(metric="up", type="unknown", help="Whether it is up.")),
    ("up", 99, 0, 0, Metadata(metric="up", type="unknown", help="")),
    ("up", 0, 0, UNIT, Metadata(metric="up", type="unknown", help="", unit="seconds")),
    (
        "request_seconds_bucket",
        3,
        HELP,
        UNIT,
        Metadata(metric="request_seconds", type="histogram", help="Whether it is up.", unit="seconds"),
    ),
    ("requests_total", 1, 0, 0, Metadata(metric="requests_total", type="counter", help="")),
]


@pytest.mark.parametrize(("metric", "kind", "help_ref", "unit_ref", "expected"), METADATA)
def test_metadata(decoding: Decoding, metric: str, kind: int, help_ref: int, unit_ref: int, expected: Metadata) -> None:
    texts = [*TEXTS, metric]
    data = wire2.request(texts, wire2.series([NAME, len(TEXTS)], wire.sample(1.0, T), wire2.metadata(kind, help_ref, unit_ref)))
    assert decoding.decode(data).metadata == [expected]
    assert decoding.decode(data).metadata == []  # it is known now
    changed = wire2.request(texts, wire2.series([NAME, len(TEXTS)], wire.sample(1.0, T), wire2.metadata(6, M)))
    assert decoding.decode(changed).metadata == [Metadata(metric=metric, type="info", help="m")]
    assert len(decoding.sink.refs) == 1


FAMILIES = [
    ("a_bucket", "histogram", "a"),
    ("a_sum", "histogram", "a"),
    ("a_count", "summary", "a"),
    ("a", "summary", "a"),
    ("a_bucket", "summary", "a_bucket"),
    ("a_gsum", "gaugehistogram", "a"),
    ("a_count", "gauge", "a_count"),
    ("_sum", "summary", "_sum"),
    ("a_total", "counter", "a_total"),
]


@pytest.mark.parametrize(("metric", "kind", "family"), FAMILIES)
def test_the_family_of_a_series(metric: str, kind: str, family: str) -> None:
    assert family_name(metric, kind) == family


def test_start_timestamps_are_counted(decoding: Decoding) -> None:
    data = wire2.request(TEXTS, wire2.series([NAME, UP_], started(1.0, T, T - 5), started(2.0, T + 1, 0), started(0.0, T + 2, -1)))
    assert decoding.decode(data).start_timestamps == 2


REFUSED = {
    "no labels": (wire2.series([], wire.sample(1.0, T)), RejectReason.MISSING_METRIC_NAME, "series 1: no metric name in {}"),
    "no metric name": (
        wire2.series([JOB, API], wire.sample(1.0, T)),
        RejectReason.MISSING_METRIC_NAME,
        'series 1: no metric name in {job="api"}',
    ),
    "empty label name": (
        wire2.series([NAME, UP_, 0, API], wire.sample(1.0, T)),
        RejectReason.INVALID_LABEL_NAME,
        'series 1: empty label name in {__name__="up", ="api"}',
    ),
    "twice, apart": (
        wire2.series([JOB, API, NAME, UP_, JOB, UP_], wire.sample(1.0, T)),
        RejectReason.DUPLICATE_LABEL_NAME,
        'series 1: label name "job" twice in {job="api", __name__="up", job="up"}',
    ),
    "odd number of references": (
        wire2.series([NAME, UP_, JOB], wire.sample(1.0, T)),
        RejectReason.INVALID_LABEL_REFERENCE,
        "series 1: 3 label references, which are no pairs",
    ),
    "a reference behind the last symbol": (
        wire2.series([NAME, UP_, JOB, 8], wire.sample(1.0, T)),
        RejectReason.INVALID_LABEL_REFERENCE,
        "series 1: labels_refs names symbol 8, there are 8",
    ),
    "the largest reference": (
        wire2.series([NAME, 2**32 - 1], wire.sample(1.0, T)),
        RejectReason.INVALID_LABEL_REFERENCE,
        "series 1: labels_refs names symbol 4294967295, there are 8",
    ),
    "help behind the last symbol": (
        wire2.series([NAME, UP_], wire2.metadata(1, 9), wire.sample(1.0, T)),
        RejectReason.INVALID_LABEL_REFERENCE,
        "series 1: help_ref names symbol 9, there are 8",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_series_is_refused_beside_valid_ones(decoding: Decoding, name: str) -> None:
    series, reason, problem = REFUSED[name]
    for _ in range(2):
        decoded = decoding.decode(wire2.request(TEXTS, UP_SERIES, series, UP_SERIES))
        assert decoding.rows_of(decoded) == ONE * 2
        assert decoded.problems == [problem]
        assert decoded.rejected == {reason: 1}
        assert decoded.metadata == []
    assert list(decoding.sink.refs) == [UP]


def test_a_text_that_is_no_utf8_costs_its_own_series_only(decoding: Decoding) -> None:
    data = wire2.request([*TEXTS, b"\xff"], UP_SERIES, wire2.series([NAME, UP_, JOB, 8], wire.sample(1.0, T)))
    decoded = decoding.decode(data)
    assert decoding.rows_of(decoded) == ONE
    assert decoded.problems == ["series 1: value of label b'job' is not valid UTF-8: b'\\xff'"]


def test_labels_that_are_too_long_are_refused_without_reading_them(decoding: Decoding) -> None:
    many, long = wire2.series([NAME] * 600_000, wire.sample(1.0, T)), wire2.series([NAME, UP_, JOB, 8], wire.sample(1.0, T))
    decoded = decoding.decode(wire2.request([*TEXTS, "x" * (1 << 20)], many, UP_SERIES, long))
    assert decoded.problems == ["series 0: labels of 1200000 bytes (limit 1048576)", "series 2: labels of 1048589 bytes (limit 1048576)"]
    assert decoding.rows_of(decoded) == ONE


def test_a_long_symbol_is_not_copied_without_end(decoding: Decoding) -> None:
    """Once for each of 300 new series, or as their help."""
    texts = [*TEXTS, "x" * 1_000_000, *map(str, range(300))]
    labels = [wire2.series([NAME, M, JOB, 8, UNIT, 9 + k], wire.sample(1.0, T)) for k in range(300)]
    metadata = [wire2.series([NAME, M, UNIT, 9 + k], wire.sample(1.0, T), wire2.metadata(1, 8)) for k in range(300)]
    for series in (labels, metadata):
        with pytest.raises(PayloadTooLarge, match="have more than 268435456 bytes"):
            decoding.decode(wire2.request(texts, *series))
    assert not decoding.sink.refs
    assert len(decoding.decode(wire2.request(texts, *labels[:200])).refs) == 200


MALFORMED = {
    "a tag alone": (wire2.request(TEXTS, UP_SERIES) + b"\x2a", "malformed protobuf in io.prometheus.write.v2.Request: series 0, at byte "),
    "a symbol that goes on past the end": (b"\x22\x05ab", "series 0, at byte 0 of 4"),
    "references that go on past their series": (wire.message(5, b"\x0a\x20\x01"), "series 0, at byte 0"),
    "a reference cut in the middle": (wire.message(5, wire.message(1, b"\x81")), "series 0, at byte 0"),
    "a reference of eleven bytes": (wire.message(5, wire.message(1, b"\xff" * 10 + b"\x01")), "series 0, at byte 0"),
    "a reference that is not packed, cut": (wire.message(5, b"\x08\x80"), "series 0, at byte 0"),
    "a sample that goes on past its series": (wire.message(5, b"\x12\x20\x09"), "series 0, at byte 0"),
    "metadata with a broken type": (wire.message(5, wire.message(5, b"\x08")), "series 0, at byte 0"),
    "a broken exemplar": (
        wire2.request(TEXTS, wire2.series([NAME, UP_], wire.message(4, b"\x11\x00"))),
        "malformed protobuf in an exemplar of series 0: b'\\x11\\x00'",
    ),
    "field number zero": (b"\x00\x01", "series 0, at byte 0 of 2"),
    "a group without an end": (wire.tag(6, wire.START_GROUP), "series 0, at byte 0 of 1"),
    "a first symbol with a text": (wire2.symbols("up"), "the first symbol must be the empty string, not b'up'"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_body_is_refused_whole(decoding: Decoding, name: str) -> None:
    data, text = MALFORMED[name]
    assert slow_decode_v2.decode(data) is None
    with pytest.raises(BadRequest) as caught:
        decoding.decode(data)
    assert text in str(caught.value)
    assert not decoding.sink.refs


def test_many_small_things_need_more_room_than_expected(decoding: Decoding) -> None:
    rows = decoding.rows(wire2.request(["", "__name__", "a"], *([wire2.series([1, 2], b"\x12\x00")] * 5000)) + wire2.symbols(*[""] * 9000))
    assert rows == [((("__name__", "a"),), 0, 0)] * 5000


# --- any body whatever -----------------------------------------------------------------------------------------------------------------

TEXT_POOL: tuple[str | bytes, ...] = ("__name__", "up", "m_bucket", "job", "le", "0.5", "x" * 130, "ü", "", b"\xff")
texts = st.lists(st.sampled_from(TEXT_POOL), max_size=8)
values = st.floats(width=64, allow_nan=False) | st.just(0.0)
times = st.one_of(st.integers(T, T + 1000), st.integers(-(2**63), 2**63 - 1), st.just(0))
unknown = st.sampled_from(
    [
        b"",
        wire.tag(20, wire.VARINT) + wire.varint(-1),
        wire.message(21, b"\x0a\x02hi"),
        wire.tag(23, wire.FIXED64) + b"abcdefgh",
        wire.tag(24, wire.START_GROUP) + wire.message(1, b"x") + wire.tag(24, wire.END_GROUP),
    ]
)


@st.composite
def timeseries(draw: st.DrawFn, count: int) -> bytes:
    any_ref = st.integers(0, count) if draw(st.integers(0, 9)) == 0 else st.integers(0, max(count - 1, 0))
    refs = [1, draw(any_ref), *draw(st.lists(any_ref, max_size=4).filter(lambda refs: len(refs) % 2 == 0))]
    if draw(st.integers(0, 9)) == 0:
        refs = draw(st.lists(any_ref, max_size=5))
    fields = [draw(st.sampled_from([wire2.packed, wire2.unpacked]))(refs)]
    for _ in range(draw(st.integers(0, 3))):
        sample = wire.value_field(draw(values)) + wire.time_field(draw(times))
        if draw(st.booleans()):
            sample += wire.tag(3, wire.VARINT) + wire.varint(draw(times))
        fields.append(wire.message(2, sample))
    fields += draw(st.lists(st.sampled_from([wire.message(3, b""), wire.message(4, wire2.packed([1, 2]))]), max_size=2))
    if draw(st.booleans()):
        fields.append(wire2.metadata(draw(st.integers(0, 9)), draw(any_ref), draw(any_ref)))
    if draw(st.integers(0, 4)) == 0:
        fields = draw(st.permutations([*fields, draw(unknown)]))
    return wire.message(5, b"".join(fields), padding=draw(st.sampled_from([0, 0, 1])))


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    symbols: list[str | bytes] = ["", "__name__", *draw(texts)]
    parts = [wire2.symbols(*symbols), *(draw(timeseries(len(symbols))) for _ in range(draw(st.integers(0, 5))))]
    if draw(st.integers(0, 3)) == 0:
        parts = list(draw(st.permutations([*parts, draw(unknown)])))
    return b"".join(parts)


LASTING = Decoding()
"""Keeps its tables over all examples, so that symbols and series are unseen, found and followed in every order."""


def check(decoding: Decoding, data: bytes) -> None:
    """What was decoded is what the protobuf classes read, or refused as they refuse it."""
    expected = slow_decode_v2.decode(data)
    try:
        decoded = decoding.decode(data)
    except BadRequest:
        assert expected is None, data
        return
    if expected is None:
        return  # broken where nothing is stored: in a histogram
    assert decoding.rows_of(decoded) == expected[0], data
    assert set(decoded.metadata) <= expected[1], data


@given(bodies())
@settings(max_examples=600, deadline=None)
def test_any_body_decodes_as_the_protobuf_classes_read_it(data: bytes) -> None:
    expected = slow_decode_v2.decode(data)
    assert expected is not None
    for _ in range(2):
        check(LASTING, data)
    decoded = Decoding().decode(data)
    assert set(decoded.metadata) == expected[1]


SAMPLE_BODY = wire2.request(
    TEXTS,
    wire2.series([NAME, UP_, JOB, API], started(1.0, T, T - 5), wire.sample(0.0, T + 1), wire2.metadata(2, HELP, UNIT)),
    wire.message(5, wire.sample(5.0, -1) + wire2.unpacked([NAME, M]) + wire.message(4, wire2.packed([JOB, API]))),
)


def test_truncation_at_every_byte() -> None:
    for end in range(len(SAMPLE_BODY)):
        check(LASTING, SAMPLE_BODY[:end])


def test_every_byte_replaced() -> None:
    for at in range(len(SAMPLE_BODY)):
        for mask in (*(1 << bit for bit in range(8)), 0xFF, SAMPLE_BODY[at]):
            damaged = bytearray(SAMPLE_BODY)
            damaged[at] ^= mask
            check(LASTING, bytes(damaged))


@given(bodies(), st.randoms(use_true_random=False))
@settings(max_examples=400, deadline=None)
def test_bodies_damaged_at_random(data: bytes, random_source: random.Random) -> None:
    damaged = bytearray(data)
    for _ in range(random_source.randint(1, 3)):
        at = random_source.randrange(len(damaged))
        action = random_source.randrange(3)
        if action == 0:
            damaged[at] = random_source.randrange(256)
        elif action == 1:
            del damaged[at]
        else:
            damaged.insert(at, random_source.randrange(256))
    check(LASTING, bytes(damaged))
