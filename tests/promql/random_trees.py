"""Random PromQL trees that the parser could have made: checked, and with parentheses exactly where the text needs them."""

import math

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

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
    StringLiteral,
    Subquery,
    Unary,
    ValueType,
    VectorSelector,
)
from promlike.promql.functions import FUNCTIONS, FunctionSpec
from promlike.promql.precedence import PRECEDENCE, RIGHT_ASSOCIATIVE
from promlike.promql.printer import format_matcher

_UNARY_LEVEL = PRECEDENCE["*"]
_ATOM_LEVEL = 100
_SET_OPERATORS = frozenset({"and", "or", "unless"})
_COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})

_METRICS = st.sampled_from("up http_requests_total a:b:c sum by and offset start step min_of fill fill_left anchored INF_x _x".split())
_PLAIN_LABELS = st.sampled_from("a b job le __name__ by on sum nan_ bool group_left".split())
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_LABELS = _PLAIN_LABELS | _TEXT.filter(bool)
_LABEL_LISTS = st.lists(_LABELS, max_size=3).map(tuple)
_MILLISECONDS = st.integers(1, 10**11)
_FILLS = st.none() | st.floats(allow_nan=False) | st.just(math.nan)


def exprs() -> SearchStrategy[Expr]:
    """Expressions of every type."""
    return _expr(ValueType.SCALAR, 4) | _expr(ValueType.VECTOR, 4) | _expr(ValueType.MATRIX, 4) | _expr(ValueType.STRING, 1)


@st.composite
def _expr(draw: DrawFn, of: ValueType, depth: int) -> Expr:
    if of is ValueType.STRING:
        text = StringLiteral(value=draw(_TEXT))
        return Paren(inner=text) if depth and draw(st.booleans()) else text
    if of is ValueType.MATRIX:
        return draw(_subqueries(depth - 1)) if depth and draw(st.booleans()) else draw(_matrix_selectors())
    leaves: SearchStrategy[Expr] = _numbers() if of is ValueType.SCALAR else _selectors()
    if not depth:
        return draw(leaves)
    aggregates = [_aggregates(depth - 1)] if of is ValueType.VECTOR else []
    parens: SearchStrategy[Expr] = _expr(of, depth - 1).map(lambda inner: Paren(inner=inner))
    kinds: list[SearchStrategy[Expr]] = [leaves, parens, _unaries(of, depth - 1), _binaries(of, depth - 1), _calls(of, depth - 1)]
    drawn: Expr = draw(st.one_of(*kinds, *aggregates))
    return drawn


@st.composite
def _numbers(draw: DrawFn) -> Expr:
    if draw(st.booleans()):
        return NumberLiteral(value=draw(st.integers(-(10**11), 10**11)) / 1000, is_duration=True)
    return NumberLiteral(value=draw(st.just(math.nan) | st.floats(allow_nan=False)))


@st.composite
def _selectors(draw: DrawFn) -> VectorSelector:
    name = draw(st.none() | _METRICS)
    matchers = draw(st.lists(_matchers(), max_size=3))
    if name is None:
        matchers.append(Matcher("z", MatchOp.EQUAL, "never empty"))
    else:
        matchers = [matcher for matcher in matchers if matcher.name != "__name__"]
    extended = draw(st.sampled_from(("", "", "anchored", "smoothed")))
    return VectorSelector(
        name=name,
        matchers=tuple(sorted(matchers, key=format_matcher)),
        offset=draw(st.none() | _offsets()),
        at=draw(st.none() | _ats()),
        anchored=extended == "anchored",
        smoothed=extended == "smoothed",
    )


@st.composite
def _matchers(draw: DrawFn) -> Matcher:
    op = draw(st.sampled_from(MatchOp))
    patterns = st.sampled_from(("", "a|b", ".+", r"\d\.x", "[^\\n]*"))
    return Matcher(draw(_LABELS), op, draw(patterns if op in (MatchOp.REGEX, MatchOp.NOT_REGEX) else _TEXT))


def _ats() -> SearchStrategy[At]:
    times = st.integers(-(10**13), 10**13).map(lambda ms: At(kind=AtKind.TIME, time_ms=ms))
    return times | st.sampled_from((At(kind=AtKind.START), At(kind=AtKind.END)))


def _matrix_selectors() -> SearchStrategy[MatrixSelector]:
    return st.builds(MatrixSelector, selector=_selectors(), range=_ranges())


@st.composite
def _subqueries(draw: DrawFn, depth: int) -> Subquery:
    return Subquery(
        expr=_beside(draw(_expr(ValueType.VECTOR, depth)), _ATOM_LEVEL),
        range=draw(_ranges()),
        step=draw(st.none() | _ranges()),
        offset=draw(st.none() | _offsets()),
        at=draw(st.none() | _ats()),
    )


@st.composite
def _unaries(draw: DrawFn, of: ValueType, depth: int) -> Expr:
    operand = _beside(draw(_expr(of, depth)), _UNARY_LEVEL + 1, on_the_right=True)
    # A sign before a number is part of the number.
    return Unary(op=draw(st.sampled_from("+-")), operand=Paren(inner=operand) if isinstance(operand, NumberLiteral) else operand)


