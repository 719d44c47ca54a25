"""Operands: literals, selectors, function calls and aggregations."""

from lark import Token

from promlike.errors import BadRequest
from promlike.model.labels import METRIC_NAME, quote, valid_utf8
from promlike.model.matchers import Matcher, MatchOp
from promlike.promql.aggregations import AGGREGATIONS
from promlike.promql.ast import Aggregate, Call, Expr, NumberLiteral, Paren, Span, StringLiteral, ValueType, VectorSelector
from promlike.promql.functions import FUNCTIONS, RENAMED
from promlike.promql.literals import unquote
from promlike.promql.position import SyntaxProblem
from promlike.promql.printer import format_label
from promlike.promql.tree.parts import (
    Arguments,
    Braces,
    Built,
    Labels,
    QuotedName,
    end_of,
    inline,
    level_above,
    seconds_of,
    span_of,
    start_of,
)


class OperandRules:
    @inline
    def paren(self, left: Token, inner: Built, right: Token) -> Built:
        span = span_of(left, right)
        return Built(Paren(inner=inner.expr, span=span), inner.type, level_above((inner.depth,), span.start))

    @inline
    def number(self, token: Token) -> Built:
        literal = NumberLiteral(value=seconds_of(token), is_duration=token.type == "DURATION", span=span_of(token, token))
        return Built(literal, ValueType.SCALAR, 1)

    @inline
    def string(self, token: Token) -> Built:
        return Built(StringLiteral(value=unquote(str(token), start_of(token)), span=span_of(token, token)), ValueType.STRING, 1)

    @inline
    def selector(self, first: Token | Braces, braces: Braces | None = None) -> Built:
        if isinstance(first, Braces):
            selector = VectorSelector(name=None, matchers=first.matchers, span=Span(first.start, first.end))
        elif braces is None:
            selector = VectorSelector(name=str(first), span=span_of(first, first))
        else:
            selector = VectorSelector(name=str(first), matchers=braces.matchers, span=Span(start_of(first), braces.end))
            for matcher in braces.matchers:
                if matcher.name == METRIC_NAME:
                    raise _two_names(str(first), matcher.value, selector.span.start)
        return Built(selector, ValueType.VECTOR, 1)

    @inline
    def braces(self, left: Token, *rest: Token | Matcher | QuotedName) -> Braces:
        quoted = any(isinstance(item, QuotedName) for item in rest)
        items = [item for item in rest if isinstance(item, Matcher | QuotedName)]
        matchers = tuple(item.matcher if isinstance(item, QuotedName) else item for item in items)
        names = [matcher.value for matcher in matchers if matcher.name == METRIC_NAME]
        if quoted and len(names) > 1:
            raise _two_names(names[0], names[1], start_of(left))
        right = rest[-1]
        end = end_of(right) if isinstance(right, Token) else start_of(left)
        # In one order, as Prometheus prints them: selectors that differ in the order of their labels alone are equal. Conditions on one
        # label stay as written, because absent() looks at that.
        return Braces(tuple(sorted(matchers, key=lambda matcher: format_label(matcher.name))), start_of(left), end)

    @inline
    def matcher(self, name: Token, op: Token | None = None, value: Token | None = None) -> Matcher | QuotedName:
        start = start_of(name)
        text = valid_utf8(unquote(str(name), start)) if name.type == "STRING" else str(name)
        if op is None or value is None:
            return QuotedName(Matcher(METRIC_NAME, MatchOp.EQUAL, text))
        try:
            return Matcher(text, MatchOp(str(op)), valid_utf8(unquote(str(value), start_of(value))))
        except BadRequest as error:
            raise SyntaxProblem(str(error), start) from error

    @inline
    def call(self, word: Token, arguments: Arguments) -> Built:
        name = str(word) if word.type == "IDENTIFIER" else word.lower()
        span = Span(start_of(word), arguments.end)
        spec = FUNCTIONS.get(name)
        if spec is None:
            hint = f", it is called {quote(RENAMED[name])} in Prometheus 3" if name in RENAMED else ""
            raise SyntaxProblem(f"unknown function with name {quote(name)}{hint}", span.start)
        args, depth = _unpack(arguments, span.start)
        return Built(Call(function=name, args=args, span=span), spec.returns, depth)

    def aggregate(self, children: list[Token | Labels | Arguments]) -> Built:
        words = [child for child in children if isinstance(child, Token)]
        arguments = next(child for child in children if isinstance(child, Arguments))
        labels = next((child for child in children if isinstance(child, Labels)), None)
        op = words[0].lower()
        span = Span(start_of(words[0]), max(arguments.end, labels.end if labels is not None else 0))
        args, depth = _unpack(arguments, span.start)
        _check_count(op, len(args), span.start)
        expr = Aggregate(
            op=op,
            expr=args[-1],
            param=args[0] if len(args) == 2 else None,
            grouping=labels.names if labels is not None else (),
            without=words[-1].lower() == "without",
            span=span,
        )
        return Built(expr, ValueType.VECTOR, depth)

    def arguments(self, children: list[Token | Built]) -> Arguments:
        right = children[-1]
        end = end_of(right) if isinstance(right, Token) else 0
        return Arguments(tuple(child for child in children if isinstance(child, Built)), end)

    def labels(self, children: list[Token | str]) -> Labels:
        right = children[-1]
        end = end_of(right) if isinstance(right, Token) else 0
        return Labels(tuple(child for child in children if not isinstance(child, Token)), end)

    @inline
    def label(self, token: Token) -> str:
        name = valid_utf8(unquote(str(token), start_of(token))) if token.type == "STRING" else str(token)
        if not name:
            raise SyntaxProblem('invalid label name for grouping: ""', start_of(token))
        return name


def _unpack(arguments: Arguments, offset: int) -> tuple[tuple[Expr, ...], int]:
    depth = level_above((arg.depth for arg in arguments.args), offset)
    return tuple(arg.expr for arg in arguments.args), depth


def _check_count(op: str, given: int, offset: int) -> None:
    expected = 1 if AGGREGATIONS[op].param is None else 2
    if not given:
        raise SyntaxProblem("no arguments for aggregate expression provided", offset)
    if given != expected:
        raise SyntaxProblem(f"wrong number of arguments for aggregate expression provided, expected {expected}, got {given}", offset)


def _two_names(first: str, second: str, offset: int) -> SyntaxProblem:
    return SyntaxProblem(f"metric name must not be set twice: {quote(first)} or {quote(second)}", offset)
