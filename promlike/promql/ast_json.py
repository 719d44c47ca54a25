"""Trees as JSON, in the shape of Prometheus's `/api/v1/parse_query`."""

from collections.abc import Mapping, Sequence

from promlike.errors import BadRequest
from promlike.model.labels import METRIC_NAME, valid_utf8
from promlike.model.matchers import Matcher, MatchOp
from promlike.promql.ast import (
    Aggregate,
    At,
    AtKind,
    Binary,
    Call,
    DurationExpr,
    Expr,
    MatrixSelector,
    NumberLiteral,
    Paren,
    StringLiteral,
    Subquery,
    Unary,
    VectorSelector,
)
from promlike.promql.durations import constant_ms
from promlike.promql.functions import FUNCTIONS
from promlike.promql.literals import format_number
from promlike.promql.printer import format_duration_expr

Json = str | int | bool | None | Sequence["Json"] | Mapping[str, "Json"]

MAX_LEVELS = 120
"""Deeper trees cannot be encoded: a level of the tree is up to two of JSON, and the encoder takes 254."""


def to_json(expr: Expr) -> dict[str, Json]:
    """The tree as dictionaries, for a tree of at most MAX_LEVELS levels; raise BadRequest for a deeper one.

    Durations are in milliseconds. One that depends on the query's times stands as 0, and as text in `rangeExpr`, `stepExpr` or
    `offsetExpr`.
    """
    return _node(expr, MAX_LEVELS)


def _node(expr: Expr, levels: int) -> dict[str, Json]:
    if not levels:
        raise BadRequest(f"an expression of more than {MAX_LEVELS} levels cannot be shown as a tree")
    below = levels - 1
    match expr:
        case NumberLiteral(value=value):
            return {"type": "numberLiteral", "val": format_number(value)}
        case StringLiteral(value=text):
            return {"type": "stringLiteral", "val": valid_utf8(text)}
        case Paren(inner=inner):
            return {"type": "parenExpr", "expr": _node(inner, below)}
        case Unary(op=op, operand=operand):
            return {"type": "unaryExpr", "op": op, "expr": _node(operand, below)}
        case VectorSelector():
            return {"type": "vectorSelector", **_selector(expr)}
        case MatrixSelector():
            return {"type": "matrixSelector", **_selector(expr.selector), **_duration("range", expr.range)}
        case Subquery():
            times = {**_duration("range", expr.range), **_duration("step", expr.step), **_modifiers(expr.offset, expr.at)}
            return {"type": "subquery", "expr": _node(expr.expr, below), **times}
        case Binary():
            return _binary(expr, below)
        case Call():
            return _call(expr, below)
        case Aggregate():
            return {
                "type": "aggregation",
                "op": expr.op,
                "expr": _node(expr.expr, below),
                "param": _node(expr.param, below) if expr.param is not None else None,
                "grouping": expr.grouping,
                "without": expr.without,
            }


def _binary(binary: Binary, below: int) -> dict[str, Json]:
    matching: Json = None
    if binary.matching is not None:
        given = binary.matching
        matching = {
            "card": given.card,
            "labels": given.labels,
            "on": given.on,
            "include": given.include,
            "fillValues": {"lhs": _fill(given.fill_left), "rhs": _fill(given.fill_right)},
        }
    return {
        "type": "binaryExpr",
        "op": binary.op,
        "lhs": _node(binary.left, below),
        "rhs": _node(binary.right, below),
        "matching": matching,
        "bool": binary.bool_modifier,
    }


def _call(call: Call, below: int) -> dict[str, Json]:
    spec = FUNCTIONS[call.function]
    # As Prometheus counts: the types end with the first that may be left out, `variadic` says how many may follow at most, -1 any number.
    listed = len(spec.args) if not spec.optional else spec.min_args + 1
    function: Json = {
        "name": spec.name,
        "argTypes": spec.args[:listed],
        "variadic": -1 if spec.variadic else spec.optional,
        "returnType": spec.returns,
    }
    return {"type": "call", "func": function, "args": [_node(arg, below) for arg in call.args]}


def _selector(selector: VectorSelector) -> dict[str, Json]:
    named = () if selector.name is None else (Matcher(METRIC_NAME, MatchOp.EQUAL, selector.name),)
    matchers = [{"name": matcher.name, "value": matcher.value, "type": matcher.op} for matcher in (*selector.matchers, *named)]
    return {
        "name": selector.name or "",
        "matchers": matchers,
        **_modifiers(selector.offset, selector.at),
        "anchored": selector.anchored,
        "smoothed": selector.smoothed,
    }


def _modifiers(offset: DurationExpr | None, at: At | None) -> dict[str, Json]:
    return {
        **_duration("offset", offset),
        "timestamp": at.time_ms if at is not None and at.kind is AtKind.TIME else None,
        "startOrEnd": at.kind if at is not None and at.kind is not AtKind.TIME else None,
    }


def _duration(name: str, duration: DurationExpr | None) -> dict[str, Json]:
    if duration is None:
        return {name: 0}
    ms = constant_ms(duration)
    return {name: ms} if ms is not None else {name: 0, f"{name}Expr": format_duration_expr(duration)}


def _fill(value: float | None) -> str | None:
    return None if value is None else format_number(value)
