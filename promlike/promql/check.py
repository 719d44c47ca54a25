"""Checks a tree: types of operands and arguments, modifiers that fit, features that are on. Messages are Prometheus's."""

from dataclasses import dataclass

from promlike.promql.aggregations import AGGREGATIONS
from promlike.promql.ast import (
    Aggregate,
    Binary,
    Call,
    Card,
    DurationExpr,
    DurationLiteral,
    DurationUnary,
    Expr,
    MatrixSelector,
    NumberLiteral,
    Paren,
    StringLiteral,
    Subquery,
    Unary,
    ValueType,
    VectorSelector,
)
from promlike.promql.functions import FUNCTIONS
from promlike.promql.options import Features
from promlike.promql.position import SyntaxProblem

EMPTY_SELECTOR = "vector selector must contain at least one non-empty matcher"

COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
SET_OPERATORS = frozenset({"and", "or", "unless"})

_NAMES = {ValueType.VECTOR: "instant vector", ValueType.MATRIX: "range vector"}


def value_type(expr: Expr) -> ValueType:
    """What a checked expression evaluates to."""
    match expr:
        case NumberLiteral():
            return ValueType.SCALAR
        case StringLiteral():
            return ValueType.STRING
        case VectorSelector() | Aggregate():
            return ValueType.VECTOR
        case MatrixSelector() | Subquery():
            return ValueType.MATRIX
        case Paren(inner=inner):
            return value_type(inner)
        case Unary(operand=operand):
            return value_type(operand)
        case Call(function=function):
            return FUNCTIONS[function].returns
        case Binary(left=left, right=right, matching=matching):
            if matching is not None:
                return ValueType.VECTOR
            scalars = value_type(left) is ValueType.SCALAR and value_type(right) is ValueType.SCALAR
            return ValueType.SCALAR if scalars else ValueType.VECTOR


def check(expr: Expr, text: str, features: Features) -> ValueType:
    """What the expression evaluates to. Raise SyntaxProblem at the first place, children before parents, that is not allowed."""
    return _Check(text=text, features=features).expr(expr)


