"""The runner of the test language fails when it should: each case is a test that must not pass."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from promlike.model.blocks import is_stale
from promlike.promql.engine import Engine
from tests.promql.language import Load, TestSyntaxError, parse_test
from tests.promql.pinned import pinned
from tests.promql.promqltest import TestFailure, experimental_engine, run_test, same

DATA = """
load 1m
  m{n="1"} 1 2 3
  m{n="2"} 4 5 6
  x 7 8
"""

WRONG = {
    "a value": ('eval instant at 0 m\n  m{n="1"} 1\n  m{n="2"} 4.1', "expected 4.1 for"),
    "a value of a range": ('eval range from 0 to 2m step 1m m\n  m{n="1"} 1 2 3\n  m{n="2"} 4 5 7', "expected 7.0 for"),
    "a series too many": ('eval instant at 0 m\n  m{n="1"} 1', "unexpected series"),
    "a series too few": ('eval instant at 0 m\n  m{n="1"} 1\n  m{n="2"} 4\n  m{n="3"} 4', "missing series"),
    "a series where none is expected": ("eval instant at 0 m", "unexpected series"),
    "other labels": ('eval instant at 0 x\n  x{n="1"} 7', "missing series"),
    "a name too many": ("eval instant at 0 x\n  {} 7", "missing series"),
    "a point too many": ("eval range from 0 to 2m step 1m x\n  x 7 8", "at [0, 60000], got"),
    "a point too few": ("eval range from 0 to 7m step 7m x\n  x 7 8", "at [0, 420000], got"),
    "more values than steps": ("eval range from 0 to 1m step 1m x\n  x 7 8 8", "more values than steps"),
    "the order": ('eval instant at 0 sort(m)\n  expect ordered\n  m{n="2"} 4\n  m{n="1"} 1', "expected the order"),
    "no failure": ("eval instant at 0 m + m\n  expect fail", "expected an error"),
    "no failure, old form": ("eval_fail instant at 0 m", "expected an error"),
    "another failure": ("eval instant at 0 topk(NaN, m)\n  expect fail msg: something else", "expected the error 'something else'"),
    "another failure by regex": ("eval instant at 0 topk(NaN, m)\n  expect fail regex: ^is NaN", "expected the error '^is NaN'"),
    "an unexpected failure": ("eval instant at 0 topk(NaN, m)", "unexpected error: Parameter value is NaN"),
    "no warning": ("eval instant at 0 sum(m)\n  expect warn\n  {} 5", "expected warn"),
    "another warning": ("eval instant at 0 quantile(2, m)\n  expect warn msg: no\n  {} Inf", "expected warn 'no'"),
    "a second warning": (
        "eval instant at 0 quantile(2, m) + quantile(3, m)\n  expect warn regex: got 2\n  {} Inf",
        "unexpected warn",
    ),
    "a warning": ("eval instant at 0 quantile(2, m)\n  expect no_warn\n  {} Inf", "unexpected warn"),
    "no info": ("eval instant at 0 sum(m)\n  expect info\n  {} 5", "expected info"),
    "an info": ("eval instant at 1m rate(x[2m])\n  expect no_info\n  {} 0", "unexpected info"),
    "a scalar": ("eval instant at 0 1 + 1\n  3", "got the scalar 2.0"),
    "a scalar in place of a vector": ("eval instant at 0 1 + 1\n  {} 2", "got the scalar"),
    "a vector in place of a scalar": ("eval instant at 0 sum(m)\n  5", "got an instant vector"),
    "a string": ('eval instant at 0 "a"\n  expect string "b"', "got the string 'a'"),
    "a range vector": ("eval instant at 1m x[2m]\n  expect range vector from 0 to 1m step 1m\n  x 7 9", "expected 9.0"),
    "a range vector not expected": ("eval instant at 1m x[2m]\n  x 8", "got a range vector"),
    "something that does not hold as a range query": ('eval instant at 0 m[1m]\n  m{n="1"} 1', "got a range vector"),
}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with ThreadPoolExecutor(1) as pool:
        engine = experimental_engine(pool)
        yield engine
        engine.close()


@pytest.mark.parametrize(("test", "message"), WRONG.values(), ids=WRONG)
async def test_fails_on(engine: Engine, test: str, message: str) -> None:
    with pytest.raises(TestFailure) as failure:
        await run_test(f"{DATA}\n{test}", engine)
    assert message in str(failure.value)


async def test_counts_evaluations(engine: Engine) -> None:
    evaluations = (
        "eval instant at 0 x\n  x 7",
        "clear",
        "eval instant at 0 x",
        "# eval instant at 0 y",
        'eval instant at 0 "s"\n  expect string `s`',
    )
    assert await run_test("\n\n".join((DATA, *evaluations)), engine) == 3


async def test_an_instant_query_must_hold_as_a_range_query_too(engine: Engine) -> None:
    with pytest.raises(TestFailure, match="as a range query"):
        await run_test("eval instant at 2m vector(range())\n  {} 0", engine)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("sum(x) + y", "sum(x @ 60.000) + y @ 60.000"),
        ("count_over_time((sum(x) or y)[1m:10s])", "count_over_time((sum(x) or y)[1m:10s] @ 60.000)"),
        ("rate(x[1m] offset 5s)", "rate(x[1m] offset 5s @ 60.000)"),
        ("x @ 5 + y", "x @ 5 + y @ 60.000"),
        ("info(x, {a=~'.+'})", "info(x @ 60.000, {a=~'.+'})"),
        ("x @ 5", None),
        ("time() + x", None),
        ("timestamp(x)", None),
        ("1 + 1", None),
    ],
)
def test_pins_every_selector(query: str, text: str | None) -> None:
    assert pinned(query, 60_000) == text


def test_values_expand() -> None:
    (command,) = parse_test("load 30s\n  m{a=\"b, c}\",d='e'} 1 _ 2+3x2 4-1x1 5x2 _x2 NaN -Inf stale 1e3\n")
    assert isinstance(command, Load)
    assert command.interval_ms == 30_000
    (series,) = command.series
    assert series.labels == (("__name__", "m"), ("a", "b, c}"), ("d", "e"))
    shown = [None if value is None else repr(value) for value in series.values]
    assert shown[:12] == ["1.0", None, "2.0", "5.0", "8.0", "4.0", "3.0", "5.0", "5.0", "5.0", None, None]
    assert shown[12:] == ["nan", "-inf", "nan", "1000.0"]


def test_start_times_expand() -> None:
    (command,) = parse_test("load 30s\n  m@st _ _x2 -30s-1mx2 0 +1m 1ms-1sx1\n")
    assert isinstance(command, Load)
    assert command.series[0].values == [None, None, None, -30_000, -90_000, -150_000, 0, 60_000, 1, -999]


OLD_WORDS = r"""
load_with_nhcb 5m
  b_bucket{le="1"} 0+1x3
  {"my.metric", "a.b"="c d"} -1-2x3 _x2 stale 5 1e3+.5x2
  {__name__="x",q='"'} inf NaN -Inf +inf nan

