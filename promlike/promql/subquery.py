"""Subqueries: an expression evaluated at its own steps, whose results are the samples of a range vector."""

import numpy as np

from promlike.model.blocks import Int64, SampleBlock, StepBlock, StepGrid
from promlike.promql import ast
from promlike.promql.annotations import Scope
from promlike.promql.budget import CELL_BYTES, SAMPLE_BYTES
from promlike.promql.execution import Execution
from promlike.promql.kernels.select import steps_to_samples
from promlike.promql.vector import RangeValue, ScalarValue, VectorValue


def subquery(run: Execution, node: ast.Subquery, grid: StepGrid) -> RangeValue:
    steps = run.timing.subquery_steps(node, grid)
    run.budget.hold(steps.count, steps.count * CELL_BYTES)
    with run.annotations.beneath(Scope.STILL if run.shape.is_invariant(node) else Scope.OTHER):
        inner = run.evaluate(node.expr, steps) if steps.count else VectorValue.empty(run.symbols, 0)
    if isinstance(inner, ScalarValue):
        inner = VectorValue.single(run.symbols, inner.values)
    if not isinstance(inner, VectorValue):
        raise TypeError(f"a subquery over {type(inner).__name__}")
    return RangeValue(
        labels=inner.labels,
        samples=samples_of(run, inner.block, steps.times_ms()),
        grid=grid,
        ends_ms=run.timing.ends_ms(node, grid),
        range_ms=run.timing.length_ms(node.range),
        lookback_ms=run.timing.lookback_ms,
        drop_name=inner.drop_name,
    )


def samples_of(run: Execution, block: StepBlock, times_ms: Int64) -> SampleBlock:
    """What is present in a block as samples at `times_ms int64[T]`, row for row."""
    counts = np.count_nonzero(block.present, axis=1)
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)))
    total = int(offsets[-1])
    run.budget.hold(total, total * SAMPLE_BYTES)
    if total == block.present.size:
        return SampleBlock(ts_ms=np.tile(times_ms, len(counts)), values=block.values.reshape(-1), offsets=offsets)
    ts_ms, values = np.empty(total, np.int64), np.empty(total)

    def part(low: int, high: int) -> None:
        steps_to_samples(block.values, block.present, times_ms, offsets, low, high, ts_ms, values)

    run.map_rows(part, len(counts), block.present.size)
    return SampleBlock(ts_ms=ts_ms, values=values, offsets=offsets)
