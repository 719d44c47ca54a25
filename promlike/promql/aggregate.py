"""Aggregations: how series are grouped, and the operators that give one series a group. Axis letters: S series, T steps, G groups."""

from collections.abc import Callable

import numpy as np

from promlike.model.blocks import Bool, Float64, Int32, StepBlock, StepGrid
from promlike.promql import ast
from promlike.promql.budget import CELL_BYTES
from promlike.promql.calls.number_text import format_g
from promlike.promql.count_values import count_values
from promlike.promql.execution import Execution
from promlike.promql.grouping import Grouping
from promlike.promql.kernels import aggregate as kernels
from promlike.promql.names import label_order
from promlike.promql.pick import limit_ratio, pick
from promlike.promql.steady import is_ordered
from promlike.promql.vector import VectorValue


def aggregation(run: Execution, node: ast.Aggregate, grid: StepGrid) -> VectorValue:
    if node.op == "count_values":
        label = run.string(_param(node), grid)
        return count_values(run, label, node, run.vector(node.expr, grid))
    param = None if node.param is None else run.scalar(node.param, grid)
    if param is not None and node.op != "quantile":
        operator = limit_ratio if node.op == "limit_ratio" else pick
        return operator(run, node, param, lambda: run.vector(node.expr, grid))
    vector = _in_order(run, node, run.vector(node.expr, grid))
    grouping = Grouping.of(vector.labels, node)
    if param is not None:
        _warn_of_quantiles(run, _param(node), param)
        block = _quantile(run, vector.block, grouping, param)
    else:
        block = _by_row(run, _ROW_OPERATORS[node.op], vector.block, grouping)
    marks = None if vector.drop_name is None else vector.drop_name[grouping.first]
    return VectorValue(labels=grouping.labels, block=block, drop_name=marks)


def _in_order(run: Execution, node: ast.Aggregate, vector: VectorValue) -> VectorValue:
    """The rows, for a range query, in an order that does not depend on the range: sums round by it, and parts of a range are to agree.

    An instant query keeps Prometheus's order, which is that of the first occurrence.
    """
    if not run.timing.window.step_ms or len(vector) < 2 or is_ordered(node.expr):
        return vector
    order = label_order(vector.labels)
    if (np.diff(order) > 0).all():
        return vector
    run.budget.hold(vector.block.values.size, vector.block.values.size * CELL_BYTES)
    return vector.take(order)


def _param(node: ast.Aggregate) -> ast.Expr:
    if node.param is None:
        raise TypeError(f"{node.op} without its parameter")
    return node.param


RowOperator = Callable[[StepBlock, Int32, int, int, Float64, Bool], None]
"""Aggregates the rows of each group (int32[S]) at the steps low..high-1 into float64[G,T], bool[G,T]."""


def _sum(average: bool) -> RowOperator:
    def run(block: StepBlock, groups: Int32, low: int, high: int, out: Float64, present: Bool) -> None:
        kernels.aggregate_sum(block.values, block.present, groups, average, low, high, out, present)

    return run


def _extreme(op: int) -> RowOperator:
    def run(block: StepBlock, groups: Int32, low: int, high: int, out: Float64, present: Bool) -> None:
        kernels.aggregate_extreme(op, block.values, block.present, groups, low, high, out, present)

    return run


def _variance(root: bool) -> RowOperator:
    def run(block: StepBlock, groups: Int32, low: int, high: int, out: Float64, present: Bool) -> None:
        kernels.aggregate_variance(block.values, block.present, groups, root, low, high, out, present)

    return run


_ROW_OPERATORS: dict[str, RowOperator] = {
    "sum": _sum(False),
    "avg": _sum(True),
    "min": _extreme(kernels.MIN),
    "max": _extreme(kernels.MAX),
    "count": _extreme(kernels.COUNT),
    "group": _extreme(kernels.GROUP),
    "stddev": _variance(True),
    "stdvar": _variance(False),
}


def _by_row(run: Execution, operator: RowOperator, block: StepBlock, grouping: Grouping) -> StepBlock:
    steps = block.values.shape[1]
    values, present = run.allocate(grouping.count, steps)
    present[:] = False

    def part(low: int, high: int) -> None:
        operator(block, grouping.groups, low, high, values, present)

    run.map_rows(part, steps, block.values.size)
    return StepBlock(values=values, present=present)


def _quantile(run: Execution, block: StepBlock, grouping: Grouping, quantiles: Float64) -> StepBlock:
    values, present = run.allocate(grouping.count, block.values.shape[1])
    order, starts = grouping.members()
    chosen = np.ascontiguousarray(quantiles)

    def part(low: int, high: int) -> None:
        kernels.aggregate_quantile(block.values, block.present, order, starts, chosen, low, high, values, present)

    run.map_rows(part, len(chosen), block.values.size)
    return StepBlock(values=values, present=present)


def _warn_of_quantiles(run: Execution, param: ast.Expr, quantiles: Float64) -> None:
    """At most one warning a kind: NaN, the greatest above 1, the smallest below 0."""
    numbers = quantiles[~np.isnan(quantiles)]
    wrong = [np.nan] if len(numbers) < len(quantiles) else []
    wrong += [float(numbers.max())] if (numbers > 1).any() else []
    wrong += [float(numbers.min())] if (numbers < 0).any() else []
    for value in wrong:
        # The greatest and the smallest of all steps are those of each step only where all are the same.
        steps = np.ones(len(quantiles), np.bool_) if run.shape.is_invariant(param) else None
        run.annotations.warn(f"quantile value should be between 0 and 1, got {format_g(value)}", param.span, steps)
