"""Query results as JSON, byte for byte as Prometheus prints them.

Values are strings in Go's shortest form (`strconv.AppendFloat`, format `f`, or `e` below 1e-6 and from 1e21 on), times are seconds with
three decimals only when they are not whole. Digits of fractions come from orjson, which prints a whole array at C speed; one kernel
writes labels, times and integers and rewrites orjson's exponents. Axis letters: S series, N samples, L label names.
"""

from collections.abc import Callable
from decimal import Decimal
from math import isfinite

import numpy as np
import orjson

from promlike.api.json_text import to_json
from promlike.kernel import inlined, kernel
from promlike.model.blocks import Float64, Int32, Int64
from promlike.model.frame import LabelFrame
from promlike.model.label_texts import Bytes, label_texts
from promlike.promql.result import WRITTEN_AT_ONCE, Matrix, Scalar, String, Value, Vector

MAX_SAMPLES_A_CHUNK = WRITTEN_AT_ONCE
"""Larger results are written in chunks of whole series, so that buffers stay small."""

_SAMPLE_BYTES = 64  # `[-9223372036854775.808,"-0.0000012345678901234567"],` is 53 bytes
_SERIES_BYTES = 32  # `{"metric":{},"values":[]},` is 26 bytes


def encode_value(value: Value) -> list[bytes]:
    """The parts of `"resultType":…,"result":…`, `resultType` first because Grafana's stream parser needs it first."""
    match value:
        case Scalar():
            return [b'"resultType":"scalar","result":[', _plain_time(value.ts_ms), f',"{positional(value.value)}"]'.encode()]
        case String():
            text = to_json(value.value)
            return [b'"resultType":"string","result":[', _plain_time(value.ts_ms), b",", text, b"]"]
        case Vector():
            offsets = np.arange(len(value.ts_ms) + 1, dtype=np.int64)
            chunks = _encode_series(value.labels, offsets, value.ts_ms, value.values, single=True)
            return [b'"resultType":"vector","result":[', *chunks, b"]"]
        case Matrix():
            chunks = _encode_series(value.labels, value.samples.offsets, value.samples.ts_ms, value.samples.values, single=False)
            return [b'"resultType":"matrix","result":[', *chunks, b"]"]


def encode_sample(ts_ms: int, value: float) -> bytes:
    """`[1435781430.781,"1"]`"""
    return _encode_rows(*_NO_LABELS, np.array([0, 1]), np.array([ts_ms]), np.array([value]), single=True)[
        len(b'{"metric":{},"value":') : -1
    ]


def encode_samples(ts_ms: Int64, values: Float64) -> list[tuple[bytes, bytes]]:
    """Time and value of each of N samples, as in `encode_sample`: `1435781430.781` and `"1"`."""
    if not len(ts_ms):
        return []
    rows = _encode_rows(*_NO_LABELS, np.array([0, len(ts_ms)]), ts_ms, values, single=False)
    pairs = rows[len(b'{"metric":{},"values":[[') : -len(b"]]}")].split(b"],[")
    return [(time, value) for time, _, value in (pair.partition(b",") for pair in pairs)]


def _plain_time(ts_ms: int) -> bytes:
    """Seconds without trailing zeros: Prometheus prints the time of a scalar as it prints any number."""
    return f"{ts_ms / 1000!r}".removesuffix(".0").encode()


def format_value(value: float) -> str:
    """One value as Prometheus prints it."""
    return encode_sample(0, value).split(b'"')[1].decode()


def positional(value: float) -> str:
    """A scalar as Prometheus prints it: unlike samples never with an exponent."""
    if not isfinite(value):
        return format_value(value)
    return f"{Decimal(repr(value).removesuffix('.0')):f}"


def _encode_series(labels: LabelFrame, offsets: Int64, ts_ms: Int64, values: Float64, *, single: bool) -> list[bytes]:
    """The elements of a result list, in chunks that end between series; the chunks carry the commas between them."""
    texts = label_texts(labels, _label_text)
    chunks: list[bytes] = []
    row = 0
    while row < len(labels):
        below = int(np.searchsorted(offsets, offsets[row] + MAX_SAMPLES_A_CHUNK, side="right")) - 1
        until = min(max(below, row + 1), len(labels))
        first, last = int(offsets[row]), int(offsets[until])
        part = np.ascontiguousarray(offsets[row : until + 1] - first)
        if chunks:
            chunks.append(b",")
        rows = texts.pieces[row:until]
        chunks.append(_encode_rows(texts.blob, texts.borders, rows, part, ts_ms[first:last], values[first:last], single=single))
        row = until
    return chunks


def _label_text(name: str) -> Callable[[str], bytes]:
    """`"name":"value"`"""
    key = to_json(name) + b":"
    return lambda value: key + to_json(value)


