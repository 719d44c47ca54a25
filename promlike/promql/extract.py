"""The selectors of an expression."""

from promlike.model.matchers import Matcher
from promlike.promql import ast
from promlike.promql.shape import children
from promlike.promql.timing import matchers


def selectors_of(expr: ast.Expr) -> list[tuple[Matcher, ...]]:
    """The conditions of every selector in an expression, wherever it stands, each once, in the order of the text."""
    found: dict[tuple[Matcher, ...], None] = {}
    waiting = [expr]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.VectorSelector):
            found[matchers(node)] = None
        waiting += reversed(children(node))
    return list(found)
