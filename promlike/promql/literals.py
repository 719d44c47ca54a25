"""Numbers, durations and strings as PromQL writes them."""

import math
import re
from decimal import Decimal

from promlike.errors import BadRequest
from promlike.model.durations import format_duration, parse_duration
from promlike.model.labels import quote
from promlike.promql.position import SyntaxProblem

DURATION_TEXT = re.compile(r"(?:\d+(?:ms|[smhdwy]))+", re.ASCII)

_UNDERSCORES = re.compile(r"(?<=[0-9a-fA-FxX])_(?=[0-9a-fA-F])")
_LONGEST_DURATION = 500
"""Characters; Python refuses to read integers of some thousand digits."""

_OCTAL = re.compile(r"0[0-7]+")

_ESCAPE = re.compile(r"\\(?:([abfnrtv\\'\"])|([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.|\n|$))", re.DOTALL)
_SIMPLE_ESCAPES = dict(zip("abfnrtv\\'\"", "\a\b\f\n\r\t\v\\'\"", strict=True))


def parse_number(text: str, offset: int) -> float:
    """The value of a number: decimal, exponent, hexadecimal, octal with a leading 0, `_` between digits, Inf and NaN in any case."""
    plain = _UNDERSCORES.sub("", text).lower()
    if plain in ("inf", "nan"):
        return math.inf if plain == "inf" else math.nan  # one NaN object for all, so that trees with it compare equal
    value = _value(plain)
    if value is None:
        raise SyntaxProblem(f"bad number or duration syntax: {quote(text)}", offset)
    if math.isinf(value):
        raise SyntaxProblem(f"error parsing number: strconv.ParseFloat: parsing {quote(text)}: value out of range", offset)
    return value


def _value(plain: str) -> float | None:
    try:
        if plain.startswith("0x"):
            return float(int(plain[2:], 16))
        if _OCTAL.fullmatch(plain):
            return float(int(plain, 8))
        return float(plain) if "_" not in plain else None
    except ValueError:
        return None
    except OverflowError:
        return math.inf


def parse_seconds(text: str, offset: int) -> float:
    """The seconds of a duration such as `1h30m`."""
    if len(text) > _LONGEST_DURATION:
        raise SyntaxProblem(f"duration out of range: {quote(text)}", offset)
    try:
        return parse_duration(text) / 1000
    except BadRequest as error:
        raise SyntaxProblem(str(error).replace("'", '"'), offset) from error


def format_seconds(seconds: float) -> str:
    """A duration literal of so many seconds, at least a millisecond fine."""
    return format_duration(round(seconds * 1000))


def format_number(value: float) -> str:
    """The shortest decimal that reads back as the same float, without an exponent between 1e-4 and 1e21; `+Inf`, `-Inf`, `NaN`."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return format(Decimal(repr(value)).normalize() + 0, "f") if value else ("-0" if math.copysign(1, value) < 0 else "0")


def unquote(text: str, offset: int) -> str:
    """The value of a string literal with its quotes; bytes that are no UTF-8 are kept as lone surrogates (see `valid_utf8`).

    Raise SyntaxProblem for an escape sequence that Go does not know.
    """
    quote, body = text[0], text[1:-1]
    if quote == "`" or "\\" not in body:
        return body
    # Escapes name bytes as well as characters, so the value is put together as UTF-8.
    out = bytearray()
    end = 0
    for match in _ESCAPE.finditer(body):
        out += body[end : match.start()].encode("utf-8", "surrogatepass")
        try:
            out += _escaped(match, quote)
        except ValueError as error:
            raise SyntaxProblem(str(error), offset) from error
        end = match.end()
    out += body[end:].encode("utf-8", "surrogatepass")
    return out.decode("utf-8", "surrogateescape")


def _escaped(match: re.Match[str], quote: str) -> bytes:
    """The bytes of one escape sequence. Raise ValueError that says, in Go's words, what is wrong with it."""
    simple, octal, byte, short, long, unknown = match.groups()
    if simple is not None and (simple not in "'\"" or simple == quote):
        return _SIMPLE_ESCAPES[simple].encode()
    if octal is not None and int(octal, 8) < 256:
        return bytes([int(octal, 8)])
    if byte is not None:
        return bytes([int(byte, 16)])
    code = int(short or long or "d800", 16)
    if code < 0x110000 and not 0xD800 <= code < 0xE000:
        return chr(code).encode()
    if unknown is None and simple is None:
        raise ValueError("escape sequence is an invalid Unicode code point")
    char = simple or unknown or ""
    if char and char in "xuU01234567":
        illegal = _first_illegal(match.string, match.start() + 1, quote)
        raise ValueError(f"illegal character U+{ord(illegal):04X} '{illegal}' in escape sequence")
    raise ValueError(f"unknown escape sequence U+{ord(char):04X} '{char}'" if char else "escape sequence not terminated")


def _first_illegal(body: str, at: int, quote: str) -> str:
    """The first character that is no digit of the number that begins at `at`, with or without its letter."""
    digits = "01234567"
    if body[at] in "xuU":
        at, digits = at + 1, "0123456789abcdefABCDEF"
    return next((char for char in body[at:] if char not in digits), quote)