def _encode_rows(blob: Bytes, borders: Int64, pieces: Int32, offsets: Int64, ts_ms: Int64, values: Float64, *, single: bool) -> bytes:
    """The elements of S series with N samples, joined by commas; see `write_series`."""
    size = int(np.diff(borders)[pieces].sum()) + pieces.size + len(pieces) * _SERIES_BYTES + len(values) * _SAMPLE_BYTES
    out = np.empty(size + _SLACK, np.uint8)
    with np.errstate(invalid="ignore"):
        fractions = values[np.isfinite(values) & ((values != np.floor(values)) | (np.abs(values) >= _EXACT))]
    printed = bytearray(orjson.dumps(fractions, option=orjson.OPT_SERIALIZE_NUMPY))
    last = len(printed) - 1
    printed += bytes(_SLACK)
    digits = np.frombuffer(printed, np.uint8)
    ends = np.append(np.flatnonzero(digits == _COMMA), last)
    rows = np.ascontiguousarray(pieces)
    written = write_series(
        blob, borders, rows, offsets, np.ascontiguousarray(ts_ms), np.ascontiguousarray(values), digits, ends, _MIDDLES[single], single, out
    )
    return out[:written].tobytes()


_EXACT = float(2**53)
_PLAIN = 1e-4
"""From here up to `_EXACT` fractions have no exponent, and at most `_BLOCK` characters: 17 digits after `0.000`."""
_BLOCK = 24
"""Also room for `[t,"` of any time: 22 characters and what stands around them."""
_SLACK = 32
_TIMES = 1024
"""Texts of times that are kept: the series of a range query share their times. A slot is chosen by the upper bits of a product."""
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(54)
_MIDDLES = tuple(np.frombuffer(bytearray(text), np.uint8) for text in (b'},"values":[', b'},"value":'))
_NO_LABELS = (np.empty(0, np.uint8), np.zeros(2, np.int64), np.zeros((1, 0), np.int32))
_HEAD = np.frombuffer(b'{"metric":{', np.uint8)
_QUOTE, _COMMA, _DOT, _MINUS, _PLUS, _ZERO, _E = (np.uint8(ord(char)) for char in '",.-+0e')
_OPEN, _CLOSE, _BRACE = (np.uint8(ord(char)) for char in "[]}")


@kernel("(u1[::1], i8[::1], i4[:,::1], i8[::1], i8[::1], f8[::1], u1[::1], i8[::1], u1[::1], b1, u1[::1])")
def write_series(
    blob: Bytes,
    borders: Int64,
    pieces: Int32,
    offsets: Int64,
    ts_ms: Int64,
    values: Float64,
    digits: Bytes,
    ends: Int64,
    middle: Bytes,
    single: bool,
    out: Bytes,
) -> int:
    """Write `{"metric":{…},"values":[[t,"v"],…]}` for each of S series into `out`, comma separated; return the bytes written.

    `digits` is `[…]` with the values that are not whole numbers below 2^53, in order, as orjson prints them, and `ends` where each of them
    ends. `single`: one sample a series, without the list around it; `middle` is what stands between labels and samples. Behind the text
    `out` and `digits` have `_SLACK` bytes, because short texts are copied as whole blocks of a fixed size.
    """
    times = np.empty((_TIMES, _BLOCK), np.uint8)
    lengths = np.zeros(_TIMES, np.int64)
    times_of = np.zeros(_TIMES, np.int64)
    at = 0
    token = 0
    for row in range(pieces.shape[0]):
        if row:
            out[at] = _COMMA
            at += 1
        at = _copy(_HEAD, 0, len(_HEAD), out, at)
        first = True
        for column in range(pieces.shape[1]):
            piece = pieces[row, column]
            if piece:
                if not first:
                    out[at] = _COMMA
                    at += 1
                first = False
                at = _copy(blob, borders[piece], borders[piece + 1], out, at)
        at = _copy(middle, 0, len(middle), out, at)
        for k in range(offsets[row], offsets[row + 1]):
            if k > offsets[row]:
                out[at] = _COMMA
                at += 1
            slot = (np.uint64(ts_ms[k]) * _SPREAD) >> _SHIFT
            if not lengths[slot] or times_of[slot] != ts_ms[k]:
                times_of[slot] = ts_ms[k]
                lengths[slot] = _write_start(ts_ms[k], times[slot])
            _copy_block(times[slot], 0, out, at)
            at += lengths[slot]
            # The two common kinds stand here, because the call of a function that is not inlined costs as much as writing a number.
            size = values[k]
            if size < 0.0:
                size = -size
                out[at] = _MINUS
                at += 1
            if 0.0 < size < _EXACT and size == np.floor(size):
                at = _write_integer(int(size), out, at)
            elif _PLAIN <= size < _EXACT:
                read = (ends[token - 1] + 1 if token else 1) + (values[k] < 0.0)
                _copy_block(digits, read, out, at)
                at += ends[token] - read
                token += 1
            else:
                at, token = _write_special(values[k], digits, ends, token, out, at)
            out[at] = _QUOTE
            out[at + 1] = _CLOSE
            at += 2
        if not single:
            out[at] = _CLOSE
            at += 1
        out[at] = _BRACE
        at += 1
    return at


