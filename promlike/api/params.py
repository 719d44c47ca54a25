"""Request parameters: merged from URL and form body, read as Prometheus reads them."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from math import copysign, floor, isfinite, modf
from typing import TypeVar
from urllib.parse import unquote_plus

from aiohttp import hdrs, web

from promlike.api.body import multipart_pairs, read_form
from promlike.api.errors import InvalidParameter, parameter
from promlike.errors import BadRequest
from promlike.model.blocks import StepGrid
from promlike.model.durations import parse_duration
from promlike.model.labels import quote
from promlike.model.tiers import RESOLUTIONS_MS

MAX_POINTS = 11_000
"""Points a series of a range query may have."""

MAX_TIME_MS = 9_200_000_000_000_000
"""Times beyond this many milliseconds from 1970 are refused: nanoseconds of Go and sums of ours would overflow."""

MAX_PARAMETERS = 100_000
"""Parameters of one request, `match[]` for each of many series among them."""

OPEN_ENDS = {"-292273086-05-16T16:47:06Z": -MAX_TIME_MS, "292277025-08-18T07:12:54.999999999Z": MAX_TIME_MS}
"""How Prometheus's client libraries write "from the beginning" and "to the end of time"."""

_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")
_FORM = "application/x-www-form-urlencoded"
_DIGITS = r"\d(?:_?\d)*"
_NUMBER = re.compile(rf"[+-]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?", re.ASCII)
_HEX_NUMBER = re.compile(r"[+-]?0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?\d+", re.ASCII)
_INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.ASCII | re.IGNORECASE)
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII)
_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2}).{0,2}", re.DOTALL)


E = TypeVar("E", bound=StrEnum)


