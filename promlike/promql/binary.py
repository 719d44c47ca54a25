"""Operators between two expressions and in front of one. Axis letters: S series, T steps, P pairs of series."""

import numpy as np

from promlike.model.blocks import Float64, StepBlock, StepGrid
from promlike.promql import ast
from promlike.promql.execution import Execution
from promlike.promql.kernels import match
from promlike.promql.matching import pairwise, vector_matching
from promlike.promql.names import drop_name
from promlike.promql.sets import SET_OPERATIONS
from promlike.promql.vector import ScalarValue, Value, VectorValue

OPERATORS = {
    "+": match.ADD,
    "-": match.SUB,
    "*": match.MUL,
    "/": match.DIV,
    "%": match.MOD,
    "^": match.POW,
    "atan2": match.ATAN2,
    "==": match.EQL,
    "!=": match.NEQ,
    ">": match.GTR,
    "<": match.LSS,
    ">=": match.GTE,
    "<=": match.LTE,
}


def unary(run: Execution, node: ast.Unary, grid: StepGrid) -> Value:
    """A sign in front of a scalar or an instant vector."""
    value = run.evaluate(node.operand, grid)
    if node.op == "+":
        return value
    if isinstance(value, ScalarValue):
        return ScalarValue(values=-value.values)
    if not isinstance(value, VectorValue):
        raise TypeError(f"minus in front of {type(value).__name__}")
    return drop_name(value.with_values(-value.block.values), delayed=run.features.promql_delayed_name_removal)


def binary(run: Execution, node: ast.Binary, grid: StepGrid) -> Value:
    """An operator between scalars and instant vectors; scalars take part as blocks of one row."""
    left, right = run.evaluate(node.left, grid), run.evaluate(node.right, grid)
    if isinstance(left, VectorValue) and isinstance(right, VectorValue):
        operation = SET_OPERATIONS.get(node.op)
        if operation is not None:
            return operation(run, node, left, right)
        return vector_matching(run, node, OPERATORS[node.op], left, right)
    if isinstance(left, ScalarValue) and isinstance(right, ScalarValue):
        mode = match.TRUTH if _is_comparison(node) else match.ARITHMETIC
        first = np.zeros(1, np.int64)
        block = pairwise(run, OPERATORS[node.op], mode, _row(left), first, _row(right), first)
        return ScalarValue(values=block.values[0])
    return _vector_and_scalar(run, node, left, right)


def _vector_and_scalar(run: Execution, node: ast.Binary, left: Value, right: Value) -> VectorValue:
    if isinstance(left, VectorValue) and isinstance(right, ScalarValue):
        vector, sides, mode = left, (left.block, _row(right)), match.FILTER_LEFT
    elif isinstance(left, ScalarValue) and isinstance(right, VectorValue):
        vector, sides, mode = right, (_row(left), right.block), match.FILTER_RIGHT
    else:
        raise TypeError(f"{node.op} between {type(left).__name__} and {type(right).__name__}")
    if not _is_comparison(node):
        mode = match.ARITHMETIC
    elif node.bool_modifier:
        mode = match.TRUTH
    rows, still = np.arange(len(vector), dtype=np.int64), np.zeros(len(vector), np.int64)
    left_rows, right_rows = (rows, still) if vector is left else (still, rows)
    block = pairwise(run, OPERATORS[node.op], mode, sides[0], left_rows, sides[1], right_rows)
    result = VectorValue(labels=vector.labels, block=block, drop_name=vector.drop_name)
    if mode in (match.FILTER_LEFT, match.FILTER_RIGHT):
        return result
    return drop_name(result, delayed=run.features.promql_delayed_name_removal)


def _row(scalar: ScalarValue) -> StepBlock:
    """A scalar as a block of one row."""
    values: Float64 = np.ascontiguousarray(scalar.values).reshape(1, -1)
    return StepBlock(values=values, present=np.ones(values.shape, np.bool_))


def _is_comparison(node: ast.Binary) -> bool:
    return OPERATORS[node.op] >= match.EQL
