"""Duration expressions, as they stand in ranges, steps and offsets."""

import math

from lark import Token

from promlike.promql.ast import DurationBinary, DurationCall, DurationLiteral, DurationParen, DurationUnary, Span
from promlike.promql.position import SyntaxProblem
from promlike.promql.precedence import fold
from promlike.promql.tree.operators import Operator
from promlike.promql.tree.parts import BuiltDuration, inline, level_above, seconds_of, span_of, start_of


class DurationRules:
    def duration(self, children: list[Token | BuiltDuration]) -> BuiltDuration:
        # In the flat list signs and operators are tokens alike: a sign is an operator exactly where it follows an operand.
        items: list[Token | BuiltDuration | Operator] = []
        for child in children:
            is_operator = bool(items) and isinstance(items[-1], BuiltDuration) and isinstance(child, Token)
            items.append(Operator(str(child)) if is_operator else child)
        return fold(items, Operator, with_sign, _binary)

    @inline
    def duration_literal(self, token: Token) -> BuiltDuration:
        seconds = seconds_of(token)
        if not math.isfinite(seconds):
            raise SyntaxProblem("duration out of range", start_of(token))
        return BuiltDuration(DurationLiteral(seconds=seconds, is_number=token.type == "NUMBER", span=span_of(token, token)), 1)

    def duration_call(self, children: list[Token | BuiltDuration]) -> BuiltDuration:
        words = [child for child in children if isinstance(child, Token)]
        args = [child for child in children if isinstance(child, BuiltDuration)]
        span = span_of(words[0], words[-1])
        expr = DurationCall(function=words[0].lower(), args=tuple(arg.duration for arg in args), span=span)
        return BuiltDuration(expr, level_above((arg.depth for arg in args), span.start))

    @inline
    def duration_paren(self, left: Token, inner: BuiltDuration, right: Token) -> BuiltDuration:
        span = span_of(left, right)
        return BuiltDuration(DurationParen(inner=inner.duration, span=span), level_above((inner.depth,), span.start))


def with_sign(sign: Token, operand: BuiltDuration) -> BuiltDuration:
    """The duration with a sign before it."""
    span = Span(start_of(sign), operand.duration.span.end)
    return BuiltDuration(DurationUnary(op=str(sign), operand=operand.duration, span=span), level_above((operand.depth,), span.start))


def _binary(operator: Operator, left: BuiltDuration, right: BuiltDuration) -> BuiltDuration:
    span = Span(left.duration.span.start, right.duration.span.end)
    expr = DurationBinary(op=operator.symbol, left=left.duration, right=right.duration, span=span)
    return BuiltDuration(expr, level_above((left.depth, right.depth), span.start))
