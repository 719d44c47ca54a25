"""Operators: `expr` and what may follow a binary operator."""

from dataclasses import dataclass, field, replace
from math import isnan

from lark import Token

from promlike.promql.ast import Binary, Card, Matching, NumberLiteral, Span, Unary, ValueType
from promlike.promql.literals import parse_number
from promlike.promql.position import SyntaxProblem
from promlike.promql.precedence import fold
from promlike.promql.tree.parts import Built, Fill, Group, Labels, On, inline, level_above, start_of


@dataclass(frozen=True, slots=True)
class Operator:
    """A binary operator with its modifiers."""

    symbol: str
    bool_modifier: bool = False
    matching: Matching = field(default_factory=Matching)


class OperatorRules:
    def expr(self, children: list[Token | Operator | Built]) -> Built:
        return children[0] if len(children) == 1 and isinstance(children[0], Built) else fold(children, Operator, _unary, _binary)

    @inline
    def operator(self, symbol: Token, *modifiers: Token | On | Group | Fill) -> Operator:
        bool_modifier, matching = False, Matching()
        for modifier in modifiers:
            match modifier:
                case On(on, labels):
                    matching = replace(matching, on=on, labels=labels)
                case Group(side, include):
                    matching = replace(matching, card=Card.MANY_TO_ONE if side == "group_left" else Card.ONE_TO_MANY, include=include)
                case Fill(side, value):
                    matching = _with_fill(matching, side, value)
                case _:
                    bool_modifier = True
        return Operator(symbol.lower(), bool_modifier, matching)

    @inline
    def on(self, word: Token, labels: Labels) -> On:
        return On(word.lower() == "on", labels.names)

    @inline
    def group(self, word: Token, labels: Labels | None = None) -> Group:
        return Group(word.lower(), labels.names if labels is not None else ())

    def fill(self, children: list[Token]) -> Fill:
        word, _, *sign, number, _ = children
        value = parse_number(str(number), start_of(number))
        return Fill(word.lower(), -value if sign and sign[0] == "-" else value)


def _with_fill(matching: Matching, side: str, value: float) -> Matching:
    left = value if side in ("fill", "fill_left") else matching.fill_left
    right = value if side in ("fill", "fill_right") else matching.fill_right
    return replace(matching, fill_left=left, fill_right=right)


def _unary(sign: Token, operand: Built) -> Built:
    span = Span(start_of(sign), operand.expr.span.end)
    if isinstance(operand.expr, NumberLiteral):  # -1 is a number, not an operation
        value = operand.expr.value
        value = -value if sign == "-" and not isnan(value) else value  # the one NaN stays the same object
        return operand._replace(expr=replace(operand.expr, value=value, span=span))
    return Built(Unary(op=str(sign), operand=operand.expr, span=span), operand.type, level_above((operand.depth,), span.start))


def _binary(operator: Operator, left: Built, right: Built) -> Built:
    span = Span(left.expr.span.start, right.expr.span.end)
    types = {left.type, right.type}
    matching = operator.matching
    if types != {ValueType.VECTOR}:
        if matching.labels:
            raise SyntaxProblem("vector matching only allowed between instant vectors", span.start)
        if matching.fill_left is not None or matching.fill_right is not None:
            raise SyntaxProblem("filling in missing series only allowed between instant vectors", span.start)
    elif operator.symbol in ("and", "or", "unless") and matching.card is Card.ONE_TO_ONE:
        matching = replace(matching, card=Card.MANY_TO_MANY)
    expr = Binary(
        op=operator.symbol,
        left=left.expr,
        right=right.expr,
        bool_modifier=operator.bool_modifier,
        matching=matching if types == {ValueType.VECTOR} else None,
        span=span,
    )
    result = ValueType.SCALAR if types == {ValueType.SCALAR} else ValueType.VECTOR
    return Built(expr, result, level_above((left.depth, right.depth), span.start))
