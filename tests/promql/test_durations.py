"""Duration expressions, resolved for a query."""

import pytest

from promlike.errors import QueryError
from promlike.promql.ast import MatrixSelector
from promlike.promql.durations import resolve
from promlike.promql.options import Features
from promlike.promql.parser import parse


def milliseconds(text: str, *, positive: bool = False, step_ms: int = 5000) -> int:
    selector = parse(f"a[{text}]", Features())
    assert isinstance(selector, MatrixSelector)
    return resolve(selector.range, start_ms=50_000, end_ms=60_000, step_ms=step_ms, positive=positive)


RESOLVED = [
    ("5m", 300_000),
    ("1.5", 1500),
    ("0.0005+1", 1001),
    ("0.0025*1", 3),
    ("60*30", 1_800_000),
    ("2m*(10+5)", 1_800_000),
    ("24m+((1.5*2m)+2m)", 1_740_000),
    ("-5m+35m", 1_800_000),
    ("1h/2", 1_800_000),
    ("1h30m % 1h", 1_800_000),
    ("30m1s-30m1s % 1m", 1_800_000),
    ("2^3^1", 8000),
    ("10-2-3", 5000),
    ("step()", 5000),
    ("step()+1ms", 5001),
    ("1+(STep()-3)*2", 5000),
    ("range()", 10_000),
    ("min_of(step(),1s)", 1000),
    ("max_of(min_of(step()+1,1h),1ms)", 6000),
    ("-step()", -5000),
    ("-step()^2", -25_000),
]


@pytest.mark.parametrize(("text", "expected"), RESOLVED)
def test_resolved(text: str, expected: int) -> None:
    assert milliseconds(text) == expected


REFUSED = [
    ("1/(step()-5)", "division by zero"),
    ("1%(step()-5)", "modulo by zero"),
    ("step()-5", "2:10: duration must be greater than 0"),
    ("-step()", "2:9: duration must be greater than 0"),
    ("step()*1e12", "2:13: duration out of range"),
    ("(step()*10)^1000", "2:18: duration out of range"),
    ("(-step())^0.5", "2:15: duration out of range"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_only_the_query_shows_to_be_wrong_fails_the_query(text: str, message: str) -> None:
    with pytest.raises(QueryError) as caught:
        milliseconds(text, positive=True)
    assert str(caught.value) == message


def test_an_instant_query_has_neither_step_nor_range() -> None:
    selector = parse("a[step()+range()+1]", Features())
    assert isinstance(selector, MatrixSelector)
    assert resolve(selector.range, start_ms=7, end_ms=7, step_ms=0) == 1000
