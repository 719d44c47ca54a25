"""The text formats: samples, unusual numbers, what is malformed and where, against a slow twin."""

import math
import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promlike.model.blocks import is_stale
from promlike.remote_write.series_table import SeriesTable
from promlike.scrape.admission import NO_TIME
from promlike.scrape.exposition import Exposition, ExpositionError, read_exposition
from promlike.scrape.kernels import PADDING
from promlike.scrape.numbers import parse_float
from promlike.scrape.series_text import parse_series
from tests.scrape import slow_exposition
from tests.scrape.slow_exposition import Line, Malformed


def table() -> SeriesTable:
    return SeriesTable(seed=np.uint64(12345))


def lines(found: Exposition) -> list[Line]:
    """The samples of an exposition none of whose series the table knows."""
    series = [tuple(parse_series(found.text(start, end), openmetrics=found.openmetrics)) for start, end, _ in found.unseen.tolist()]
    assert found.unseen[:, 2].tolist() == list(range(found.samples))
    times = [None if time == NO_TIME else time for time in found.ts_ms.tolist()]
    return [Line(*row) for row in zip(series, found.values.tolist(), times, strict=True)]


def read(text: str | bytes, *, openmetrics: bool = False) -> list[Line]:
    data = text.encode() if isinstance(text, str) else text
    return lines(read_exposition(bytearray(data), table(), openmetrics=openmetrics))


def series(*pairs: tuple[str, str], name: str = "m") -> tuple[tuple[str, str], ...]:
    return (("__name__", name), *pairs)


GOOD = [
    ("m 1\n", series(), 1.0, None),
    ("m 1", series(), 1.0, None),
    ("  m\t 1\t\n", series(), 1.0, None),
    ("m 1 -5\n", series(), 1.0, -5),
    ("m{} 1 1700000000000\n", series(), 1.0, 1700000000000),
    ('m{a="b"} 1\n', series(("a", "b")), 1.0, None),
    ('m{a="b"}1\n', series(("a", "b")), 1.0, None),
    ('m {a="b",} 1\n', series(("a", "b")), 1.0, None),
    ('m{ a = "b" , c = "d" } 1\n', series(("a", "b"), ("c", "d")), 1.0, None),
    ('m{a="b" c="d"} 1\n', series(("a", "b"), ("c", "d")), 1.0, None),
    ('m{a="}{,# 1"} 2\n', series(("a", "}{,# 1")), 2.0, None),
    ('m{a="\\"\\\\\\n\\x"} 2\n', series(("a", '"\\\n\\x')), 2.0, None),
    ('m{a="two\nlines"} 2\n', series(("a", "two\nlines")), 2.0, None),
    ('m{a=""} 2\n', series(("a", "")), 2.0, None),
    ('m{a="日本"} 2\n', series(("a", "日本")), 2.0, None),
    ('{"my.metric",a="b"} 2\n', series(("a", "b"), name="my.metric"), 2.0, None),
    ('{a="b","my.metric"} 2\n', (("a", "b"), ("__name__", "my.metric")), 2.0, None),
    ('{"my metric"} 2\n', series(name="my metric"), 2.0, None),
    ('m{"my.label"="b"} 2\n', series(("my.label", "b")), 2.0, None),
    ("a:b_C9 2\n", series(name="a:b_C9"), 2.0, None),
    ("m 1e3\n", series(), 1000.0, None),
    ("m +1E-3\n", series(), 0.001, None),
    ("m .5\n", series(), 0.5, None),
    ("m 5.\n", series(), 5.0, None),
    ("m -0\n", series(), -0.0, None),
    ("m 0e999\n", series(), 0.0, None),
    ("m +Inf\n", series(), math.inf, None),
    ("m -infinity\n", series(), -math.inf, None),
    ("m 1.7976931348623157e+308\n", series(), 1.7976931348623157e308, None),
    ("m 123456789012345678901234567890\n", series(), 123456789012345678901234567890.0, None),
    ("m 0.1234567890123456789\n", series(), 0.1234567890123456789, None),
]


@pytest.mark.parametrize(("text", "labels", "value", "ts_ms"), GOOD, ids=[case[0] for case in GOOD])
def test_lines_are_read(text: str, labels: tuple[tuple[str, str], ...], value: float, ts_ms: int | None) -> None:
    found = read(text)
    assert found == [Line(labels, value, ts_ms)]
    assert math.copysign(1, found[0].value) == math.copysign(1, value)


