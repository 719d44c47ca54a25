"""The aggregation count_values. Axis letters: S series, T steps, N present cells, V distinct values, G results."""

from decimal import Decimal

import numpy as np

from promlike.errors import QueryError
from promlike.model.blocks import Float64, Int32, StepBlock
from promlike.model.frame import group_rows
from promlike.model.labels import METRIC_NAME, quote
from promlike.promql import ast
from promlike.promql.execution import Execution
from promlike.promql.grouping import Grouping
from promlike.promql.vector import VectorValue


def count_values(run: Execution, label: str, node: ast.Aggregate, vector: VectorValue) -> VectorValue:
    """How many series of each group have each value, the value as text in the label."""
    if not label or any(0xD800 <= ord(char) < 0xE000 for char in label):
        raise QueryError(f"invalid label name {quote(label)}")
    grouping = Grouping.of(vector.labels, node)
    rows, steps = np.nonzero(vector.block.present)
    codes = _value_codes(run, vector.block.values[rows, steps])
    keys = np.ascontiguousarray(np.column_stack((grouping.groups[rows], codes)).astype(np.int32))
    cells, first = group_rows(keys)
    group = keys[first, 0]
    labels = grouping.labels.take(group)
    if not (node.without and label in (METRIC_NAME, *node.grouping)):
        labels = labels.with_column(label, np.ascontiguousarray(keys[first, 1]))
    results, first_result = labels.groups()
    width = vector.block.values.shape[1]
    run.budget.hold(len(first_result) * width, len(first_result) * width * 8)
    places = results[cells].astype(np.int64) * width + steps
    counts: Float64 = np.bincount(places, minlength=len(first_result) * width).reshape(len(first_result), width).astype(np.float64)
    marks = None if vector.drop_name is None else vector.drop_name[grouping.first][group][first_result]
    return VectorValue(labels=labels.take(first_result), block=StepBlock(values=counts, present=counts > 0), drop_name=marks)


def _value_codes(run: Execution, values: Float64) -> Int32:
    """int32[N]: the symbols of the texts of `values float64[N]`. Each distinct value is printed once."""
    distinct, inverse = np.unique(values.view(np.uint64), return_inverse=True)
    symbols = [run.symbols.intern(format_fixed(value)) for value in distinct.view(np.float64).tolist()]
    return np.array(symbols, np.int32)[inverse]


def format_fixed(value: float) -> str:
    """As Go's strconv.FormatFloat(value, 'f', -1, 64): the shortest digits that read back the same, never an exponent."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    text = f"{Decimal(repr(value)):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
