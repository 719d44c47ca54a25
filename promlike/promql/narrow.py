"""A query that sees some series only."""

from dataclasses import replace

from promlike.errors import BadRequest
from promlike.model.matchers import Matcher
from promlike.promql import ast


def narrowed(expr: ast.Expr, matchers: tuple[Matcher, ...]) -> ast.Expr:
    """The same expression with these conditions in every selector. Raise BadRequest for `info`, which selects series on its own."""
    match expr:
        case ast.VectorSelector():
            return _selector(expr, matchers)
        case ast.MatrixSelector():
            return replace(expr, selector=_selector(expr.selector, matchers))
        case ast.Subquery():
            return replace(expr, expr=narrowed(expr.expr, matchers))
        case ast.Paren():
            return replace(expr, inner=narrowed(expr.inner, matchers))
        case ast.Unary():
            return replace(expr, operand=narrowed(expr.operand, matchers))
        case ast.Binary():
            return replace(expr, left=narrowed(expr.left, matchers), right=narrowed(expr.right, matchers))
        case ast.Call():
            if expr.function == "info":
                raise BadRequest("info() cannot be held to series of some labels, which extra_filters[] and extra_label ask for")
            return replace(expr, args=tuple(narrowed(argument, matchers) for argument in expr.args))
        case ast.Aggregate():
            param = None if expr.param is None else narrowed(expr.param, matchers)
            return replace(expr, expr=narrowed(expr.expr, matchers), param=param)
        case _:
            return expr


def _selector(selector: ast.VectorSelector, matchers: tuple[Matcher, ...]) -> ast.VectorSelector:
    return replace(selector, matchers=(*selector.matchers, *matchers))
