"""What can be said of the parts of a tree without evaluating them: which are equal, which give the same at every step, and for which
ranges the rows of a rollup would do.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import fields

from promlike.model.tiers import NO_COLUMNS, TierColumn
from promlike.promql import ast
from promlike.promql.functions import FUNCTIONS

READ_THE_TIME = frozenset("time timestamp predict_linear minute hour day_of_week day_of_month day_of_year days_in_month month year".split())
"""Functions whose result depends on the evaluation time even when their arguments do not."""

EXPRESSIONS = (
    ast.NumberLiteral,
    ast.StringLiteral,
    ast.VectorSelector,
    ast.MatrixSelector,
    ast.Subquery,
    ast.Paren,
    ast.Unary,
    ast.Binary,
    ast.Call,
    ast.Aggregate,
)


def strip_parens(expr: ast.Expr) -> ast.Expr:
    while isinstance(expr, ast.Paren):
        expr = expr.inner
    return expr


class Shape:
    """Numbers the nodes of a tree so that equal subtrees have one number, and knows which subtrees are step-invariant.

    A range that its function can have rolled up is not equal to one of which the samples are needed.
    """

    __slots__ = ("_columns", "_ids", "_invariant", "_numbers", "_uses")

    def __init__(self, root: ast.Expr) -> None:
        self._ids: dict[tuple[object, ...], int] = {}
        self._numbers: dict[int, int] = {}
        self._invariant: dict[int, bool] = {}
        self._uses: Counter[int] = Counter()
        self._columns = {id(selector): columns for selector, columns in rolled_up(root)}
        self._visit(root)

    def number(self, expr: ast.Expr) -> int:
        """The same for equal subtrees, wherever they stand."""
        return self._numbers[id(expr)]

    def is_repeated(self, expr: ast.Expr) -> bool:
        return self._uses[self._numbers[id(expr)]] > 1

    def is_invariant(self, expr: ast.Expr) -> bool:
        """Does the expression give the same at every step, as under `@`?"""
        return self._invariant[id(expr)]

    def columns(self, matrix: ast.MatrixSelector) -> TierColumn:
        """What the function around a range needs of a rollup; nothing when it needs the samples themselves."""
        return self._columns.get(id(matrix), NO_COLUMNS)

    def _visit(self, expr: ast.Expr) -> int:
        key: list[object] = [type(expr), self._columns.get(id(expr), NO_COLUMNS)]
        steady = True
        for field in fields(expr):
            if field.name == "span":
                continue
            value = getattr(expr, field.name)
            if isinstance(value, EXPRESSIONS):
                key.append(self._visit(value))
                steady &= self._invariant[id(value)]
            elif isinstance(expr, ast.Call) and field.name == "args":
                key.append(tuple(self._visit(arg) for arg in expr.args))
                steady &= all(self._invariant[id(arg)] for arg in expr.args)
            else:
                key.append(value)
        number = self._ids.setdefault(tuple(key), len(self._ids))
        self._numbers[id(expr)] = number
        self._invariant[id(expr)] = _is_invariant(expr, steady)
        self._uses[number] += 1
        return number


def _is_invariant(expr: ast.Expr, steady: bool) -> bool:
    """`steady`: are all parts invariant?"""
    match expr:
        case ast.VectorSelector() | ast.Subquery():
            return expr.at is not None
        case ast.Call():
            return steady and expr.function not in READ_THE_TIME
        case _:
            return steady


def children(expr: ast.Expr) -> list[ast.Expr]:
    """The expressions directly inside one, in the order they are written."""
    match expr:
        case ast.Paren():
            return [expr.inner]
        case ast.Unary():
            return [expr.operand]
        case ast.Binary():
            return [expr.left, expr.right]
        case ast.Call():
            return list(expr.args)
        case ast.Aggregate():
            return [expr.expr] if expr.param is None else [expr.expr, expr.param]
        case ast.Subquery():
            return [expr.expr]
        case ast.MatrixSelector():
            return [expr.selector]
        case _:
            return []


def rolled_up(expr: ast.Expr) -> Iterator[tuple[ast.MatrixSelector, TierColumn]]:
    """The ranges in an expression whose functions can have them rolled up, with the columns that those need."""
    over_tiers = FUNCTIONS[expr.function].over_tiers if isinstance(expr, ast.Call) else None
    for child in children(expr):
        inner = strip_parens(child)
        if over_tiers is not None and isinstance(inner, ast.MatrixSelector):
            yield inner, over_tiers.columns
        yield from rolled_up(inner)


def has_subquery(expr: ast.Expr) -> bool:
    """Is there a subquery anywhere in it?"""
    return isinstance(expr, ast.Subquery) or any(has_subquery(child) for child in children(expr))


def first_selector_path(expr: ast.Expr) -> list[ast.VectorSelector | ast.Subquery]:
    """The subqueries around the first selector of an expression, outermost first, and the selector; nothing when there is none."""
    if isinstance(expr, ast.VectorSelector):
        return [expr]
    for child in children(expr):
        inner = first_selector_path(child)
        if inner:
            return [expr, *inner] if isinstance(expr, ast.Subquery) else inner
    return []
