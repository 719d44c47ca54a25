"""A query with `@` at every selector and subquery, so that it gives the same whenever it is evaluated."""

from promlike.promql import ast
from promlike.promql.options import Features
from promlike.promql.parser import parse
from promlike.promql.shape import READ_THE_TIME, children


def pinned(query: str, at_ms: int) -> str | None:
    """The text with ` @ time` behind what has none yet; None when the query reads the time in another way or has nothing to pin."""
    places: list[int] = []
    if not _collect(parse(query, Features.all()), places) or not places:
        return None
    for place in sorted(places, reverse=True):
        query = f"{query[:place]} @ {at_ms / 1000:.3f}{query[place:]}"
    return query


def _collect(expr: ast.Expr, places: list[int]) -> bool:
    """Note the end of what is to be pinned; False when the expression depends on the time of evaluation."""
    if isinstance(expr, ast.Call) and expr.function in READ_THE_TIME:
        return False
    parts = children(expr)
    if isinstance(expr, ast.MatrixSelector | ast.VectorSelector | ast.Subquery):
        selector = expr.selector if isinstance(expr, ast.MatrixSelector) else expr
        if selector.at is None:
            places.append(expr.span.end)
        parts = []  # what is inside a pinned subquery is pinned with it
    if isinstance(expr, ast.Call) and expr.function == "info":
        parts = parts[:1]
    return all(_collect(part, places) for part in parts)
