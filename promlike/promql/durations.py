"""Resolves duration expressions such as `[step() * 2]` to milliseconds."""

import math
from collections.abc import Callable
from dataclasses import replace

from promlike.errors import QueryError
from promlike.promql.ast import (
    DurationBinary,
    DurationCall,
    DurationExpr,
    DurationLiteral,
    DurationParen,
    DurationUnary,
)
from promlike.promql.position import SyntaxProblem

MAX_SECONDS = 2**63 / 1e9
"""Prometheus keeps durations as int64 nanoseconds."""

_Named = Callable[[str], float]


class NotConstant(Exception):
    """The duration depends on the query's start, end or step."""


def resolve(duration: DurationExpr, *, start_ms: int, end_ms: int, step_ms: int, positive: bool = False) -> int:
    """Milliseconds of a duration expression, for a query from start to end; an instant query has step and range 0.

    Raise QueryError when it divides by zero or leaves the range of durations, and, for a range or a step (`positive`), when it is not
    greater than 0.
    """
    named = {"step": step_ms / 1000, "range": (end_ms - start_ms) / 1000}
    try:
        return _in_ms(duration, named.__getitem__, positive)
    except SyntaxProblem as problem:
        # Prometheus says where the whole duration stands, in bytes of the text, when its value does not fit, and nothing otherwise.
        place = "" if problem.message.endswith("by zero") else f"{duration.span.start}:{duration.span.end}: "
        raise QueryError(place + problem.message) from problem


def check_constant(duration: DurationExpr, *, positive: bool) -> None:
    """Raise SyntaxProblem when a duration that depends on no time is out of its range already."""
    constant_ms(duration, positive=positive)


def constant_ms(duration: DurationExpr, *, positive: bool = False) -> int | None:
    """Milliseconds of a duration that depends on no time, None for others. Raise SyntaxProblem as `check_constant`."""

    def unknown(name: str) -> float:
        raise NotConstant

    try:
        return _in_ms(duration, unknown, positive)
    except NotConstant:
        return None


def normalize(duration: DurationExpr) -> DurationExpr:
    """A bare number of seconds becomes the same duration in whole milliseconds, which is what it prints as."""
    if isinstance(duration, DurationLiteral) and duration.is_number:
        return replace(duration, seconds=round(duration.seconds * 1000) / 1000, is_number=False)
    return duration


def _in_ms(duration: DurationExpr, named: _Named, positive: bool) -> int:
    seconds = _seconds(duration, named)
    if not abs(seconds) < MAX_SECONDS:
        raise SyntaxProblem("duration out of range", duration.span.start)
    # Half a millisecond goes away from zero, as in Go.
    ms = int(math.copysign(math.floor(abs(seconds) * 1000 + 0.5), seconds))
    if positive and ms <= 0:
        raise SyntaxProblem("duration must be greater than 0", duration.span.start)
    return ms


def _seconds(duration: DurationExpr, named: _Named) -> float:
    match duration:
        case DurationLiteral(seconds=seconds):
            return seconds
        case DurationParen(inner=inner):
            return _seconds(inner, named)
        case DurationUnary(op=op, operand=operand):
            return -_seconds(operand, named) if op == "-" else _seconds(operand, named)
        case DurationCall(function=function, args=args):
            values = [_seconds(arg, named) for arg in args]
            return {"min_of": min, "max_of": max}[function](values) if values else named(function)
        case DurationBinary(op=op, left=left, right=right):
            return _binary(op, _seconds(left, named), _seconds(right, named), right.span.start)


def _binary(op: str, left: float, right: float, offset: int) -> float:
    if op == "+":
        return left + right
    if op == "-":
        return left - right
    if op == "*":
        return left * right
    if op == "^":
        try:
            return math.pow(left, right)
        except (OverflowError, ValueError) as error:
            raise SyntaxProblem("duration out of range", offset) from error
    if right == 0:
        raise SyntaxProblem("division by zero" if op == "/" else "modulo by zero", offset)
    return left / right if op == "/" else math.fmod(left, right)