@inlined
def _write_start(ts_ms: int, out: Bytes) -> int:
    """`[t,"`, what a sample begins with; return its length."""
    out[0] = _OPEN
    at = _write_time(ts_ms, out, 1)
    out[at] = _COMMA
    out[at + 1] = _QUOTE
    return at + 2


@inlined
def _copy(source: Bytes, start: int, end: int, out: Bytes, at: int) -> int:
    for i in range(start, end):
        out[at] = source[i]
        at += 1
    return at


@inlined
def _copy_block(source: Bytes, start: int, out: Bytes, at: int) -> None:
    """Copy `_BLOCK` bytes. With unsigned positions, which are never counted from the end, this becomes two or three wide moves."""
    to = np.uint64(at)
    read = np.uint64(start)
    for i in range(_BLOCK):
        out[to + np.uint64(i)] = source[read + np.uint64(i)]


@inlined
def _write_integer(number: int, out: Bytes, at: int) -> int:
    """A number that is not negative."""
    end = at + 1
    rest = number
    while rest >= 10:
        rest //= 10
        end += 1
    i = end
    rest = number
    while i > at:
        i -= 1
        tens = rest // 10
        out[i] = _ZERO + np.uint8(rest - tens * 10)
        rest = tens
    return end


@inlined
def _write_time(ts_ms: int, out: Bytes, at: int) -> int:
    if ts_ms < 0:
        out[at] = _MINUS
        at += 1
        ts_ms = -ts_ms
    seconds = ts_ms // 1000
    fraction = ts_ms - seconds * 1000
    at = _write_integer(seconds, out, at)
    if fraction:
        out[at] = _DOT
        out[at + 1] = _ZERO + np.uint8(fraction // 100)
        out[at + 2] = _ZERO + np.uint8(fraction // 10 % 10)
        out[at + 3] = _ZERO + np.uint8(fraction % 10)
        at += 4
    return at


@inlined
def _write_special(value: float, digits: Bytes, ends: Int64, token: int, out: Bytes, at: int) -> tuple[int, int]:
    """Write a zero, a value that is not finite, or one that may need an exponent; the minus of a number below zero is there already.

    `token` is the next of `digits`. Return the position and the token after it.
    """
    if value != value:
        out[at] = 78  # NaN
        out[at + 1] = 97
        out[at + 2] = 78
        return at + 3, token
    if np.isinf(value):
        if value > 0:
            out[at] = _PLUS
            at += 1
        out[at] = 73  # Inf
        out[at + 1] = 110
        out[at + 2] = 102
        return at + 3, token
    if value == 0.0:
        if np.signbit(value):
            out[at] = _MINUS
            at += 1
        out[at] = _ZERO
        return at + 1, token
    read = ends[token - 1] + 1 if token else 1
    end = ends[token]
    if digits[read] == _MINUS:
        read += 1
    exponent_at = 0
    for i in range(read, end):
        if digits[i] == _E:
            exponent_at = i
    if exponent_at:
        at = _write_exponent(digits, read, exponent_at, end, out, at)
    else:
        whole = end - 2 if digits[end - 2] == _DOT and digits[end - 1] == _ZERO else end
        at = _copy(digits, read, whole, out, at)
    return at, token + 1


@inlined
def _write_exponent(digits: Bytes, start: int, mark: int, end: int, out: Bytes, at: int) -> int:
    """Rewrite `d.ddde±x`: positional for -6 <= x < 21, else with two exponent digits at least."""
    exponent = 0
    negative = digits[mark + 1] == _MINUS
    for i in range(mark + 1, end):
        if digits[i] != _MINUS and digits[i] != _PLUS:
            exponent = exponent * 10 + int(digits[i] - _ZERO)
    if exponent >= 21 or (negative and exponent > 6):
        at = _copy(digits, start, mark + 1, out, at)
        out[at] = _MINUS if negative else _PLUS
        at += 1
        if exponent < 10:
            out[at] = _ZERO
            at += 1
        return _write_integer(exponent, out, at)
    if negative:
        out[at] = _ZERO
        out[at + 1] = _DOT
        at += 2
        for _ in range(exponent - 1):
            out[at] = _ZERO
            at += 1
        for i in range(start, mark):
            if digits[i] != _DOT:
                out[at] = digits[i]
                at += 1
        return at
    # From 2^53 on there is nothing behind the point, so a positive exponent never ends before the last digit.
    places = exponent + 1
    for i in range(start, mark):
        if digits[i] != _DOT:
            out[at] = digits[i]
            at += 1
            places -= 1
    for _ in range(places):
        out[at] = _ZERO
        at += 1
    return at