class Params:
    """The parameters of one request; a name may stand several times. `problem` says what of the form could not be read, or nothing."""

    __slots__ = ("_values", "problem")

    def __init__(self, pairs: Iterable[tuple[str, str]], problem: str = "") -> None:
        self.problem = problem
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def text(self, name: str, default: str = "") -> str:
        return self._values.get(name, [default])[0]

    def all(self, *names: str) -> list[str]:
        """Every value of a parameter that goes by one of these names (Grafana sends `file` and `file[]`)."""
        return [value for name in names for value in self._values.get(name, ())]

    def time_ms(self, name: str) -> int | None:
        """A time, or None where it is missing."""
        text = self.text(name)
        if not text:
            return None
        with parameter(name), _time_value(name):
            return parse_time_ms(text)

    def bound_ms(self, name: str) -> int | None:
        """One end of a span, or None where it is missing. Ends further away than MAX_TIME_MS are moved there: Grafana asks for exemplars
        with milliseconds in place of seconds. So are infinite ones."""
        text = self.text(name)
        if not text:
            return None
        if _INFINITE.fullmatch(text):
            return -MAX_TIME_MS if text.startswith("-") else MAX_TIME_MS
        with parameter(name), _time_value(name):
            return parse_time_ms(text, far=True)

    def required_time_ms(self, name: str) -> int:
        with parameter(name):
            return parse_time_ms(self.text(name))

    def duration_ms(self, name: str) -> int | None:
        if not self.text(name):
            return None
        return self.required_duration_ms(name)

    def required_duration_ms(self, name: str) -> int:
        with parameter(name):
            return _whole(parse_duration_ns(self.text(name)), 1_000_000)

    def resolution_ms(self) -> int | None:
        """`max_source_resolution`: `auto` (None), `raw` (0), or a duration, which means the coarsest tier that is no coarser."""
        text = self.text("max_source_resolution") or "auto"
        if text == "auto":
            return None
        if text == "raw":
            return 0
        with parameter("max_source_resolution"):
            most_ms = parse_duration_ns(text) // 1_000_000
        return max((tier_ms for tier_ms in RESOLUTIONS_MS.values() if tier_ms <= most_ms), default=0)

    def count(self, name: str) -> int | None:
        """A whole number, or None when it is missing."""
        text = self.text(name)
        if not text:
            return None
        try:
            return parse_integer(text)
        except BadRequest as error:
            raise BadRequest(f"{name} must be a number") from error

    def boolean(self, name: str, *, default: bool = False) -> bool:
        """True or false in Go's notation."""
        text = self.text(name)
        if text and text not in (*_TRUE, *_FALSE):
            raise InvalidParameter(name, f"unable to parse boolean: strconv.ParseBool: parsing {quote(text)}: invalid syntax")
        return text in _TRUE if text else default

    def limit(self) -> int:
        """`limit`, 0 when there is none."""
        with parameter("limit"):
            limit = parse_integer(self.text("limit") or "0")
        if limit < 0:
            raise InvalidParameter("limit", "limit must be non-negative")
        return limit

    def whole(self, name: str, default: int) -> int:
        """A whole number that is not negative."""
        with parameter(name):
            count = parse_integer(self.text(name) or str(default))
        if count < 0:
            raise InvalidParameter(name, f"{name} must be non-negative")
        return count

    def number(self, name: str, default: float) -> float:
        """A finite number."""
        text = self.text(name)
        found = _number(text) if text else default
        if found is None:
            raise InvalidParameter(name, f"strconv.ParseFloat: parsing {quote(text)}: invalid syntax")
        return found

    def choice(self, name: str, default: E) -> E:
        """One of the values of an enumeration."""
        text = self.text(name)
        known = [kind.value for kind in type(default)]
        if text and text not in known:
            raise InvalidParameter(name, f"not supported value {quote(text)}, {' or '.join(known)} is needed")
        return type(default)(text) if text else default

    def grid(self) -> StepGrid:
        """`start`, `end` and `step` of a range query."""
        start_ms = self.required_time_ms("start")
        end_ms = self.required_time_ms("end")
        if end_ms < start_ms:
            raise InvalidParameter("end", "end timestamp must not be before start time")
        with parameter("step"):
            step_ns = parse_duration_ns(self.text("step"))
        too_small = InvalidParameter("step", "zero or negative query resolution step widths are not accepted. Try a positive integer")
        if step_ns <= 0:
            raise too_small
        if (end_ms - start_ms) * 1_000_000 // step_ns > MAX_POINTS:
            raise BadRequest("exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)")
        step_ms = step_ns // 1_000_000
        if step_ms == 0:
            raise too_small
        return StepGrid(start_ms=start_ms, step_ms=step_ms, count=(end_ms - start_ms) // step_ms + 1)


async def read_params(request: web.Request) -> Params:
    """URL and body together; a form comes before the URL and multipart behind it, as in Go."""
    url, problem = parse_form(request.rel_url.raw_query_string)
    if request.method in ("POST", "PUT", "PATCH"):
        if request.content_type == _FORM:
            body, in_body = parse_form((await read_form(request)).decode("utf-8", "replace"))
            return Params([*body, *url], in_body or problem)
        if request.content_type == "multipart/form-data":
            return Params([*url, *multipart_pairs(await read_form(request), request.headers[hdrs.CONTENT_TYPE])], problem)
    return Params(url, problem)


def parse_form(text: str) -> tuple[list[tuple[str, str]], str]:
    """The pairs of a query string or form that can be read, and what is wrong with the first of the others, in Go's words."""
    if text.count("&") >= MAX_PARAMETERS:
        raise BadRequest(f"more than {MAX_PARAMETERS} parameters")
    pairs: list[tuple[str, str]] = []
    problem = ""
    for piece in text.split("&"):
        bad = _BAD_ESCAPE.search(piece)
        if ";" in piece:
            problem = problem or "invalid semicolon separator in query"
        elif bad is not None:
            problem = problem or f"invalid URL escape {quote(bad[0])}"
        elif piece:
            name, _, value = piece.partition("=")
            pairs.append((unquote_plus(name), unquote_plus(value)))
    return pairs, problem


def parse_time_ms(text: str, *, far: bool = False) -> int:
    """Seconds since 1970 as a number, or RFC 3339. Raise BadRequest otherwise. `far`: bring numbers beyond MAX_TIME_MS back to it."""
    if text in OPEN_ENDS:
        return OPEN_ENDS[text]
    seconds = _number(text)
    ms = _rfc3339_ms(text) if seconds is None else _seconds_ms(seconds)
    if ms is not None and far:
        return max(-MAX_TIME_MS, min(ms, MAX_TIME_MS))
    if ms is None or abs(ms) > MAX_TIME_MS:
        raise BadRequest(f"cannot parse {quote(text)} to a valid timestamp")
    return ms


def _seconds_ms(seconds: float) -> int:
    """Rounded to the millisecond, halves away from zero."""
    fraction, whole = modf(seconds)
    return int(whole) * 1000 + int(copysign(floor(abs(fraction) * 1000 + 0.5), fraction))


@contextmanager
def _time_value(name: str) -> Iterator[None]:
    try:
        yield
    except BadRequest as error:
        raise BadRequest(f"Invalid time value for '{name}': {error}") from error


def parse_duration_ns(text: str) -> int:
    """Seconds as a number, or `1h30m`, in nanoseconds. Raise BadRequest otherwise."""
    seconds = _number(text)
    if text.lower() == "nan":
        return -(2**63)  # what Go makes of it
    if _INFINITE.fullmatch(text) or (seconds is not None and abs(seconds) > 2**63 / 1e9):
        raise BadRequest(f"cannot parse {quote(text)} to a valid duration. It overflows int64")
    if seconds is not None:
        return int(seconds * 1e9)
    try:
        return parse_duration(text) * 1_000_000
    except BadRequest as error:
        raise BadRequest(f"cannot parse {quote(text)} to a valid duration") from error


def parse_integer(text: str) -> int:
    """A whole number of 64 bits. Raise BadRequest in Go's words otherwise."""
    if not re.fullmatch(r"[+-]?\d+", text, re.ASCII):
        raise BadRequest(f"strconv.Atoi: parsing {quote(text)}: invalid syntax")
    digits = text.lstrip("+-").lstrip("0")
    if len(digits) > 19 or not -(2**63) <= int(text) < 2**63:
        raise BadRequest(f"strconv.Atoi: parsing {quote(text)}: value out of range")
    return int(text)


def _whole(ns: int, unit: int) -> int:
    """Whole units, towards zero."""
    return ns // unit if ns >= 0 else -(-ns // unit)


def _number(text: str) -> float | None:
    """A finite number in Go's notation, which knows hexadecimal fractions and underscores between digits."""
    if _HEX_NUMBER.fullmatch(text):
        try:
            return float.fromhex(text)
        except OverflowError:
            return None
    number = float(text) if _NUMBER.fullmatch(text) else None
    return number if number is None or isfinite(number) else None


def _rfc3339_ms(text: str) -> int | None:
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    day, clock, fraction, sign, hours, minutes = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=UTC)
    except ValueError:
        return None
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    since_epoch = moment - datetime(1970, 1, 1, tzinfo=UTC) - (-offset if sign == "-" else offset)
    return since_epoch // timedelta(milliseconds=1) + int((fraction or "0").ljust(3, "0")[:3])