BAD = [
    ("m\n", 1, "a value is missing"),
    ("m \n", 1, "a value is missing"),
    ("a 1\nm{} \nb 2\n", 2, "a value is missing"),
    ("m x\n", 1, "'x' is not a number"),
    ("m 1_000\n", 1, "'1_000' is not a number"),
    ("m 0x1p-2\n", 1, "is not a number"),
    ("m +nan\n", 1, "is not a number"),
    ("m 1e999\n", 1, "out of range"),
    ("m 1 2 3\n", 1, "unexpected text after the value"),
    ("m 1 # {} 3\n", 1, "unexpected text after the value"),
    ("m 1 1.5\n", 1, "is not a timestamp in milliseconds"),
    ("m 1 99999999999999999999\n", 1, "is not a timestamp in milliseconds"),
    ("\n\n  9m 1\n", 3, "not a series"),
    ("m{ 1\n", 1, "not a series"),
    ('m{a="b 1\n', 1, "not a series"),
    ("{} 1\n", 1, "the metric name is missing"),
    ('{a="b"} 1\n', 1, "the metric name is missing"),
    ("m{a} 1\n", 1, 'label "a" has no value'),
    ('m{,a="b"} 1\n', 1, "expected at"),
    ("m{a=b} 1\n", 1, 'label "a" has no value'),
    ('m{a="b"}} 1\n', 1, "is not a number"),
    ('m{a="b",a="c"} 1\n', 1, 'label name "a" is not unique'),
    ('m{"n"} 1\n', 1, 'label "n" has no value'),
    ('m{""="x"} 1\n', 1, "a label name is empty"),
    (b'm{a="\xff"} 1\n', 1, "byte 0xff is not valid UTF-8"),
    ("m 1\r\n", 1, "is not a number"),
]


def read_all(text: str | bytes, *, openmetrics: bool = False) -> None:
    """Read a body as a scrape does: errors in series come from the second step."""
    data = text.encode() if isinstance(text, str) else text
    found = read_exposition(bytearray(data), table(), openmetrics=openmetrics)
    for start, end, sample in found.unseen.tolist():
        try:
            parse_series(found.text(start, end), openmetrics=openmetrics)
        except ValueError as error:
            raise found.error(start, str(error), sample) from error


@pytest.mark.parametrize(("text", "line", "problem"), BAD, ids=[repr(case[0]) for case in BAD])
def test_a_malformed_line_is_named(text: str | bytes, line: int, problem: str) -> None:
    with pytest.raises(ExpositionError) as caught:
        read_all(text)
    assert f"line {line}: " in str(caught.value)
    assert problem in str(caught.value)


OPENMETRICS_GOOD = [
    ("m 1\n# EOF\n", [(1.0, None)]),
    ("m 1\n# EOF", [(1.0, None)]),
    ("# TYPE m counter\n# UNIT m_seconds seconds\n# HELP m text\nm_total 1 1700000000.123\n# EOF\n", [(1.0, 1700000000123)]),
    ('m_total 5 # {trace="a b"} 1 2\nm_created 3\n# EOF\n', [(5.0, None), (3.0, None)]),
    ('m_bucket{le="+Inf"} 5 1.5 # {} 1\n# EOF\n', [(5.0, 1500)]),
    ("m 1 -0.0015\n# EOF\n", [(1.0, -1)]),
    ("m 1 1e3\n# EOF\n", [(1.0, 1_000_000)]),
]


@pytest.mark.parametrize(("text", "samples"), OPENMETRICS_GOOD, ids=[case[0] for case in OPENMETRICS_GOOD])
def test_openmetrics_is_read(text: str, samples: list[tuple[float, int | None]]) -> None:
    assert [(line.value, line.ts_ms) for line in read(text, openmetrics=True)] == samples


OPENMETRICS_BAD = [
    ("m 1\n", 1, "does not end with # EOF"),
    ("", 1, "does not end with # EOF"),
    ("m 1\n\n# EOF\n", 2, "empty lines"),
    ("# comment\n# EOF\n", 1, "allows only"),
    ("# EOF\nm 1\n", 2, "unexpected text after # EOF"),
    ("m  1\n# EOF\n", 1, "a value is missing"),
    ('m{a="b"}1\n# EOF\n', 1, "a value is missing"),
    ('m{a="b", c="d"} 1\n# EOF\n', 1, "does not allow blanks"),
    ("m 1 NaN\n# EOF\n", 1, "is not a timestamp in seconds"),
    ("m 1 #x\n# EOF\n", 1, "unexpected text after the value"),
]


