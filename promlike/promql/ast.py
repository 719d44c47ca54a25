"""The syntax tree of PromQL. Immutable; holds syntax and source spans only, never types, labels or fetched data."""

from dataclasses import dataclass, field
from enum import StrEnum

from promlike.model.matchers import Matcher


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open range of character offsets in the query text."""

    start: int
    end: int


NOWHERE = Span(0, 0)


class ValueType(StrEnum):
    """What an expression evaluates to; the values are Prometheus's names, as in messages and `resultType`."""

    SCALAR = "scalar"
    VECTOR = "vector"
    MATRIX = "matrix"
    STRING = "string"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Spans do not take part in comparison: two texts of one expression give equal trees."""

    span: Span = field(default=NOWHERE, compare=False)


# Durations. A duration is an expression of its own, resolved to milliseconds when start, end and step of the query are known.


@dataclass(frozen=True, slots=True, kw_only=True)
class DurationLiteral(Node):
    """`5m`, or a bare number of seconds (`is_number`)."""

    seconds: float
    is_number: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DurationUnary(Node):
    op: str
    operand: "DurationExpr"


@dataclass(frozen=True, slots=True, kw_only=True)
class DurationBinary(Node):
    op: str
    left: "DurationExpr"
    right: "DurationExpr"


@dataclass(frozen=True, slots=True, kw_only=True)
class DurationCall(Node):
    """`step()`, `range()`, `min_of(a, b)`, `max_of(a, b)`."""

    function: str
    args: tuple["DurationExpr", ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DurationParen(Node):
    inner: "DurationExpr"


DurationExpr = DurationLiteral | DurationUnary | DurationBinary | DurationCall | DurationParen


class AtKind(StrEnum):
    TIME = "time"
    START = "start"
    END = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class At(Node):
    """`@ 1609746000.123`, `@ start()`, `@ end()`."""

    kind: AtKind
    time_ms: int = 0


# Expressions.


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberLiteral(Node):
    """`is_duration`: written as `5m`, printed as such again."""

    value: float
    is_duration: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StringLiteral(Node):
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorSelector(Node):
    """`name{matchers} anchored|smoothed offset d @ t`. `matchers` does not repeat `name`; the executor adds the `__name__` matcher."""

    name: str | None
    matchers: tuple[Matcher, ...] = ()
    offset: DurationExpr | None = None
    at: At | None = None
    anchored: bool = False
    smoothed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixSelector(Node):
    """`selector[range]`. offset, @, anchored and smoothed stand in the vector selector."""

    selector: VectorSelector
    range: DurationExpr


@dataclass(frozen=True, slots=True, kw_only=True)
class Subquery(Node):
    """`expr[range:step] offset d @ t`; no step means the server's default evaluation interval."""

    expr: "Expr"
    range: DurationExpr
    step: DurationExpr | None = None
    offset: DurationExpr | None = None
    at: At | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Paren(Node):
    inner: "Expr"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unary(Node):
    """`-e`, `+e`."""

    op: str
    operand: "Expr"


class Card(StrEnum):
    ONE_TO_ONE = "one-to-one"
    MANY_TO_ONE = "many-to-one"
    ONE_TO_MANY = "one-to-many"
    MANY_TO_MANY = "many-to-many"


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """How the sides of a vector operation meet: `on(labels)` or `ignoring(labels)`, `group_left/right(include)`, `fill*` values."""

    card: Card = Card.ONE_TO_ONE
    on: bool = False
    labels: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    fill_left: float | None = None
    fill_right: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary(Node):
    """`matching` is set exactly when both sides are vectors."""

    op: str
    left: "Expr"
    right: "Expr"
    bool_modifier: bool = False
    matching: Matching | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Node):
    function: str
    args: tuple["Expr", ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate(Node):
    """`op by|without (grouping) (param, expr)`; op in lower case."""

    op: str
    expr: "Expr"
    param: "Expr | None" = None
    grouping: tuple[str, ...] = ()
    without: bool = False


Expr = NumberLiteral | StringLiteral | VectorSelector | MatrixSelector | Subquery | Paren | Unary | Binary | Call | Aggregate
