"""Trees as JSON, in the shape of Prometheus's parse_query."""

from typing import Any

import orjson
import pytest

from promlike.errors import BadRequest
from promlike.promql.ast_json import MAX_LEVELS, to_json
from promlike.promql.options import Features
from promlike.promql.parser import parse

NO_MODIFIERS = {"offset": 0, "timestamp": None, "startOrEnd": None, "anchored": False, "smoothed": False}
NAME_A = {"name": "__name__", "value": "a", "type": "="}
A = {"type": "vectorSelector", "name": "a", "matchers": [NAME_A], **NO_MODIFIERS}
ONE = {"type": "numberLiteral", "val": "1"}

SHAPES: list[tuple[str, dict[str, Any]]] = [
    ("1", ONE),
    ("-Inf", {"type": "numberLiteral", "val": "-Inf"}),
    ("5m", {"type": "numberLiteral", "val": "300"}),
    ('"x"', {"type": "stringLiteral", "val": "x"}),
    ("a", A),
    ("(a)", {"type": "parenExpr", "expr": A}),
    ("-a", {"type": "unaryExpr", "op": "-", "expr": A}),
    (
        'a{b!~"c"} smoothed @ 1.5 offset -5m',
        {
            "type": "vectorSelector",
            "name": "a",
            "matchers": [{"name": "b", "value": "c", "type": "!~"}, NAME_A],
            "offset": -300_000,
            "timestamp": 1500,
            "startOrEnd": None,
            "anchored": False,
            "smoothed": True,
        },
    ),
    ("a[5m] @ end()", {**A, "type": "matrixSelector", "range": 300_000, "startOrEnd": "end"}),
    (
        "a[step()*2] offset step()",
        {**A, "type": "matrixSelector", "range": 0, "rangeExpr": "step() * 2", "offset": 0, "offsetExpr": "step()"},
    ),
    (
        "a[1h:5m] @ start()",
        {"type": "subquery", "expr": A, "range": 3_600_000, "step": 300_000, "offset": 0, "timestamp": None, "startOrEnd": "start"},
    ),
    (
        "a[1h:]",
        {"type": "subquery", "expr": A, "range": 3_600_000, "step": 0, "offset": 0, "timestamp": None, "startOrEnd": None},
    ),
    ("1 == bool 1", {"type": "binaryExpr", "op": "==", "lhs": ONE, "rhs": ONE, "matching": None, "bool": True}),
    (
        "a * on(x) group_left(y) fill_left(0) a",
        {
            "type": "binaryExpr",
            "op": "*",
            "lhs": A,
            "rhs": A,
            "matching": {
                "card": "many-to-one",
                "labels": ["x"],
                "on": True,
                "include": ["y"],
                "fillValues": {"lhs": "0", "rhs": None},
            },
            "bool": False,
        },
    ),
    (
        "a and a",
        {
            "type": "binaryExpr",
            "op": "and",
            "lhs": A,
            "rhs": A,
            "matching": {"card": "many-to-many", "labels": [], "on": False, "include": [], "fillValues": {"lhs": None, "rhs": None}},
            "bool": False,
        },
    ),
    ("sum by (x) (a)", {"type": "aggregation", "op": "sum", "expr": A, "param": None, "grouping": ["x"], "without": False}),
    ("topk without (x) (1, a)", {"type": "aggregation", "op": "topk", "expr": A, "param": ONE, "grouping": ["x"], "without": True}),
    (
        "round(a, 1)",
        {
            "type": "call",
            "func": {"name": "round", "argTypes": ["vector", "scalar"], "variadic": 1, "returnType": "vector"},
            "args": [A, ONE],
        },
    ),
    ("time()", {"type": "call", "func": {"name": "time", "argTypes": [], "variadic": 0, "returnType": "scalar"}, "args": []}),
]


@pytest.mark.parametrize(("text", "expected"), SHAPES)
def test_shape(text: str, expected: dict[str, Any]) -> None:
    assert orjson.loads(orjson.dumps(to_json(parse(text, Features.all())))) == expected


def test_variadic_functions_take_any_number() -> None:
    call = to_json(parse('label_join(a, "b", "c")', Features()))
    assert call["func"] == {
        "name": "label_join",
        "argTypes": ("vector", "string", "string", "string"),
        "variadic": -1,
        "returnType": "vector",
    }


def test_the_deepest_tree_that_is_shown_can_be_encoded() -> None:
    def nested(levels: int) -> str:
        return "abs(" * (levels - 1) + "a" + ")" * (levels - 1)

    orjson.dumps({"data": to_json(parse(nested(MAX_LEVELS), Features()))})
    with pytest.raises(BadRequest, match="more than 120 levels"):
        to_json(parse(nested(MAX_LEVELS + 1), Features()))
