"""What the rules hand to each other while a tree is built."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar, cast

from lark import Token, v_args

from promlike.model.matchers import Matcher
from promlike.promql.ast import DurationExpr, Expr, Span, ValueType
from promlike.promql.literals import parse_number, parse_seconds
from promlike.promql.position import SyntaxProblem

MAX_DEPTH = 1000
"""How many levels a tree may have; a chain of n left-associative operators has n levels."""

Rule = TypeVar("Rule", bound=Callable[..., object])

inline = cast(Callable[[Rule], Rule], v_args(inline=True))  # Lark types it by bound, not by variable
"""The rule's method takes what the rule matched as its arguments instead of as a list."""


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


class QuotedName(NamedTuple):
    """The metric name of `{"metric.name"}`."""

    matcher: Matcher


class Braces(NamedTuple):
    matchers: tuple[Matcher, ...]
    start: int
    end: int


class On(NamedTuple):
    on: bool
    labels: tuple[str, ...]


class Group(NamedTuple):
    side: str
    include: tuple[str, ...]


class Fill(NamedTuple):
    side: str
    value: float


def start_of(token: Token) -> int:
    return token.start_pos or 0


def end_of(token: Token) -> int:
    return token.end_pos or 0


def span_of(first: Token, last: Token) -> Span:
    return Span(start_of(first), end_of(last))


def seconds_of(token: Token) -> float:
    """What a NUMBER or DURATION says in seconds."""
    return parse_number(str(token), start_of(token)) if token.type == "NUMBER" else parse_seconds(str(token), start_of(token))


def level_above(depths: Iterable[int], offset: int) -> int:
    """The depth of a node over subtrees of these depths. Raise SyntaxProblem when it is too deep."""
    depth = max(depths, default=0) + 1
    if depth > MAX_DEPTH:
        raise SyntaxProblem(f"expression is nested more than {MAX_DEPTH} levels deep", offset)
    return depth