@pytest.mark.parametrize(("text", "line", "problem"), OPENMETRICS_BAD, ids=[case[0] for case in OPENMETRICS_BAD])
def test_malformed_openmetrics_is_named(text: str, line: int, problem: str) -> None:
    with pytest.raises(ExpositionError) as caught:
        read_all(text, openmetrics=True)
    assert f"line {line}: " in str(caught.value)
    assert problem in str(caught.value)


def test_comments_and_empty_lines_are_passed_over() -> None:
    found = read("\n# a comment\n#\n#HELP m no\n \n# HELP\n# TYPE\nm 1\n\t\n")
    assert [line.value for line in found] == [1.0]


def test_every_nan_is_the_normal_one() -> None:
    found = read_exposition(bytearray(b"a NaN\nb nan\nc 1\n"), table(), openmetrics=False)
    assert [struct.pack(">d", value).hex() for value in found.values.tolist()[:2]] == ["7ff8000000000001"] * 2
    assert not is_stale(found.values).any()


def test_a_known_series_is_found_by_its_bytes_wherever_it_stands() -> None:
    known = table()
    text = b'a 1\na{x="1"} 2\nab 3\n{"u.n"} 4\nb{x="1",y="2"} 5\n'
    found = read_exposition(bytearray(text), known, openmetrics=False)
    keys = found.unseen.copy()
    keys[:, 2] = [10, 11, -1, 13, 14]
    known.enter(found.body, keys)
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [1, 1, 0, 2, 4]):
        again = [text.splitlines()[i] for i in order]
        found = read_exposition(bytearray(b"\n".join(again)), known, openmetrics=False)
        assert not len(found.unseen)
        assert found.which.tolist() == [keys[i, 2] for i in order]
    found = read_exposition(bytearray(b'a {x="1"} 2\na{x="1",} 3\nabc 1\na\t4\n'), known, openmetrics=False)
    assert found.which.tolist()[3] == 10
    assert found.unseen[:, 2].tolist() == [0, 1, 2]


def test_a_long_known_series_at_the_end_of_a_short_body_is_no_match() -> None:
    known = table()
    long = b"m" * 5000
    found = read_exposition(bytearray(long + b" 1\n"), known, openmetrics=False)
    known.enter(found.body, found.unseen)
    assert len(read_exposition(bytearray(b"m 1"), known, openmetrics=False).unseen) == 1


def test_the_metadata_hash_changes_with_the_metadata_alone() -> None:
    def hash_of(text: bytes) -> int:
        return read_exposition(bytearray(text), known, openmetrics=False).metadata_hash

    known = table()
    first = hash_of(b"# HELP m a\n# TYPE m gauge\nm 1\n")
    assert hash_of(b"# HELP m a\n# TYPE m gauge\nm 2\n# other\n") == first
    assert hash_of(b"# HELP m b\n# TYPE m gauge\nm 1\n") != first


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**20), 10**20).map(float))
@settings(max_examples=300, deadline=None)
def test_numbers_as_programs_print_them_are_exact(value: float) -> None:
    for text in (repr(value), f"{value:.17g}", f"{value:e}", f"{value:f}"[:300]):
        assert read(f"m {text}\n")[0].value == float(text) == parse_float(text.encode())


PIECES = st.sampled_from(
    [
        "m",
        "_a9",
        ":",
        "{",
        "}",
        '"',
        '"a"',
        "=",
        ",",
        '="v"',
        "\\",
        '\\"',
        " ",
        "\t",
        "\n",
        "#",
        "# TYPE m gauge",
        "1",
        "-2.5e3",
        "NaN",
        "é",
        "17",
    ]
)


@given(st.lists(PIECES, max_size=14).map("".join))
@settings(max_examples=1500, deadline=None)
def test_any_text_reads_as_the_slow_twin_reads_it(text: str) -> None:
    if _holds_newline_in_quotes(text):
        return
    try:
        expected = str(slow_exposition.parse(text))
    except Malformed:
        expected = "malformed"
    try:
        read_all(text)
        found = str(read(text))
    except ExpositionError:
        found = "malformed"
    assert found == expected


def _holds_newline_in_quotes(text: str) -> bool:
    """The twin reads by lines; what the kernel may take for text in quotes is left to the cases above."""
    return '"' in text and "\n" in text


@given(st.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_no_bytes_do_harm(data: bytes) -> None:
    for openmetrics in (False, True):
        with suppress(ExpositionError):
            read_all(data, openmetrics=openmetrics)


def test_padding_is_all_that_is_added_to_a_body() -> None:
    body = bytearray(b"m 1")
    read_exposition(body, table(), openmetrics=False)
    assert body == b"m 1" + bytes(PADDING)
