import math

import numpy as np

from promlike.model.matchers import Matcher, MatchOp
from promlike.promql import ast
from tests.promql.call_data import Call


def test_a_scalar_is_the_value_of_the_only_series() -> None:
    call = Call(4)
    vector = call.vector(({"a": "1"}, [1.0, None, 3.0, None]), ({"a": "2"}, [None, 2.0, 4.0, None]))
    assert np.array_equal(call.scalar("scalar", vector), [1.0, 2.0, math.nan, math.nan], equal_nan=True)
    assert np.isnan(call.scalar("scalar", call.vector())).all()


def test_a_vector_of_a_scalar_has_no_labels() -> None:
    assert Call(2).rows("vector", [1.0, math.inf]) == [((), [1.0, math.inf])]


def test_times_are_in_seconds() -> None:
    call = Call(3)
    assert call.scalar("time") == [1000.0, 1001.0, 1002.0]
    assert call.values("timestamp", call.vector(({"a": "1"}, [7.0, None, 7.0]))) == [[1000.0, None, 1002.0]]
    assert (call.scalar("start"), call.scalar("end")) == ([1000.0] * 3, [1002.0] * 3)
    assert (call.scalar("range"), call.scalar("step")) == ([2.0] * 3, [1.0] * 3)


def test_absent_says_so_at_the_steps_without_any_series() -> None:
    call = Call(3)
    assert call.rows("absent", call.vector(({"a": "1"}, [None, 2.0, None]), ({"a": "2"}, [1.0, None, None]))) == [((), [None, None, 1.0])]


def test_absent_has_the_labels_asked_for_exactly_once_with_equality() -> None:
    matchers = (
        Matcher("job", MatchOp.EQUAL, "api"),
        Matcher("env", MatchOp.NOT_EQUAL, "x"),
        Matcher("twice", MatchOp.EQUAL, "a"),
        Matcher("twice", MatchOp.EQUAL, "b"),
        Matcher("empty", MatchOp.EQUAL, ""),
    )
    selector = ast.VectorSelector(name="up", matchers=matchers)
    matrix = ast.MatrixSelector(selector=selector, range=ast.DurationLiteral(seconds=60.0))
    call = Call(args=(ast.Paren(inner=selector),))
    assert call.rows("absent", call.vector()) == [((("job", "api"),), [1.0])]
    call = Call(3, args=(matrix,))
    ranges = call.ranges(({"a": "1"}, [(1_000_500, 1.0)]), range_ms=1000)
    assert call.rows("absent_over_time", ranges) == [((("job", "api"),), [1.0, None, 1.0])]
