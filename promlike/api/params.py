"""Request parameters: merged from URL and form body, read as Prometheus reads them."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from math import isfinite
from urllib.parse import parse_qsl

from aiohttp import web

from promlike.api.errors import InvalidParameter, parameter
from promlike.errors import BadRequest
from promlike.model.blocks import StepGrid
from promlike.model.durations import parse_duration
from promlike.model.labels import quote

MAX_POINTS = 11_000
"""Points a series of a range query may have."""

MAX_TIME_MS = 9_200_000_000_000_000
"""Times beyond this many milliseconds from 1970 are refused: nanoseconds of Go and sums of ours would overflow."""

OPEN_ENDS = {"-292273086-05-16T16:47:06Z": None, "292277025-08-18T07:12:54.999999999Z": None}
"""How Prometheus's client libraries write "from the beginning" and "to the end of time"."""

_FORM = "application/x-www-form-urlencoded"
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII)


class Params:
    """The parameters of one request; a name may stand several times."""

    __slots__ = ("_values",)

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def text(self, name: str, default: str = "") -> str:
        return self._values.get(name, [default])[0]

    def all(self, *names: str) -> list[str]:
        """Every value of a parameter that goes by one of these names (Grafana sends `file` and `file[]`)."""
        return [value for name in names for value in self._values.get(name, ())]

    def time_ms(self, name: str) -> int | None:
        """A time, or None where it is missing or means an open end."""
        text = self.text(name)
        if not text or text in OPEN_ENDS:
            return None
        with parameter(name):
            return parse_time_ms(text)

    def required_time_ms(self, name: str) -> int:
        with parameter(name):
            return parse_time_ms(self.text(name))

    def duration_ms(self, name: str) -> int | None:
        if not self.text(name):
            return None
        return self.required_duration_ms(name)

    def required_duration_ms(self, name: str) -> int:
        with parameter(name):
            return parse_duration_ms(self.text(name))

    def count(self, name: str) -> int | None:
        """A whole number, or None when it is missing."""
        text = self.text(name)
        if not text:
            return None
        if not re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII):
            raise InvalidParameter(name, f"cannot parse {quote(text)} to an integer")
        return int(text)

    def limit(self) -> int:
        """`limit`, 0 when there is none."""
        limit = self.count("limit") or 0
        if limit < 0:
            raise InvalidParameter("limit", "limit must be non-negative")
        return limit

    def grid(self) -> StepGrid:
        """`start`, `end` and `step` of a range query."""
        start_ms = self.required_time_ms("start")
        end_ms = self.required_time_ms("end")
        if end_ms < start_ms:
            raise InvalidParameter("end", "end timestamp must not be before start time")
        step_ms = self.required_duration_ms("step")
        if step_ms <= 0:
            raise InvalidParameter("step", "zero or negative query resolution step widths are not accepted. Try a positive integer")
        count = (end_ms - start_ms) // step_ms + 1
        if count - 1 > MAX_POINTS:
            raise BadRequest("exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)")
        return StepGrid(start_ms=start_ms, step_ms=step_ms, count=count)


async def read_params(request: web.Request) -> Params:
    """URL and form body together; the body comes first, as in Go."""
    pairs: list[tuple[str, str]] = []
    if request.method in ("POST", "PUT", "PATCH") and request.content_type == _FORM:
        # Not request.post(), which fails on bytes that are no UTF-8; here they become replacement characters, as in a URL.
        pairs += parse_qsl((await request.read()).decode("utf-8", "replace"), keep_blank_values=True)
    return Params([*pairs, *request.query.items()])


def parse_time_ms(text: str) -> int:
    """Seconds since 1970 as a decimal number, or RFC 3339. Raise BadRequest otherwise."""
    seconds = _number(text)
    ms = _rfc3339_ms(text) if seconds is None else round(seconds * 1000)
    if ms is None or abs(ms) > MAX_TIME_MS:
        raise BadRequest(f"cannot parse {quote(text)} to a valid timestamp")
    return ms


def parse_duration_ms(text: str) -> int:
    """Seconds as a decimal number, or `1h30m`. Raise BadRequest otherwise."""
    seconds = _number(text)
    if seconds is not None:
        if abs(seconds) > 2**63 / 1e9:
            raise BadRequest(f"cannot parse {quote(text)} to a valid duration. It overflows int64")
        return round(seconds * 1000)
    try:
        return parse_duration(text)
    except BadRequest as error:
        raise BadRequest(f"cannot parse {quote(text)} to a valid duration") from error


def _number(text: str) -> float | None:
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


def seconds(ms: int | None, default: float) -> float:
    """Milliseconds as seconds, or the default."""
    return default if ms is None else ms / 1000
