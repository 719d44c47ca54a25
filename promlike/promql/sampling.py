"""How many samples each step of a query looks at, for `stats=all`."""

import numpy as np

from promlike.model.blocks import Int64, StepGrid
from promlike.promql import ast
from promlike.promql.execution import Execution
from promlike.promql.kernels.select import count_windows
from promlike.promql.selectors import latest, without_stale
from promlike.promql.shape import children
from promlike.promql.tier_selectors import tier_instants, tier_windows


def count_samples(run: Execution, expr: ast.Expr, grid: StepGrid) -> tuple[int, ...]:
    """One count a step: what instant selectors pick and range selectors have in their windows; a subquery counts for all its steps.

    Where a rollup answers, its rows are counted.
    """
    counts = _count(run, expr, grid)
    return tuple(counts.tolist())


def _count(run: Execution, expr: ast.Expr, grid: StepGrid) -> Int64:
    """int64[T]"""
    match expr:
        case ast.VectorSelector():
            series = run.fetched[run.timing.request(expr, None, grid)]
            if series.tier is not None:
                return tier_instants(run, expr, series.tier, grid)
            samples = series.samples.whole()
            picked = latest(run, samples, samples.values, run.timing.ends_ms(expr, grid))
            found: Int64 = np.count_nonzero(picked.present, axis=0)
            return found
        case ast.MatrixSelector():
            width = run.timing.length_ms(expr.range)
            series = run.fetched[run.timing.request(expr.selector, width, grid, run.shape.columns(expr))]
            if series.tier is not None:
                return tier_windows(run, expr, series.tier, grid)
            samples = without_stale(series.samples.whole())
            counts = np.zeros(grid.count, np.int64)
            count_windows(samples.ts_ms, samples.offsets, run.timing.ends_ms(expr.selector, grid), width, counts)
            return counts
        case ast.Subquery():
            return _subquery(run, expr, grid)
        case ast.Call(function="info"):
            return _count(run, expr.args[0], grid)
        case _:
            counts = np.zeros(grid.count, np.int64)
            for child in children(expr):
                counts += _count(run, child, grid)
            return counts


def _subquery(run: Execution, node: ast.Subquery, grid: StepGrid) -> Int64:
    """int64[T]: what the inner steps in each window looked at."""
    steps = run.timing.subquery_steps(node, grid)
    if not steps.count:
        return np.zeros(grid.count, np.int64)
    before = np.concatenate((np.zeros(1, np.int64), np.cumsum(_count(run, node.expr, steps))))
    ends, times = run.timing.ends_ms(node, grid), steps.times_ms()
    low, high = (np.searchsorted(times, edge, side="right") for edge in (ends - run.timing.length_ms(node.range), ends))
    counts: Int64 = before[high] - before[low]
    return counts
