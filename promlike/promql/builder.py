"""Builds the syntax tree while Lark reduces: one method per rule of grammar.lark, each gets the list of what the rule matched."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from lark import Token

from promlike.errors import BadRequest
from promlike.model.labels import METRIC_NAME
from promlike.model.matchers import Matcher, MatchOp
from promlike.promql.aggregations import AGGREGATIONS
from promlike.promql.ast import (
    Aggregate,
    At,
    AtKind,
    Binary,
    Call,
    Card,
    DurationBinary,
    DurationCall,
    DurationExpr,
    DurationLiteral,
    DurationParen,
    DurationUnary,
    Expr,
    Matching,
    MatrixSelector,
    NumberLiteral,
    Paren,
    Span,
    StringLiteral,
    Subquery,
    Unary,
    ValueType,
    VectorSelector,
)
from promlike.promql.durations import check_constant, normalize
from promlike.promql.functions import FUNCTIONS, RENAMED
from promlike.promql.literals import format_number, parse_number, parse_seconds, unquote
from promlike.promql.position import SyntaxProblem
from promlike.promql.precedence import fold

MAX_DEPTH = 1000
"""How many levels a tree may have; a chain of n left-associative operators has n levels."""

_AT_LIMIT_MS = 2**63 - 1


class Built(NamedTuple):
    """A finished subtree, what it evaluates to and how many levels it has."""

    expr: Expr
    type: ValueType
    depth: int


class BuiltDuration(NamedTuple):
    duration: DurationExpr
    depth: int


class Labels(NamedTuple):
    names: tuple[str, ...]
    end: int


class Arguments(NamedTuple):
    args: tuple[Built, ...]
    end: int


class Braces(NamedTuple):
    matchers: tuple[Matcher, ...]
    quoted_name: str | None
    start: int
    end: int


class Group(NamedTuple):
    side: str
    include: tuple[str, ...]


class Fill(NamedTuple):
    side: str
    value: float


class On(NamedTuple):
    on: bool
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Operator:
    """A binary operator with its modifiers."""

    symbol: str
    bool_modifier: bool = False
    matching: Matching = Matching()  # noqa: RUF009  # frozen


def _start(token: Token) -> int:
    return token.start_pos or 0


def _end(token: Token) -> int:
    return token.end_pos or 0


def _seconds(token: Token) -> float:
    """What a NUMBER or DURATION says in seconds."""
    return parse_number(token, _start(token)) if token.type == "NUMBER" else parse_seconds(token, _start(token))


def _deeper(depth: int, offset: int) -> int:
    if depth >= MAX_DEPTH:
        raise SyntaxProblem(f"expression is nested more than {MAX_DEPTH} levels deep", offset)
    return depth + 1


class Builder:
    """Callbacks for Lark. Holds no state, so one builder serves all threads."""

    def start(self, children: list[Built]) -> Expr:
        return children[0].expr

    # Operators.

    def expr(self, children: list[object]) -> Built:
        return fold(children, Operator, _unary, _binary)

    def operator(self, children: list[object]) -> Operator:
        symbol, *modifiers = children
        bool_modifier, matching = False, Matching()
        for modifier in modifiers:
            match modifier:
                case Token():
                    bool_modifier = True
                case On(on, labels):
                    matching = replace(matching, on=on, labels=labels)
                case Group(side, include):
                    matching = replace(matching, card=Card.MANY_TO_ONE if side == "group_left" else Card.ONE_TO_MANY, include=include)
                case Fill(side, value):
                    matching = _with_fill(matching, side, value)
        return Operator(str(symbol).lower(), bool_modifier, matching)

    def on(self, children: list[object]) -> On:
        word, labels = children
        assert isinstance(labels, Labels)
        return On(str(word).lower() == "on", labels.names)

    def group(self, children: list[object]) -> Group:
        return Group(str(children[0]).lower(), children[1].names if len(children) > 1 and isinstance(children[1], Labels) else ())

    def fill(self, children: list[Token]) -> Fill:
        sign = -1.0 if children[2] == "-" else 1.0
        number = children[-2]
        return Fill(children[0].lower(), sign * parse_number(number, _start(number)))

    # What stands behind an operand.

    def offset(self, children: list[object]) -> Built:
        target, _, *signed = children
        assert isinstance(target, Built)
        duration = _signed(signed)
        end = duration.duration.span.end
        return target._replace(
            expr=_with_offset(target.expr, duration.duration, end), depth=_deeper(max(target.depth, duration.depth), end)
        )

    def at(self, children: list[object]) -> Built:
        target, *rest = children
        assert isinstance(target, Built)
        words = [token for token in rest if isinstance(token, Token)]
        return target._replace(expr=_with_at(target.expr, words))

    def extended(self, children: list[object]) -> Built:
        target, word = children
        assert isinstance(target, Built) and isinstance(word, Token)
        return target._replace(expr=_with_extended(target.expr, word))

    def matrix(self, children: list[object]) -> Built:
        target, left, duration, right = children
        assert isinstance(target, Built) and isinstance(left, Token) and isinstance(right, Token) and isinstance(duration, BuiltDuration)
        selector = target.expr
        if not isinstance(selector, VectorSelector):
            raise SyntaxProblem("ranges only allowed for vector selectors", _start(left))
        if selector.offset is not None:
            raise SyntaxProblem("no offset modifiers allowed before range", _start(left))
        if selector.at is not None:
            raise SyntaxProblem("no @ modifiers allowed before range", _start(left))
        check_constant(duration.duration, positive=True)
        span = Span(selector.span.start, _end(right))
        expr = MatrixSelector(selector=selector, range=normalize(duration.duration), span=span)
        return Built(expr, ValueType.MATRIX, _deeper(max(target.depth, duration.depth), span.start))

    def subquery(self, children: list[object]) -> Built:
        target, _, *durations, right = children
        assert isinstance(target, Built) and isinstance(right, Token)
        given = [duration for duration in durations if isinstance(duration, BuiltDuration)]
        for duration in given:
            check_constant(duration.duration, positive=True)
        span = Span(target.expr.span.start, _end(right))
        step = normalize(given[1].duration) if len(given) > 1 else None
        expr = Subquery(expr=target.expr, range=normalize(given[0].duration), step=step, span=span)
        return Built(expr, ValueType.MATRIX, _deeper(max(target.depth, *(duration.depth for duration in given)), span.start))

    # Operands.

    def paren(self, children: list[object]) -> Built:
        left, inner, right = children
        assert isinstance(left, Token) and isinstance(inner, Built) and isinstance(right, Token)
        span = Span(_start(left), _end(right))
        return Built(Paren(inner=inner.expr, span=span), inner.type, _deeper(inner.depth, span.start))

    def number(self, children: list[Token]) -> Built:
        token = children[0]
        span = Span(_start(token), _end(token))
        return Built(NumberLiteral(value=_seconds(token), is_duration=token.type == "DURATION", span=span), ValueType.SCALAR, 1)

    def string(self, children: list[Token]) -> Built:
        span = Span(_start(children[0]), _end(children[0]))
        return Built(StringLiteral(value=unquote(children[0], span.start), span=span), ValueType.STRING, 1)

    def selector(self, children: list[object]) -> Built:
        name = children[0] if isinstance(children[0], Token) else None
        braces = children[-1] if isinstance(children[-1], Braces) else None
        start = _start(name) if name is not None else braces.start if braces is not None else 0
        end = braces.end if braces is not None else _end(name) if name is not None else 0
        matchers = braces.matchers if braces is not None else ()
        text = None if name is None else str(name)
        _check_one_name(text, braces, start)
        return Built(VectorSelector(name=text, matchers=matchers, span=Span(start, end)), ValueType.VECTOR, 1)

    def braces(self, children: list[object]) -> Braces:
        left, right = children[0], children[-1]
        assert isinstance(left, Token) and isinstance(right, Token)
        given = [child for child in children if isinstance(child, tuple)]
        names = [matcher.value for matcher, is_name in given if is_name]
        if len(names) > 1:
            raise SyntaxProblem(f'metric name must not be set twice: "{names[0]}" or "{names[1]}"', _start(left))
        return Braces(tuple(matcher for matcher, _ in given), names[0] if names else None, _start(left), _end(right))

    def matcher(self, children: list[Token]) -> tuple[Matcher, bool]:
        """The matcher, and whether it is a metric name in quotes."""
        first, start = children[0], _start(children[0])
        name = unquote(first, start) if first.type == "STRING" else str(first)
        if len(children) == 1:
            return Matcher(METRIC_NAME, MatchOp.EQUAL, name), True
        try:
            return Matcher(name, MatchOp(children[1]), unquote(children[2], _start(children[2]))), False
        except BadRequest as error:
            raise SyntaxProblem(str(error), start) from error

    def call(self, children: list[object]) -> Built:
        word, arguments = children
        assert isinstance(word, Token) and isinstance(arguments, Arguments)
        name = str(word) if word.type == "IDENTIFIER" else word.lower()
        span = Span(_start(word), arguments.end)
        spec = FUNCTIONS.get(name)
        if spec is None:
            hint = f", it is called {RENAMED[name]} now" if name in RENAMED else ""
            raise SyntaxProblem(f'unknown function with name "{name}"{hint}', span.start)
        args, depth = _unpack(arguments, span.start)
        return Built(Call(function=name, args=args, span=span), spec.returns, depth)

    def aggregate(self, children: list[object]) -> Built:
        word = children[0]
        assert isinstance(word, Token)
        op = word.lower()
        arguments = next(child for child in children if isinstance(child, Arguments))
        labels = next((child for child in children if isinstance(child, Labels)), None)
        by = next((child for child in children[1:] if isinstance(child, Token)), None)
        span = Span(_start(word), max(arguments.end, labels.end if labels is not None else 0))
        args, depth = _unpack(arguments, span.start)
        expected = 1 if AGGREGATIONS[op].param is None else 2
        if not args:
            raise SyntaxProblem("no arguments for aggregate expression provided", span.start)
        if len(args) != expected:
            message = f"wrong number of arguments for aggregate expression provided, expected {expected}, got {len(args)}"
            raise SyntaxProblem(message, span.start)
        expr = Aggregate(
            op=op,
            expr=args[-1],
            param=args[0] if expected == 2 else None,
            grouping=labels.names if labels is not None else (),
            without=by is not None and by.lower() == "without",
            span=span,
        )
        return Built(expr, ValueType.VECTOR, depth)

    def arguments(self, children: list[object]) -> Arguments:
        right = children[-1]
        assert isinstance(right, Token)
        return Arguments(tuple(child for child in children if isinstance(child, Built)), _end(right))

    def labels(self, children: list[object]) -> Labels:
        right = children[-1]
        assert isinstance(right, Token)
        return Labels(tuple(child for child in children if type(child) is str), _end(right))

    def label(self, children: list[Token]) -> str:
        token = children[0]
        if token.type != "STRING":
            return str(token)
        name = unquote(token, _start(token))
        if not name:
            raise SyntaxProblem('invalid label name for grouping: ""', _start(token))
        return name

    # Durations.

    def duration(self, children: list[object]) -> BuiltDuration:
        # In the flat list signs and operators are tokens alike: a sign is an operator exactly where it follows an operand.
        items: list[object] = []
        for child in children:
            follows_operand = bool(items) and isinstance(items[-1], BuiltDuration)
            items.append(Operator(str(child)) if isinstance(child, Token) and follows_operand else child)
        return fold(items, Operator, _duration_unary, _duration_binary)

    def duration_literal(self, children: list[Token]) -> BuiltDuration:
        token = children[0]
        span = Span(_start(token), _end(token))
        seconds = _seconds(token)
        if not math.isfinite(seconds):
            raise SyntaxProblem("duration out of range", span.start)
        return BuiltDuration(DurationLiteral(seconds=seconds, is_number=token.type == "NUMBER", span=span), 1)

    def duration_call(self, children: list[object]) -> BuiltDuration:
        word, right = children[0], children[-1]
        assert isinstance(word, Token) and isinstance(right, Token)
        args = [child for child in children if isinstance(child, BuiltDuration)]
        span = Span(_start(word), _end(right))
        expr = DurationCall(function=word.lower(), args=tuple(arg.duration for arg in args), span=span)
        return BuiltDuration(expr, _deeper(max((arg.depth for arg in args), default=0), span.start))

    def duration_paren(self, children: list[object]) -> BuiltDuration:
        left, inner, right = children
        assert isinstance(left, Token) and isinstance(inner, BuiltDuration) and isinstance(right, Token)
        span = Span(_start(left), _end(right))
        return BuiltDuration(DurationParen(inner=inner.duration, span=span), _deeper(inner.depth, span.start))


def _unpack(arguments: Arguments, offset: int) -> tuple[tuple[Expr, ...], int]:
    depth = _deeper(max((arg.depth for arg in arguments.args), default=0), offset)
    return tuple(arg.expr for arg in arguments.args), depth


def _unary(sign: Token, operand: Built) -> Built:
    span = Span(_start(sign), operand.expr.span.end)
    if isinstance(operand.expr, NumberLiteral):  # -1 is a number, not an operation
        value = -operand.expr.value if sign == "-" else operand.expr.value
        return operand._replace(expr=replace(operand.expr, value=value, span=span))
    return Built(Unary(op=str(sign), operand=operand.expr, span=span), operand.type, _deeper(operand.depth, span.start))


def _binary(operator: Operator, left: Built, right: Built) -> Built:
    span = Span(left.expr.span.start, right.expr.span.end)
    vectors = left.type is ValueType.VECTOR and right.type is ValueType.VECTOR
    matching = operator.matching
    if operator.symbol in ("and", "or", "unless") and matching.card is Card.ONE_TO_ONE:
        matching = replace(matching, card=Card.MANY_TO_MANY)
    if not vectors and matching.labels:
        raise SyntaxProblem("vector matching only allowed between instant vectors", span.start)
    expr = Binary(
        op=operator.symbol,
        left=left.expr,
        right=right.expr,
        bool_modifier=operator.bool_modifier,
        matching=matching if vectors else None,
        span=span,
    )
    scalars = left.type is ValueType.SCALAR and right.type is ValueType.SCALAR
    result = ValueType.SCALAR if scalars else ValueType.VECTOR
    return Built(expr, result, _deeper(max(left.depth, right.depth), span.start))


def _with_fill(matching: Matching, side: str, value: float) -> Matching:
    left = value if side in ("fill", "fill_left") else matching.fill_left
    right = value if side in ("fill", "fill_right") else matching.fill_right
    return replace(matching, fill_left=left, fill_right=right)


def _with_offset(expr: Expr, duration: DurationExpr, end: int) -> Expr:
    if isinstance(expr, MatrixSelector):
        selector = _with_offset(expr.selector, duration, expr.selector.span.end)
        assert isinstance(selector, VectorSelector)
        return replace(expr, selector=selector, span=Span(expr.span.start, end))
    if not isinstance(expr, VectorSelector | Subquery):
        what = "an instant vector selector or range vector selector or a subquery"
        raise SyntaxProblem(f"offset modifier must be preceded by {what}", expr.span.start)
    if expr.offset is not None:
        raise SyntaxProblem("offset may not be set multiple times", expr.span.start)
    return replace(expr, offset=duration, span=Span(expr.span.start, end))


def _with_at(expr: Expr, words: list[Token]) -> Expr:
    end = _end(words[-1])
    if isinstance(expr, MatrixSelector):
        selector = _with_at(expr.selector, words)
        assert isinstance(selector, VectorSelector)
        return replace(expr, selector=replace(selector, span=expr.selector.span), span=Span(expr.span.start, end))
    if not isinstance(expr, VectorSelector | Subquery):
        what = "an instant vector selector or range vector selector or a subquery"
        raise SyntaxProblem(f"@ modifier must be preceded by {what}", expr.span.start)
    if expr.at is not None:
        raise SyntaxProblem("@ <timestamp> may not be set multiple times", expr.span.start)
    return replace(expr, at=_at(words, expr.span.start), span=Span(expr.span.start, end))


def _at(words: list[Token], offset: int) -> At:
    """`words` begin with the @."""
    first, last = words[1], words[-1]
    span = Span(_start(first), _end(last))
    if first.type == "START_END":
        return At(kind=AtKind(first.lower()), span=span)
    seconds = _seconds(last) * (-1 if first == "-" else 1)
    if not abs(seconds) * 1000 < _AT_LIMIT_MS:
        shown = f"{seconds:f}" if math.isfinite(seconds) else format_number(seconds)
        raise SyntaxProblem(f"timestamp out of bounds for @ modifier: {shown}", offset)
    # Half a millisecond goes away from zero, as in Go; Python's round would take it to the even neighbour.
    return At(kind=AtKind.TIME, time_ms=int(math.copysign(math.floor(abs(seconds) * 1000 + 0.5), seconds)), span=span)


def _with_extended(expr: Expr, word: Token) -> Expr:
    modifier, end = word.lower(), _end(word)
    if isinstance(expr, MatrixSelector):
        selector = _with_extended(expr.selector, word)
        assert isinstance(selector, VectorSelector)
        return replace(expr, selector=replace(selector, span=expr.selector.span), span=Span(expr.span.start, end))
    if isinstance(expr, Subquery):
        raise SyntaxProblem(f"{modifier} modifier is not supported for subqueries", expr.span.start)
    if not isinstance(expr, VectorSelector):
        raise SyntaxProblem(f"{modifier} modifier must be preceded by an instant vector selector or range vector selector", expr.span.start)
    if expr.anchored or expr.smoothed:
        raise SyntaxProblem("anchored and smoothed modifiers cannot be used together or twice", expr.span.start)
    span = Span(expr.span.start, end)
    return replace(expr, anchored=True, span=span) if modifier == "anchored" else replace(expr, smoothed=True, span=span)


def _check_one_name(name: str | None, braces: Braces | None, offset: int) -> None:
    """A name outside the braces, or in quotes inside, excludes every other matcher on the name that says which it is."""
    if braces is None or (name is None and braces.quoted_name is None):
        return
    chosen = name if name is not None else braces.quoted_name
    seen_quoted = name is not None
    for matcher in braces.matchers:
        if matcher.name != METRIC_NAME:
            continue
        if not seen_quoted and matcher.op is MatchOp.EQUAL and matcher.value == chosen:
            seen_quoted = True
            continue
        raise SyntaxProblem(f'metric name must not be set twice: "{chosen}" or "{matcher.value}"', offset)


def _signed(children: list[object]) -> BuiltDuration:
    """The duration of an offset: an atom with at most one sign."""
    *signs, atom = children
    assert isinstance(atom, BuiltDuration)
    check_constant(atom.duration, positive=False)
    atom = atom._replace(duration=normalize(atom.duration))
    if not signs or (signs[0] == "+" and isinstance(atom.duration, DurationLiteral)):
        return atom
    assert isinstance(signs[0], Token)
    return _duration_unary(signs[0], atom)


def _duration_unary(sign: Token, operand: BuiltDuration) -> BuiltDuration:
    span = Span(_start(sign), operand.duration.span.end)
    return BuiltDuration(DurationUnary(op=str(sign), operand=operand.duration, span=span), _deeper(operand.depth, span.start))


def _duration_binary(operator: Operator, left: BuiltDuration, right: BuiltDuration) -> BuiltDuration:
    span = Span(left.duration.span.start, right.duration.span.end)
    expr = DurationBinary(op=operator.symbol, left=left.duration, right=right.duration, span=span)
    return BuiltDuration(expr, _deeper(max(left.depth, right.depth), span.start))
