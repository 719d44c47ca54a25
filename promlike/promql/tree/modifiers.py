"""What stands behind an operand: `offset`, `@`, `anchored` and `smoothed`, ranges and subqueries."""

import math
from collections.abc import Callable
from dataclasses import replace

from lark import Token

from promlike.promql.ast import (
    At,
    AtKind,
    DurationExpr,
    DurationLiteral,
    Expr,
    MatrixSelector,
    Span,
    Subquery,
    ValueType,
    VectorSelector,
)
from promlike.promql.durations import check_constant, normalize
from promlike.promql.literals import format_number
from promlike.promql.position import SyntaxProblem
from promlike.promql.tree.durations import with_sign
from promlike.promql.tree.parts import Built, BuiltDuration, end_of, inline, level_above, seconds_of, span_of, start_of

_AT_LIMIT_MS = 2**63 - 1

Selecting = VectorSelector | Subquery
"""What carries offset and @. A range selector carries them in its selector."""


class ModifierRules:
    @inline
    def offset(self, target: Built, _word: Token, *signed: Token | BuiltDuration) -> Built:
        duration, depth = _offset_duration(signed)

        def with_offset(expr: Selecting) -> Selecting:
            if expr.offset is not None:
                raise SyntaxProblem("offset may not be set multiple times", target.expr.span.start)
            return replace(expr, offset=duration)

        return Built(
            _modified(target.expr, "offset", duration.span.end, with_offset),
            target.type,
            level_above((target.depth - 1, depth), target.expr.span.start),
        )

    @inline
    def at(self, target: Built, _word: Token, *words: Token) -> Built:
        start = target.expr.span.start

        def with_at(expr: Selecting) -> Selecting:
            if expr.at is not None:
                raise SyntaxProblem("@ <timestamp> may not be set multiple times", start)
            return replace(expr, at=_at(words, start))

        return target._replace(expr=_modified(target.expr, "@", end_of(words[-1]), with_at))

    @inline
    def extended(self, target: Built, word: Token) -> Built:
        modifier, start = word.lower(), target.expr.span.start

        def with_modifier(expr: Selecting) -> Selecting:
            if isinstance(expr, Subquery):
                raise SyntaxProblem(f"{modifier} modifier is not supported for subqueries", start)
            if expr.anchored or expr.smoothed:
                raise SyntaxProblem("anchored and smoothed modifiers cannot be used together or twice", start)
            return replace(expr, anchored=True) if modifier == "anchored" else replace(expr, smoothed=True)

        return target._replace(expr=_modified(target.expr, modifier, end_of(word), with_modifier))

    @inline
    def matrix(self, target: Built, left: Token, duration: BuiltDuration, right: Token) -> Built:
        selector = target.expr
        if not isinstance(selector, VectorSelector):
            raise SyntaxProblem("ranges only allowed for vector selectors", start_of(left))
        for modifier, given in (
            ("offset", selector.offset is not None),
            ("@", selector.at is not None),
            ("anchored", selector.anchored),
            ("smoothed", selector.smoothed),
        ):
            if given:
                raise SyntaxProblem(f"no {modifier} modifiers allowed before range", start_of(left))
        check_constant(duration.duration, positive=True)
        span = Span(selector.span.start, end_of(right))
        expr = MatrixSelector(selector=selector, range=normalize(duration.duration), span=span)
        return Built(expr, ValueType.MATRIX, level_above((target.depth, duration.depth), span.start))

    @inline
    def subquery(self, target: Built, _left: Token, duration: BuiltDuration, _colon: Token, *rest: BuiltDuration | Token) -> Built:
        step = rest[0] if isinstance(rest[0], BuiltDuration) else None
        check_constant(duration.duration, positive=True)
        if step is not None:
            check_constant(step.duration, positive=True)
        right = rest[-1]
        span = Span(target.expr.span.start, end_of(right) if isinstance(right, Token) else target.expr.span.end)
        expr = Subquery(
            expr=target.expr,
            range=normalize(duration.duration),
            step=normalize(step.duration) if step is not None else None,
            span=span,
        )
        depths = (target.depth, duration.depth, step.depth if step is not None else 0)
        return Built(expr, ValueType.MATRIX, level_above(depths, span.start))


def _modified(expr: Expr, modifier: str, end: int, change: Callable[[Selecting], Selecting]) -> Expr:
    """The expression with its selector or subquery changed, and its span reaching to the end of the modifier."""
    span = Span(expr.span.start, end)
    if isinstance(expr, MatrixSelector):
        selector = change(expr.selector)
        return replace(expr, selector=selector, span=span) if isinstance(selector, VectorSelector) else expr
    if not isinstance(expr, VectorSelector | Subquery):
        what = "an instant vector selector or range vector selector or a subquery"
        raise SyntaxProblem(f"{modifier} modifier must be preceded by {what}", expr.span.start)
    return replace(change(expr), span=span)


def _at(words: tuple[Token, ...], offset: int) -> At:
    """`start()`, `end()` or a number with or without a sign."""
    first, last = words[0], words[-1]
    if first.type == "START_END":
        return At(kind=AtKind(first.lower()), span=span_of(first, last))
    seconds = seconds_of(last) * (-1 if first == "-" else 1)
    if not abs(seconds) * 1000 < _AT_LIMIT_MS:
        shown = f"{seconds:f}" if math.isfinite(seconds) else format_number(seconds)
        raise SyntaxProblem(f"timestamp out of bounds for @ modifier: {shown}", offset)
    # Half a millisecond goes away from zero, as in Go; Python's round would take it to the even neighbour.
    time_ms = int(math.copysign(math.floor(abs(seconds) * 1000 + 0.5), seconds))
    return At(kind=AtKind.TIME, time_ms=time_ms, span=span_of(first, last))


def _offset_duration(signed: tuple[Token | BuiltDuration, ...]) -> tuple[DurationExpr, int]:
    """An offset takes one operand with at most one sign; what follows is arithmetic on the vector."""
    atom = signed[-1]
    sign = signed[0] if isinstance(signed[0], Token) else None
    if not isinstance(atom, BuiltDuration):
        raise TypeError("an offset ends in a duration")
    check_constant(atom.duration, positive=False)
    plain = atom._replace(duration=normalize(atom.duration))
    if sign is None or (sign == "+" and isinstance(plain.duration, DurationLiteral)):
        return plain
    return with_sign(sign, plain)
