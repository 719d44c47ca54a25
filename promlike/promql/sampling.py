"""How many samples each step of a query looks at, and how many of them it is the first to read, for `stats`."""

import numpy as np

from promlike.model.blocks import Int64, StepGrid
from promlike.promql import ast
from promlike.promql.execution import Execution
from promlike.promql.kernels.select import count_windows
from promlike.promql.selectors import latest, without_stale
from promlike.promql.shape import children
from promlike.promql.tier_selectors import tier_instants, tier_windows

Counts = Int64
"""int64[2,T]: for each step how many samples it looks at, and how many of them no step before it looked at."""


def count_samples(run: Execution, expr: ast.Expr, grid: StepGrid) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """One count a step, and how many of those samples are read for that step: what instant selectors pick and range selectors have in
    their windows; a subquery counts for all its steps. Each selector reads for itself.

    Where a rollup answers, its rows are counted.
    """
    looked_at, read = _count(run, expr, grid).tolist()
    return tuple(looked_at), tuple(read)


def _count(run: Execution, expr: ast.Expr, grid: StepGrid) -> Counts:
    match expr:
        case ast.VectorSelector():
            return _instants(run, expr, grid)
        case ast.MatrixSelector():
            return _windows(run, expr, grid)
        case ast.Subquery():
            return _subquery(run, expr, grid)
        case ast.Call(function="info"):
            return _count(run, expr.args[0], grid)
        case _:
            counts = np.zeros((2, grid.count), np.int64)
            for child in children(expr):
                counts += _count(run, child, grid)
            return counts


def _instants(run: Execution, node: ast.VectorSelector, grid: StepGrid) -> Counts:
    """A sample is read for the first step that picks it: the one whose predecessor was before it."""
    series = run.fetched[run.timing.request(node, None, grid)]
    if series.tier is not None:
        return tier_instants(run, node, series.tier, grid)
    samples, ends = series.samples.whole(), run.timing.ends_ms(node, grid)
    picked = latest(run, samples, samples.ts_ms.astype(np.float64), ends)
    fresh = picked.present.copy()
    fresh[:, 1:] &= picked.values[:, 1:] > ends[:-1]
    return np.stack([np.count_nonzero(picked.present, axis=0), np.count_nonzero(fresh, axis=0)])


def _windows(run: Execution, node: ast.MatrixSelector, grid: StepGrid) -> Counts:
    width = run.timing.length_ms(node.range)
    series = run.fetched[run.timing.request(node.selector, width, grid, run.shape.columns(node))]
    if series.tier is not None:
        return tier_windows(run, node, series.tier, grid)
    samples = without_stale(series.samples.whole())
    counts = np.zeros((2, grid.count), np.int64)
    count_windows(samples.ts_ms, samples.offsets, run.timing.ends_ms(node.selector, grid), width, counts)
    return counts


def _subquery(run: Execution, node: ast.Subquery, grid: StepGrid) -> Counts:
    """What the inner steps in each window looked at; read is what those of them read that are in no window before it."""
    steps = run.timing.subquery_steps(node, grid)
    if not steps.count:
        return np.zeros((2, grid.count), np.int64)
    inner = _count(run, node.expr, steps)
    before = np.concatenate((np.zeros((2, 1), np.int64), np.cumsum(inner, axis=1)), axis=1)
    ends, times = run.timing.ends_ms(node, grid), steps.times_ms()
    starts = ends - run.timing.length_ms(node.range)
    fresh = starts.copy()
    fresh[1:] = np.maximum(starts[1:], ends[:-1])
    low, unread, high = (np.searchsorted(times, edge, side="right") for edge in (starts, fresh, ends))
    return np.stack([before[0, high] - before[0, low], before[1, high] - before[1, unread]])