@st.composite
def _binaries(draw: DrawFn, of: ValueType, depth: int) -> Expr:
    scalar = of is ValueType.SCALAR
    op = draw(st.sampled_from([op for op in PRECEDENCE if not (scalar and op in _SET_OPERATORS)]))
    sides = st.sampled_from(
        ((ValueType.VECTOR, ValueType.VECTOR),)
        if op in _SET_OPERATORS
        else ((of, of),)
        if scalar
        else ((ValueType.VECTOR, ValueType.VECTOR), (ValueType.SCALAR, ValueType.VECTOR), (ValueType.VECTOR, ValueType.SCALAR))
    )
    left_type, right_type = draw(sides)
    level, right_first = PRECEDENCE[op], op in RIGHT_ASSOCIATIVE
    vectors = left_type is right_type is ValueType.VECTOR
    return Binary(
        op=op,
        left=_beside(draw(_expr(left_type, depth)), level + right_first),
        right=_beside(draw(_expr(right_type, depth)), level + (not right_first), on_the_right=True),
        bool_modifier=op in _COMPARISONS and (scalar or draw(st.booleans())),
        matching=draw(_matchings(op)) if vectors else None,
    )


@st.composite
def _matchings(draw: DrawFn, op: str) -> Matching:
    on, labels = draw(st.booleans()), draw(_LABEL_LISTS)
    if op in _SET_OPERATORS:
        return Matching(card=Card.MANY_TO_MANY, on=on, labels=labels)
    card = draw(st.sampled_from((Card.ONE_TO_ONE, Card.MANY_TO_ONE, Card.ONE_TO_MANY)))
    include = draw(_LABEL_LISTS) if card is not Card.ONE_TO_ONE else ()
    include = tuple(label for label in include if not (on and label in labels))
    return Matching(card=card, on=on, labels=labels, include=include, fill_left=draw(_FILLS), fill_right=draw(_FILLS))


@st.composite
def _calls(draw: DrawFn, of: ValueType, depth: int) -> Expr:
    spec: FunctionSpec = draw(st.sampled_from([spec for spec in FUNCTIONS.values() if spec.returns is of and spec.name != "info"]))
    most = spec.max_args if spec.max_args is not None else spec.min_args + 3
    count = draw(st.integers(spec.min_args, most))
    return Call(function=spec.name, args=tuple(draw(_expr(spec.arg_type(index), depth)) for index in range(count)))


@st.composite
def _aggregates(draw: DrawFn, depth: int) -> Expr:
    spec = draw(st.sampled_from(list(AGGREGATIONS.values())))
    return Aggregate(
        op=spec.name,
        expr=draw(_expr(ValueType.VECTOR, depth)),
        param=None if spec.param is None else draw(_expr(spec.param, depth)),
        grouping=draw(_LABEL_LISTS),
        without=draw(st.booleans()),
    )


def _beside(expr: Expr, level: int, *, on_the_right: bool = False) -> Expr:
    """The expression as operand of an operator: in parentheses unless it binds at least as tightly as `level`.

    A sign needs none on the right of an operator, since nothing else can follow there.
    """
    match expr:
        case Binary(op=op):
            own = PRECEDENCE[op]
        case Unary():
            own = _ATOM_LEVEL if on_the_right else _UNARY_LEVEL
        case NumberLiteral(value=value) if math.copysign(1, value) < 0:
            own = _ATOM_LEVEL if on_the_right else _UNARY_LEVEL
        case _:
            own = _ATOM_LEVEL
    return expr if own >= level else Paren(inner=expr)


# Durations. Inside brackets they are full expressions, behind `offset` one operand with at most one sign.


def _literals() -> SearchStrategy[DurationExpr]:
    return _MILLISECONDS.map(lambda ms: DurationLiteral(seconds=ms / 1000))


def _operands(depth: int) -> SearchStrategy[DurationExpr]:
    named = st.sampled_from(("step", "range")).map(lambda name: DurationCall(function=name))
    if not depth:
        return _literals() | named
    pair = st.tuples(_durations(depth - 1), _durations(depth - 1))
    calls = st.builds(DurationCall, function=st.sampled_from(("min_of", "max_of")), args=pair)
    parens = _durations(depth - 1).map(lambda inner: DurationParen(inner=inner))
    return st.one_of(_literals(), named, calls, parens)


@st.composite
def _durations(draw: DrawFn, depth: int) -> DurationExpr:
    numbers = st.integers(1, 1000).map(lambda n: DurationLiteral(seconds=n / 8, is_number=True))
    operand = draw(_operands(depth) | numbers)
    if depth and draw(st.booleans()):
        # Multiplying by something that depends on the query is never found out of range before the query runs.
        return DurationBinary(op=draw(st.sampled_from("+-*/%^")), left=DurationCall(function="step"), right=operand)
    return DurationUnary(op=draw(st.sampled_from("+-")), operand=operand) if draw(st.booleans()) else operand


def _ranges() -> SearchStrategy[DurationExpr]:
    return _literals() | _durations(2).map(lambda inner: DurationBinary(op="+", left=DurationCall(function="range"), right=_paren(inner)))


def _paren(duration: DurationExpr) -> DurationExpr:
    return DurationParen(inner=duration) if isinstance(duration, DurationBinary) else duration


@st.composite
def _offsets(draw: DrawFn) -> DurationExpr:
    operand = draw(_literals() | st.just(DurationCall(function="step")) | st.just(DurationParen(inner=DurationCall(function="range"))))
    sign = draw(st.sampled_from(("", "-") if isinstance(operand, DurationLiteral) else ("", "-", "+")))
    return DurationUnary(op=sign, operand=operand) if sign else operand