@dataclass(frozen=True, slots=True)
class _Check:
    text: str
    features: Features

    def expr(self, expr: Expr) -> ValueType:
        match expr:
            case NumberLiteral():
                return ValueType.SCALAR
            case StringLiteral():
                return ValueType.STRING
            case VectorSelector():
                return self.selector(expr)
            case MatrixSelector():
                self.selector(expr.selector)
                self.durations(expr.range)
                return ValueType.MATRIX
            case Paren():
                return self.expr(expr.inner)
            case Subquery():
                return self.subquery(expr)
            case Unary():
                return self.unary(expr)
            case Binary():
                return self.binary(expr)
            case Call():
                return self.call(expr)
            case Aggregate():
                return self.aggregate(expr)

    def expect(self, expr: Expr, wanted: ValueType, context: str) -> None:
        found = self.expr(expr)
        if found is not wanted:
            message = f"expected type {_NAMES.get(wanted, wanted)} in {context}, got {_NAMES.get(found, found)}"
            raise SyntaxProblem(message, expr.span.start)

    def selector(self, selector: VectorSelector, *, may_match_all: bool = False) -> ValueType:
        if (selector.anchored or selector.smoothed) and not self.features.promql_extended_range_selectors:
            modifier = "anchored" if selector.anchored else "smoothed"
            message = f"{modifier} modifier is experimental and must be enabled with --enable-feature=promql-extended-range-selectors"
            raise SyntaxProblem(message, selector.span.start)
        self.durations(selector.offset)
        if selector.name is None and not may_match_all and all(matcher.matches_empty for matcher in selector.matchers):
            raise SyntaxProblem(EMPTY_SELECTOR, selector.span.start)
        return ValueType.VECTOR

    def subquery(self, subquery: Subquery) -> ValueType:
        found = self.expr(subquery.expr)
        if found is not ValueType.VECTOR:
            raise SyntaxProblem(f"subquery is only allowed on instant vector, got {found} instead", subquery.span.start)
        self.durations(subquery.range, subquery.step, subquery.offset)
        return ValueType.MATRIX

    def durations(self, *durations: DurationExpr | None) -> None:
        """Only literals, with or without a sign, when duration expressions are switched off."""
        if self.features.promql_duration_expr:
            return
        for duration in durations:
            plain = duration.operand if isinstance(duration, DurationUnary) else duration
            if plain is not None and not isinstance(plain, DurationLiteral):
                raise SyntaxProblem("experimental duration expression is not enabled", plain.span.start)

    def unary(self, unary: Unary) -> ValueType:
        found = self.expr(unary.operand)
        if found not in (ValueType.SCALAR, ValueType.VECTOR):
            what = _NAMES.get(found, found)
            message = f'unary expression only allowed on expressions of type scalar or instant vector, got "{what}"'
            raise SyntaxProblem(message, unary.span.start)
        return found

    def binary(self, binary: Binary) -> ValueType:
        left, right = self.expr(binary.left), self.expr(binary.right)
        self.modifiers(binary, left is ValueType.SCALAR and right is ValueType.SCALAR)
        for side, found in ((binary.left, left), (binary.right, right)):
            if found not in (ValueType.SCALAR, ValueType.VECTOR):
                raise SyntaxProblem("binary expression must contain only scalar and instant vector types", side.span.start)
        scalar = ValueType.SCALAR in (left, right)
        if binary.op in SET_OPERATORS and scalar:
            raise SyntaxProblem(f'set operator "{binary.op}" not allowed in binary scalar expression', binary.span.start)
        return ValueType.SCALAR if left is right is ValueType.SCALAR else ValueType.VECTOR

    def modifiers(self, binary: Binary, scalars: bool) -> None:
        if binary.bool_modifier and binary.op not in COMPARISONS:
            raise SyntaxProblem("bool modifier can only be used on comparison operators", self.operator(binary))
        if binary.op in COMPARISONS and scalars and not binary.bool_modifier:
            raise SyntaxProblem("comparisons between scalars must use BOOL modifier", self.operator(binary))
        matching = binary.matching
        if matching is None:
            return
        included = frozenset(matching.include)
        both = next((label for label in matching.labels if matching.on and label in included), None)
        if both is not None:
            raise SyntaxProblem(f'label "{both}" must not occur in ON and GROUP clause at once', self.operator(binary))
        fills = matching.fill_left is not None or matching.fill_right is not None
        if fills and not self.features.promql_binop_fill_modifiers:
            message = "fill modifiers are experimental and must be enabled with --enable-feature=promql-binop-fill-modifiers"
            raise SyntaxProblem(message, self.operator(binary))
        if binary.op in SET_OPERATORS:
            if matching.card is not Card.MANY_TO_MANY:
                raise SyntaxProblem(f'no grouping allowed for "{binary.op}" operation', binary.span.start)
            if fills:
                raise SyntaxProblem("filling in missing series not allowed for set operators", binary.span.start)

    def operator(self, binary: Binary) -> int:
        """Where the operator stands: behind the left side and what closes or separates it."""
        start = binary.left.span.end
        while start < len(self.text) and self.text[start].isspace():
            start += 1
        return start

    def call(self, call: Call) -> ValueType:
        spec = FUNCTIONS[call.function]
        if not spec.enabled(self.features):
            raise SyntaxProblem(f'function "{call.function}" is not enabled', call.span.start)
        given = len(call.args)
        if given < spec.min_args or (spec.max_args is not None and given > spec.max_args):
            bound = spec.min_args if given < spec.min_args else spec.max_args
            kind = "" if spec.min_args == spec.max_args else "at least " if given < spec.min_args else "at most "
            raise SyntaxProblem(f'expected {kind}{bound} argument(s) in call to "{call.function}", got {given}', call.span.start)
        for index, arg in enumerate(call.args):
            if call.function == "info" and index == 1 and isinstance(arg, VectorSelector):
                self.info_selector(arg)
            else:
                self.expect(arg, spec.arg_type(index), f'call to function "{call.function}"')
        return spec.returns

    def info_selector(self, selector: VectorSelector) -> None:
        """The second argument of info() says which labels to add, so it may match everything but names no metric."""
        if selector.name is not None:
            raise SyntaxProblem("expected label selectors only, got vector selector instead", selector.span.start)
        self.selector(selector, may_match_all=True)

    def aggregate(self, aggregate: Aggregate) -> ValueType:
        spec = AGGREGATIONS[aggregate.op]
        if spec.experimental and not self.features.promql_experimental_functions:
            message = f"{aggregate.op}() is experimental and must be enabled with --enable-feature=promql-experimental-functions"
            raise SyntaxProblem(message, aggregate.span.start)
        self.expect(aggregate.expr, ValueType.VECTOR, "aggregation expression")
        if spec.param is not None and aggregate.param is not None:
            self.expect(aggregate.param, spec.param, "aggregation parameter")
        return ValueType.VECTOR