# a comment
eval instant at 5m {"my.metric", "a.b"="c d"}
  {"my.metric", "a.b"="c d"} -3

eval_ordered instant at 5m sort(b_bucket)
  b_bucket{le="1"} 1

eval_warn instant at 5m quantile(2, b_bucket)
  {} Inf

eval_info instant at 5m rate({"my.metric"}[10m])
  {"a.b"="c d"} -0.01

eval_fail instant at 5m b_bucket + on() {__name__=~".+"}
  expected_fail_regexp found duplicate series .*

eval_fail instant at 5m topk(NaN, b_bucket)
  expected_fail_message Parameter value is NaN

eval instant at 5m "\xff\t\u00e9"
  expect string "\xff\té"

eval instant at 5m 0x10 ^ 1_0
  1099511627776

eval range from 0 to 15m step 5m b_bucket{le!="2"}
  b_bucket{le="1"} 0 1 2 3
"""


async def test_takes_the_old_words_of_the_language(engine: Engine) -> None:
    """`eval_…` commands, `load_with_nhcb`, quoted names, comments, Go's escapes."""
    assert await run_test(OLD_WORDS, engine) == 9


def test_native_histograms_are_refused_by_name() -> None:
    with pytest.raises(TestSyntaxError, match="native histograms are not evaluated yet"):
        parse_test("load 1m\n  m {{schema:0 sum:5 count:4 buckets:[1 2 1]}}x3\n")


def test_stale_markers_keep_their_bits() -> None:
    (command,) = parse_test("load 1m\n  m NaN stale\n")
    assert isinstance(command, Load)
    assert is_stale(np.array(command.series[0].values, np.float64)).tolist() == [False, True]


@pytest.mark.parametrize("text", ["nonsense", "eval at 0 x", "load 1m\n  m 1y", "load 1m\n  m{a=1} 1", "load x\n  m 1"])
def test_refuses_what_is_not_in_the_language(text: str) -> None:
    with pytest.raises(TestSyntaxError, match="line 1"):
        parse_test(text)


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        (1.0, 1.0 + 1e-9, True),
        (1.0, 1.00001, False),
        (0.0, 1e-300, False),
        (math.nan, math.nan, True),
        (math.nan, 1.0, False),
        (math.inf, math.inf, True),
        (math.inf, 1e308, False),
    ],
)
def test_values_are_the_same_but_for_rounding(left: float, right: float, equal: bool) -> None:
    assert same(left, right) is equal
