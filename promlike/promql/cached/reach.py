"""How far from the time of a step the samples lie that it depends on."""

from collections.abc import Iterator
from dataclasses import dataclass

from promlike.model.labels import METRIC_NAME
from promlike.model.matchers import MatchOp
from promlike.promql import ast
from promlike.promql.shape import children
from promlike.promql.timing import Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """The samples one selector needs for the step at t: those in (t - back_ms, t + ahead_ms], or under `@` (`pinned`) for every step
    those in (-back_ms, ahead_ms]. `metric` is their name, None when the selector leaves that open.
    """

    metric: str | None
    back_ms: int
    ahead_ms: int
    pinned: bool = False


def reaches(expr: ast.Expr, timing: Timing) -> frozenset[Reach]:
    """The reach of every selector of a steady expression."""
    return frozenset(_reaches(expr, timing))


def has_gaps(expr: ast.Expr, timing: Timing, spacing_ms: int) -> bool:
    """Are there subqueries whose windows, evaluated at times so far apart, leave out times between them?

    There the expression inside is evaluated, too, for a range as a whole, and may fail or be annotated.
    """
    if not isinstance(expr, ast.Subquery):
        return any(has_gaps(child, timing, spacing_ms) for child in children(expr))
    step_ms = timing.subquery_step_ms if expr.step is None else timing.length_ms(expr.step)
    return (expr.at is None and timing.length_ms(expr.range) < spacing_ms) or has_gaps(expr.expr, timing, step_ms)


def _reaches(expr: ast.Expr, timing: Timing) -> Iterator[Reach]:
    match expr:
        case ast.VectorSelector():
            yield _placed(Reach(metric=_metric(expr), back_ms=timing.lookback_ms, ahead_ms=0), expr, timing)
        case ast.MatrixSelector():
            width = timing.length_ms(expr.range)
            yield _placed(Reach(metric=_metric(expr.selector), back_ms=width, ahead_ms=0), expr.selector, timing)
        case ast.Subquery():
            width = timing.length_ms(expr.range)
            for inner in _reaches(expr.expr, timing):
                wide = inner if inner.pinned else Reach(metric=inner.metric, back_ms=inner.back_ms + width, ahead_ms=inner.ahead_ms)
                yield _placed(wide, expr, timing)
        case _:
            for child in children(expr):
                yield from _reaches(child, timing)


def _placed(reach: Reach, node: ast.VectorSelector | ast.Subquery, timing: Timing) -> Reach:
    """Moved by `offset` and `@`."""
    if reach.pinned:
        return reach
    offset, at = timing.offset_ms(node.offset), timing.at_ms(node.at)
    shift = (at or 0) - offset
    return Reach(metric=reach.metric, back_ms=reach.back_ms - shift, ahead_ms=reach.ahead_ms + shift, pinned=at is not None)


def _metric(selector: ast.VectorSelector) -> str | None:
    if selector.name is not None:
        return selector.name
    names = (m.value for m in selector.matchers if m.name == METRIC_NAME and m.op is MatchOp.EQUAL and m.value)
    return next(names, None)
