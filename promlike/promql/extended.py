"""Which functions take ranges that are `anchored` or `smoothed`."""

from promlike.errors import QueryError
from promlike.promql.ast import Call, Expr, MatrixSelector
from promlike.promql.functions import FUNCTIONS
from promlike.promql.shape import children, strip_parens

ANCHORED = frozenset(spec.name for spec in FUNCTIONS.values() if spec.anchored)
SMOOTHED = frozenset(spec.name for spec in FUNCTIONS.values() if spec.smoothed)


def check_extended(expr: Expr) -> None:
    """Raise QueryError when a function gets an extended range it does not know. A query error, not a parse error, as in Prometheus."""
    if isinstance(expr, Call):
        for arg in map(strip_parens, expr.args):
            if isinstance(arg, MatrixSelector):
                _check_range(expr.function, arg)
    for child in children(expr):
        check_extended(child)


def _check_range(function: str, matrix: MatrixSelector) -> None:
    for modifier, given, allowed in (
        ("anchored", matrix.selector.anchored, ANCHORED),
        ("smoothed", matrix.selector.smoothed, SMOOTHED),
    ):
        if given and function not in allowed:
            raise QueryError(f"{modifier} modifier can only be used with: {', '.join(sorted(allowed))} - not with {function}")
