"""Encoding against a plain twin, and the texts Prometheus prints."""

import math
from decimal import Decimal

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promlike.api import encode
from promlike.api.encode import encode_sample, encode_value, format_value
from promlike.model.blocks import STALE_NAN, SampleBlock
from promlike.model.frame import LabelFrame, SymbolScope
from promlike.model.labels import Labels
from promlike.promql.result import Matrix, Scalar, String, Vector


def plain_value(value: float) -> str:
    """Go's shortest text, written down digit by digit."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    sign = "-" if math.copysign(1, value) < 0 else ""
    size = abs(value)
    if size == 0:
        return sign + "0"
    if 1e-6 <= size < 1e21:
        text = format(Decimal(repr(size)), "f")
        return sign + (text.rstrip("0").rstrip(".") if "." in text else text)
    parts = Decimal(repr(size)).normalize().as_tuple()
    assert isinstance(parts.exponent, int)
    digits = "".join(map(str, parts.digits))
    exponent = parts.exponent + len(digits) - 1
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{sign}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def plain_time(ts_ms: int) -> str:
    seconds, fraction = divmod(abs(ts_ms), 1000)
    return ("-" if ts_ms < 0 else "") + str(seconds) + (f".{fraction:03d}" if fraction else "")


def plain_series(labels: Labels, samples: list[tuple[int, float]], *, single: bool) -> str:
    metric = ",".join(f"{orjson.dumps(name).decode()}:{orjson.dumps(value).decode()}" for name, value in labels)
    for char in "<>&\u2028\u2029":
        metric = metric.replace(char, f"\\u{ord(char):04x}")
    points = ",".join(f'[{plain_time(ts_ms)},"{plain_value(value)}"]' for ts_ms, value in samples)
    return f'{{"metric":{{{metric}}},' + (f'"value":{points}}}' if single else f'"values":[{points}]}}')


VALUES = [
    (0.0, "0"),
    (-0.0, "-0"),
    (1.0, "1"),
    (-17.0, "-17"),
    (0.1, "0.1"),
    (1e-6, "0.000001"),
    (1.5e-6, "0.0000015"),
    (9.99e-7, "9.99e-07"),
    (1e-7, "1e-07"),
    (-1.25e-10, "-1.25e-10"),
    (5e-324, "5e-324"),
    (1e15, "1000000000000000"),
    (9007199254740991.0, "9007199254740991"),
    (9007199254740992.0, "9007199254740992"),
    (1e16, "10000000000000000"),
    (-1.5e16, "-15000000000000000"),
    (123456789012345680000.0, "123456789012345680000"),
    (1e21, "1e+21"),
    (-1.5e22, "-1.5e+22"),
    (1.7976931348623157e308, "1.7976931348623157e+308"),
    (0.00001, "0.00001"),
    (1435781430.781, "1435781430.781"),
    (math.inf, "+Inf"),
    (-math.inf, "-Inf"),
    (math.nan, "NaN"),
    (STALE_NAN, "NaN"),
]


@pytest.mark.parametrize(("value", "text"), VALUES)
def test_values_are_printed_as_prometheus_prints_them(value: float, text: str) -> None:
    assert format_value(value) == text
    assert plain_value(value) == text


@pytest.mark.parametrize(
    ("ts_ms", "text"),
    [
        (0, "0"),
        (1, "0.001"),
        (100, "0.100"),
        (1435781430781, "1435781430.781"),
        (1435781430000, "1435781430"),
        (-1500, "-1.500"),
        (-7, "-0.007"),
    ],
)
def test_times_are_seconds_with_three_decimals_only_when_needed(ts_ms: int, text: str) -> None:
    assert encode_sample(ts_ms, 2.5) == f'[{text},"2.5"]'.encode()


def test_result_type_stands_before_result() -> None:
    symbols = SymbolScope()
    assert b"".join(encode_value(Scalar(ts_ms=4000, value=2.0))) == b'"resultType":"scalar","result":[4,"2"]'
    assert b"".join(encode_value(String(ts_ms=4500, value='a"b'))) == b'"resultType":"string","result":[4.5,"a\\"b"]'
    empty = Vector(labels=LabelFrame.empty(symbols), ts_ms=np.empty(0, np.int64), values=np.empty(0))
    assert b"".join(encode_value(empty)) == b'"resultType":"vector","result":[]'
    nothing = Matrix(labels=LabelFrame.empty(symbols), samples=SampleBlock.empty())
    assert b"".join(encode_value(nothing)) == b'"resultType":"matrix","result":[]'


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
series = st.tuples(
    st.dictionaries(texts, texts, max_size=4),
    st.lists(st.tuples(st.integers(-(2**53), 2**53), st.floats() | st.integers(-100, 100).map(float)), max_size=6),
)


@given(st.lists(series, max_size=6), st.integers(1, 8))
def test_a_matrix_is_encoded_as_the_plain_twin_does(rows: list[tuple[dict[str, str], list[tuple[int, float]]]], chunk: int) -> None:
    sorted_labels = [tuple(sorted((name, value) for name, value in labels.items() if value)) for labels, _ in rows]
    samples = [points for _, points in rows]
    block = SampleBlock(
        ts_ms=np.array([ts_ms for points in samples for ts_ms, _ in points], np.int64),
        values=np.array([value for points in samples for _, value in points], np.float64),
        offsets=np.concatenate([[0], np.cumsum([len(points) for points in samples], dtype=np.int64)]).astype(np.int64),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode, "MAX_SAMPLES_A_CHUNK", chunk)
        encoded = b"".join(encode_value(Matrix(labels=LabelFrame.from_labels(sorted_labels, SymbolScope()), samples=block)))
    expected = ",".join(plain_series(labels, points, single=False) for labels, points in zip(sorted_labels, samples, strict=True))
    assert encoded.decode() == f'"resultType":"matrix","result":[{expected}]'


@given(st.lists(st.tuples(st.dictionaries(texts, texts, max_size=4), st.integers(0, 2**50), st.floats()), max_size=8))
def test_a_vector_is_encoded_as_the_plain_twin_does(rows: list[tuple[dict[str, str], int, float]]) -> None:
    sorted_labels = [tuple(sorted((name, value) for name, value in labels.items() if value)) for labels, _, _ in rows]
    vector = Vector(
        labels=LabelFrame.from_labels(sorted_labels, SymbolScope()),
        ts_ms=np.array([ts_ms for _, ts_ms, _ in rows], np.int64),
        values=np.array([value for _, _, value in rows], np.float64),
    )
    expected = ",".join(
        plain_series(labels, [(ts_ms, value)], single=True) for labels, (_, ts_ms, value) in zip(sorted_labels, rows, strict=True)
    )
    assert b"".join(encode_value(vector)).decode() == f'"resultType":"vector","result":[{expected}]'
