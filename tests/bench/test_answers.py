"""Answers are compared series by series and value by value."""

from typing import Any

import pytest

from bench.answers import Answer, difference
from bench.queries import QUERIES, Query
from bench.report import table


def answer(data: Any, error: str = "") -> Answer:
    return Answer(seconds=0.1, size=0, error=error, data=data)


def matrix(*series: tuple[dict[str, str], list[tuple[float, str]]]) -> Answer:
    return answer({"resultType": "matrix", "result": [{"metric": metric, "values": points} for metric, points in series]})


A, B = {"job": "a"}, {"job": "b"}
ONE = matrix((A, [(1, "1.5"), (2, "NaN")]), (B, [(1, "+Inf")]))

CASES = [
    (ONE, ONE, ""),
    (matrix((B, [(1, "+Inf")]), (A, [(1, "1.5000000000001"), (2, "NaN")])), ONE, ""),
    (matrix((A, [(1, "1.5"), (2, "NaN")])), ONE, "1 series, 1 missing, 0 extra"),
    (matrix((A, [(1, "1.5")]), (B, [(1, "+Inf")])), ONE, "1 points, not 2, in {'job': 'a'}"),
    (matrix((A, [(1, "1.50001"), (2, "NaN")]), (B, [(1, "+Inf")])), ONE, "1.50001, not 1.5, at 1.000 in {'job': 'a'}"),
    (matrix((A, [(1, "1.5"), (2, "0")]), (B, [(1, "+Inf")])), ONE, "0.0, not nan, at 2.000 in {'job': 'a'}"),
    (answer({"resultType": "vector", "result": []}), ONE, "vector, not matrix"),
    (answer(None, "query timed out"), ONE, "query timed out"),
    (ONE, answer(None, "query timed out"), "only the other failed: query timed out"),
    (answer(["b", "a"]), answer(["a", "b"]), ""),
    (answer(["a"]), answer(["a", "b"]), "1 items, not 2"),
    (answer([{"a": "1", "b": "2"}]), answer([{"b": "2", "a": "1"}]), ""),
    (answer([{"a": "1"}]), answer([{"a": "2"}]), "other items"),
]


@pytest.mark.parametrize(("found", "expected", "text"), CASES)
def test_difference(found: Answer, expected: Answer, text: str) -> None:
    assert difference(found, expected) == text


def test_paths_of_queries() -> None:
    assert Query(name="", kind="instant", text="up").path(7_200_999) == "/api/v1/query?query=up&time=7200"
    ranged = Query(name="", kind="range", text="up", hours=1, steps=60)
    assert ranged.path(7_200_999) == "/api/v1/query_range?query=up&start=3600&end=7200&step=60"
    values = Query(name="", kind="label_values", label="job", text="up", hours=1)
    assert values.path(7_200_999) == "/api/v1/label/job/values?match%5B%5D=up&start=3600&end=7200"


def test_there_are_fifteen_queries_at_least_and_each_has_its_name() -> None:
    assert len({query.name for query in QUERIES}) == len(QUERIES) >= 15


def test_tables_are_aligned() -> None:
    assert table([["a", "long"], ["wide cell", "1"]]) == "| a         | long |\n|-----------|------|\n| wide cell | 1    |"
