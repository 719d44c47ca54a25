"""Selectors that rows of a rollup tier answer, laid out for the steps."""

from collections.abc import Callable

import numpy as np

from promlike.model.blocks import Float64, Int64, StepBlock, StepGrid
from promlike.model.durations import format_duration
from promlike.model.frame import LabelFrame
from promlike.model.tiers import RESOLUTION_NAMES, Tier, TierRows, ceil_ms
from promlike.promql import ast
from promlike.promql.execution import Execution
from promlike.promql.kernels.select import count_windows
from promlike.promql.kernels.tiers import latest_row
from promlike.promql.printer import format_expr
from promlike.promql.vector import TierValue

Column = Callable[[TierRows], Float64]


def value_of_last(rows: TierRows) -> Float64:
    return rows.lasts


def time_of_last(rows: TierRows) -> Float64:
    """In seconds."""
    seconds: Float64 = rows.last_ms / 1000.0
    return seconds


def end_of_bucket(rows: TierRows) -> Float64:
    """In milliseconds."""
    return rows.ends_ms.astype(np.float64)


def unknown_start(rows: TierRows) -> Float64:
    """Rows do not tell when a counter started: 0."""
    return np.zeros(rows.count)


def latest_of_tier(run: Execution, node: ast.VectorSelector, tier: Tier, column: Column, grid: StepGrid) -> StepBlock:
    """Of the newest row of each step what `column` makes of it, `float64[B]`, if its last sample is within lookback and not gone stale."""
    ends = run.timing.ends_ms(node, grid)
    _tell(run, node, tier, ends)
    return _latest(run, tier, column, ends)


def _latest(run: Execution, tier: Tier, column: Column, ends: Int64) -> StepBlock:
    values, present = run.allocate(tier.series, len(ends))
    whole, lookback = _floor(ends, tier), run.timing.lookback_ms

    def work(low: int, high: int) -> None:
        for start in range(low, high, tier.portion):
            end = min(start + tier.portion, high)
            block = tier.part(start, end)
            rows, out = block.rows, (values[start:end], present[start:end])
            latest_row(rows.ends_ms, rows.last_ms, rows.stale, column(rows), block.offsets, whole, lookback, 0, end - start, *out)

    run.map_rows(work, tier.series, values.size + tier.count)
    return StepBlock(values=values, present=present)


def tier_selector(run: Execution, node: ast.MatrixSelector, labels: LabelFrame, tier: Tier, grid: StepGrid) -> TierValue:
    """The windows of a range selector, moved back and widened to whole buckets."""
    ends = run.timing.ends_ms(node.selector, grid)
    asked = run.timing.length_ms(node.range)
    width = ceil_ms(asked, tier.resolution_ms)
    _tell(run, node, tier, ends, widened_ms=width if width != asked else 0)
    return TierValue(labels=labels, tier=tier, ends_ms=_floor(ends, tier), range_ms=width, asked_ms=asked)


def tier_instants(run: Execution, node: ast.VectorSelector, tier: Tier, grid: StepGrid) -> Int64:
    """int64[2,T]: how many rows an instant selector picks at each step, and how many of them for the first time."""
    ends = _floor(run.timing.ends_ms(node, grid), tier)
    picked = _latest(run, tier, end_of_bucket, ends)
    fresh = picked.present.copy()
    fresh[:, 1:] &= picked.values[:, 1:] > ends[:-1]
    return np.stack([np.count_nonzero(picked.present, axis=0), np.count_nonzero(fresh, axis=0)])


def tier_windows(run: Execution, node: ast.MatrixSelector, tier: Tier, grid: StepGrid) -> Int64:
    """int64[2,T]: how many rows a range selector has in the window of each step, and how many of them were in none before."""
    counts = np.zeros((2, grid.count), np.int64)
    ends = _floor(run.timing.ends_ms(node.selector, grid), tier)
    width = ceil_ms(run.timing.length_ms(node.range), tier.resolution_ms)
    for start in range(0, tier.series, tier.portion):
        filled = tier.part(start, min(start + tier.portion, tier.series)).filled()
        count_windows(filled.rows.ends_ms, filled.offsets, ends, width, counts)
    return counts


def _floor(ends: Int64, tier: Tier) -> Int64:
    """int64[T]: the newest bucket that is over at each time."""
    floored: Int64 = ends // tier.resolution_ms * tier.resolution_ms
    return floored


def _tell(run: Execution, node: ast.VectorSelector | ast.MatrixSelector, tier: Tier, ends: Int64, *, widened_ms: int = 0) -> None:
    """Say in an info which tier answers a selector at `ends int64[T]`, and how its windows had to be changed for that."""
    name = RESOLUTION_NAMES[tier.resolution_ms]
    moved = ends % tier.resolution_ms != 0
    changes = [f"moved back by less than {name}"] if moved.any() else []
    if widened_ms:
        changes.append(f"widened to {format_duration(widened_ms)}")
    how = f", {'times' if isinstance(node, ast.VectorSelector) else 'windows'} {' and '.join(changes)}" if changes else ""
    # Each step would have said the same, unless only some of their windows are moved.
    steps = np.ones(len(ends), np.bool_) if moved.all() or not moved.any() else None
    run.annotations.info(f"read from the {name} rollup{how}: {format_expr(node)}", node.span, steps=steps)
