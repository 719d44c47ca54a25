"""From the kind of a node to what computes it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from promlike.model.blocks import StepGrid
from promlike.promql import ast
from promlike.promql.aggregate import aggregation
from promlike.promql.binary import binary, unary
from promlike.promql.budget import CELL_BYTES
from promlike.promql.calls.table import EVALUATORS
from promlike.promql.check import value_type
from promlike.promql.context import CallContext
from promlike.promql.execution import Execution
from promlike.promql.functions import FUNCTIONS
from promlike.promql.info import info
from promlike.promql.names import drop_name, refuse_same_without_name, unique
from promlike.promql.selectors import matrix_selector, sample_times, start_times, vector_selector
from promlike.promql.shape import strip_parens
from promlike.promql.subquery import subquery
from promlike.promql.vector import RangeValue, ScalarValue, StringValue, TierValue, Value, VectorValue


def dispatch(run: Execution, expr: ast.Expr, grid: StepGrid) -> Value:
    """Compute one node at the times of `grid`."""
    return _NODES[type(expr)](run, expr, grid)


def number(run: Execution, node: ast.NumberLiteral, grid: StepGrid) -> ScalarValue:
    return ScalarValue(values=np.full(grid.count, node.value))


def string(run: Execution, node: ast.StringLiteral, grid: StepGrid) -> StringValue:
    return StringValue(value=node.value)


def call(run: Execution, node: ast.Call, grid: StepGrid) -> Value:
    value = _evaluate_call(run, node, grid)
    if not isinstance(value, VectorValue) or not FUNCTIONS[node.function].drops_name:
        return value
    delayed = run.features.promql_delayed_name_removal
    if not delayed and any(value_type(arg) is ast.ValueType.MATRIX for arg in node.args):
        refuse_same_without_name(value)
    return drop_name(value, delayed=delayed)


def _evaluate_call(run: Execution, node: ast.Call, grid: StepGrid) -> Value:
    of_selector = _OF_SELECTORS.get(node.function)
    if of_selector is not None:
        selector = strip_parens(node.args[0])
        if isinstance(selector, ast.VectorSelector) and not selector.smoothed:
            return of_selector(run, selector, grid)
    of_tree = _OF_TREES.get(node.function)
    if of_tree is not None:
        return of_tree(run, node, grid)
    context = CallContext(
        node=node,
        grid=grid,
        window=run.timing.window,
        features=run.features,
        lookback_ms=run.timing.lookback_ms,
        annotations=run.annotations,
        symbols=run.symbols,
        chunks=run.chunks,
        deadline=run.deadline,
    )
    args = [run.evaluate(arg, grid) for arg in node.args]
    # What the evaluator will allocate has as many rows as its largest argument.
    series = [arg for arg in args if isinstance(arg, VectorValue | RangeValue | TierValue)]
    rows = max(map(len, series), default=1)
    run.budget.hold(rows * grid.count, rows * grid.count * CELL_BYTES)
    over_tiers = FUNCTIONS[node.function].over_tiers if any(isinstance(arg, TierValue) for arg in series) else None
    value = EVALUATORS[node.function](context, args) if over_tiers is None else over_tiers.evaluate(context, args)
    if isinstance(value, VectorValue) and all(value.labels is not arg.labels for arg in series):
        return unique(value)  # labels were made, so some may have become the same
    return value


def unknown_start_times(run: Execution, node: ast.Call, grid: StepGrid) -> VectorValue:
    """`start_timestamp` of what is no selector: 0, because computed samples have no start."""
    vector = run.vector(node.args[0], grid)
    return vector.with_values(np.zeros(vector.block.values.shape))


_OF_SELECTORS: dict[str, Callable[[Execution, ast.VectorSelector, StepGrid], VectorValue]] = {
    "timestamp": sample_times,
    "start_timestamp": start_times,
}
"""Functions that look at the picked samples themselves when their argument is a selector."""

_OF_TREES: dict[str, Callable[[Execution, ast.Call, StepGrid], VectorValue]] = {"info": info, "start_timestamp": unknown_start_times}
"""Functions that need the execution itself, not only the values of their arguments."""

_NODES: dict[type[Any], Callable[[Execution, Any, StepGrid], Value]] = {
    ast.NumberLiteral: number,
    ast.StringLiteral: string,
    ast.VectorSelector: vector_selector,
    ast.MatrixSelector: matrix_selector,
    ast.Subquery: subquery,
    ast.Unary: unary,
    ast.Binary: binary,
    ast.Call: call,
    ast.Aggregate: aggregation,
}
