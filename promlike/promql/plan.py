"""Which samples a query needs, before anything is evaluated."""

from promlike.model.blocks import StepGrid
from promlike.promql import ast
from promlike.promql.extended import check_extended
from promlike.promql.info import info_request
from promlike.promql.shape import Shape, children
from promlike.promql.timing import Timing
from promlike.storage.access import SelectRequest


def plan_requests(expr: ast.Expr, shape: Shape, grid: StepGrid, timing: Timing) -> list[SelectRequest]:
    """What every selector of an expression evaluated at `grid` needs, each request once, in the order of the text.

    Raise QueryError when a range is extended for a function that does not take such ranges.
    """
    check_extended(expr)
    found: dict[SelectRequest, None] = {}
    _collect(expr, shape, grid, timing, found)
    return list(found)


def _collect(expr: ast.Expr, shape: Shape, grid: StepGrid, timing: Timing, found: dict[SelectRequest, None]) -> None:
    match expr:
        case ast.VectorSelector():
            found[timing.request(expr, None, grid)] = None
        case ast.MatrixSelector():
            found[timing.request(expr.selector, timing.length_ms(expr.range), grid, shape.columns(expr))] = None
        case ast.Subquery():
            steps = timing.subquery_steps(expr, grid)
            if steps.count:
                _collect(expr.expr, shape, steps, timing, found)
        case ast.Call(function="info"):
            _collect(expr.args[0], shape, grid, timing, found)
            found[info_request(timing, expr, grid)] = None
        case _:
            for child in children(expr):
                _collect(child, shape, grid, timing, found)
