"""Trees to text: canonical on one line, as Prometheus prints expressions, and pretty over several, as its formatter does."""

import re

from promlike.model.labels import quote
from promlike.model.matchers import Matcher
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
    VectorSelector,
)
from promlike.promql.literals import format_number, format_seconds

MAX_LINE = 100
_INDENT = "  "
_PLAIN_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)


def format_expr(expr: Expr) -> str:
    """The canonical text on one line. Parsing it gives an equal tree."""
    return _Printer().text(expr)


def pretty(expr: Expr) -> str:
    """The canonical text with every part that is longer than MAX_LINE characters split and indented."""
    return _Printer().pretty(expr, 0)


class _Printer:
    """Keeps the text of each node for the time of one call, since `pretty` asks for it at every level."""

    def __init__(self) -> None:
        self._texts: dict[int, str] = {}

    def text(self, expr: Expr) -> str:
        known = self._texts.get(id(expr))
        if known is None:
            known = self._texts[id(expr)] = self._text(expr)
        return known

    def _text(self, expr: Expr) -> str:
        match expr:
            case NumberLiteral():
                return format_seconds(expr.value) if expr.is_duration else format_number(expr.value)
            case StringLiteral(value=value):
                return quote(value)
            case VectorSelector():
                return _selector(expr) + _modifiers(expr)
            case MatrixSelector():
                return f"{_selector(expr.selector)}[{format_duration_expr(expr.range)}]{_modifiers(expr.selector)}"
            case Subquery():
                return self.text(expr.expr) + _subquery_range(expr)
            case Paren(inner=inner):
                return f"({self.text(inner)})"
            case Unary(op=op, operand=operand):
                return op + self.text(operand)
            case Binary():
                return f"{self.left_side(expr)} {_operator(expr)} {self.text(expr.right)}"
            case Call(function=function, args=args):
                return f"{function}({', '.join(self.text(arg) for arg in args)})"
            case Aggregate():
                args = (expr.expr,) if expr.param is None else (expr.param, expr.expr)
                return f"{_aggregation(expr)}({', '.join(self.text(arg) for arg in args)})"

    def left_side(self, binary: Binary) -> str:
        text = self.text(binary.left)
        # The sign of +Inf would be taken for an operation on the power.
        return text.removeprefix("+") if binary.op == "^" and isinstance(binary.left, NumberLiteral) else text

    def pretty(self, expr: Expr, level: int) -> str:
        """The text, its first line indented too."""
        indent, text = _INDENT * level, self.text(expr)
        if len(text) <= MAX_LINE:
            return indent + text
        match expr:
            case Subquery():
                return self.pretty(expr.expr, level) + _subquery_range(expr)
            case Paren(inner=inner):
                return f"{indent}(\n{self.pretty(inner, level + 1)}\n{indent})"
            case Unary(op=op, operand=operand):
                return indent + op + self.pretty(operand, level).lstrip()
            case Binary():
                return f"{self.pretty(expr.left, level + 1)}\n{indent}{_operator(expr)}\n{self.pretty(expr.right, level + 1)}"
            case Call(function=function, args=args) if args:
                return f"{indent}{function}({self.arguments(args, level)})"
            case Aggregate():
                args = (expr.expr,) if expr.param is None else (expr.param, expr.expr)
                return f"{indent}{_aggregation(expr)}({self.arguments(args, level)})"
            case _:
                return indent + text

    def arguments(self, args: tuple[Expr, ...], level: int) -> str:
        return "\n" + ",\n".join(self.pretty(arg, level + 1) for arg in args) + "\n" + _INDENT * level


def format_duration_expr(duration: DurationExpr) -> str:
    """The canonical text of a duration expression."""
    match duration:
        case DurationLiteral(seconds=seconds, is_number=is_number):
            return format_number(seconds) if is_number else format_seconds(seconds)
        case DurationParen(inner=inner):
            return f"({format_duration_expr(inner)})"
        case DurationUnary(op=op, operand=operand):
            return op + format_duration_expr(operand)
        case DurationCall(function=function, args=args):
            return f"{function}({', '.join(map(format_duration_expr, args))})"
        case DurationBinary(op=op, left=left, right=right):
            return f"{format_duration_expr(left)} {op} {format_duration_expr(right)}"


def format_matcher(matcher: Matcher) -> str:
    """`name="value"`; the name in quotes when it is not a classic one."""
    return f"{format_label(matcher.name)}{matcher.op}{quote(matcher.value)}"


def _selector(selector: VectorSelector) -> str:
    """Name and matchers, without what stands behind them."""
    if not selector.matchers:
        return selector.name or "{}"
    # In one order, as Prometheus prints them.
    return f"{selector.name or ''}{{{','.join(sorted(map(format_matcher, selector.matchers)))}}}"


def _modifiers(selector: VectorSelector) -> str:
    extended = " anchored" if selector.anchored else " smoothed" if selector.smoothed else ""
    return extended + _at_and_offset(selector.at, selector.offset)


def _subquery_range(subquery: Subquery) -> str:
    step = "" if subquery.step is None else format_duration_expr(subquery.step)
    return f"[{format_duration_expr(subquery.range)}:{step}]{_at_and_offset(subquery.at, subquery.offset)}"


def _at_and_offset(at: At | None, offset: DurationExpr | None) -> str:
    return _at(at) + ("" if offset is None else f" offset {format_duration_expr(offset)}")


def _at(at: At | None) -> str:
    if at is None:
        return ""
    if at.kind is not AtKind.TIME:
        return f" @ {at.kind}()"
    seconds, ms = divmod(abs(at.time_ms), 1000)
    return f" @ {'-' if at.time_ms < 0 else ''}{seconds}.{ms:03d}"


def _operator(binary: Binary) -> str:
    """The operator with its modifiers."""
    bool_modifier = " bool" if binary.bool_modifier else ""
    return binary.op + bool_modifier + (_matching(binary.matching) if binary.matching is not None else "")


def _matching(matching: Matching) -> str:
    text = ""
    grouped = matching.card in (Card.MANY_TO_ONE, Card.ONE_TO_MANY)
    if matching.labels or matching.on or grouped:
        text += f" {'on' if matching.on else 'ignoring'} ({_labels(matching.labels)})"
    if grouped:
        text += f" group_{'left' if matching.card is Card.MANY_TO_ONE else 'right'} ({_labels(matching.include)})"
    left, right = matching.fill_left, matching.fill_right
    if left is not None and right is not None and format_number(left) == format_number(right):
        return f"{text} fill ({format_number(left)})"
    if left is not None:
        text += f" fill_left ({format_number(left)})"
    if right is not None:
        text += f" fill_right ({format_number(right)})"
    return text


def _aggregation(aggregate: Aggregate) -> str:
    if aggregate.without:
        return f"{aggregate.op} without ({_labels(aggregate.grouping)}) "
    return f"{aggregate.op} by ({_labels(aggregate.grouping)}) " if aggregate.grouping else aggregate.op


def _labels(names: tuple[str, ...]) -> str:
    """A list between parentheses, where the words `inf` and `nan` are numbers (between braces they are labels)."""
    return ", ".join(quote(name) if name.lower() in {"inf", "nan"} else format_label(name) for name in names)


def format_label(name: str) -> str:
    """In quotes when it is not a classic one."""
    return name if _PLAIN_LABEL.fullmatch(name) else quote(name)
