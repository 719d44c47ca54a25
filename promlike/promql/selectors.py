"""Selectors: what was fetched, laid out for the steps."""

import numpy as np

from promlike.model.blocks import Float64, Int64, SampleBlock, Samples, StepBlock, StepGrid
from promlike.promql import ast
from promlike.promql.execution import Execution
from promlike.promql.kernels.select import has_stale, select_latest, select_smoothed
from promlike.promql.tier_selectors import latest_of_tier, tier_selector, time_of_last, unknown_start, value_of_last
from promlike.promql.vector import RangeValue, TierValue, VectorValue
from promlike.storage.access import SeriesBlock


def vector_selector(run: Execution, node: ast.VectorSelector, grid: StepGrid) -> VectorValue:
    series = run.fetched[run.timing.request(node, None, grid)]
    if series.tier is not None:
        return VectorValue(labels=series.labels, block=latest_of_tier(run, node, series.tier, value_of_last, grid))
    ends, samples = run.timing.ends_ms(node, grid), series.samples.whole()
    block = smoothed(run, samples, ends) if node.smoothed else latest(run, samples, samples.values, ends)
    return VectorValue(labels=series.labels, block=block)


def sample_times(run: Execution, node: ast.VectorSelector, grid: StepGrid) -> VectorValue:
    """For `timestamp(selector)`: the times, in seconds, of the samples the selector picks."""
    series = run.fetched[run.timing.request(node, None, grid)]
    if series.tier is not None:
        return VectorValue(labels=series.labels, block=latest_of_tier(run, node, series.tier, time_of_last, grid))
    samples = series.samples.whole()
    block = latest(run, samples, samples.ts_ms / 1000.0, run.timing.ends_ms(node, grid))
    return VectorValue(labels=series.labels, block=block)


def start_times(run: Execution, node: ast.VectorSelector, grid: StepGrid) -> VectorValue:
    """For `start_timestamp(selector)`: when the counters of the picked samples started, in seconds; 0 where that is unknown."""
    series = run.fetched[run.timing.request(node, None, grid)]
    if series.tier is not None:
        return VectorValue(labels=series.labels, block=latest_of_tier(run, node, series.tier, unknown_start, grid))
    samples = series.samples.whole()
    column = np.zeros(samples.count) if samples.start_ts_ms is None else samples.start_ts_ms / 1000.0
    return VectorValue(labels=series.labels, block=latest(run, samples, column, run.timing.ends_ms(node, grid)))


def latest(run: Execution, samples: SampleBlock, column: Float64, ends: Int64) -> StepBlock:
    """Of the latest sample within lookback of each time in `ends int64[T]` its entry in `column float64[N]`."""
    values, present = run.allocate(samples.series, len(ends))
    bits = samples.values.view(np.uint64)
    lookback = run.timing.lookback_ms

    def part(low: int, high: int) -> None:
        select_latest(samples.ts_ms, bits, column, samples.offsets, ends, lookback, low, high, values, present)

    run.map_rows(part, samples.series, values.size)
    return StepBlock(values=values, present=present)


def smoothed(run: Execution, samples: SampleBlock, ends: Int64) -> StepBlock:
    """The values at `ends int64[T]` on straight lines between samples."""
    samples = without_stale(samples)
    values, present = run.allocate(samples.series, len(ends))
    lookback = run.timing.lookback_ms

    def part(low: int, high: int) -> None:
        select_smoothed(samples.ts_ms, samples.values, samples.offsets, ends, lookback, low, high, values, present)

    run.map_rows(part, samples.series, values.size)
    return StepBlock(values=values, present=present)


def matrix_selector(run: Execution, node: ast.MatrixSelector, grid: StepGrid) -> RangeValue | TierValue:
    selector = node.selector
    range_ms = run.timing.length_ms(node.range)
    series: SeriesBlock = run.fetched[run.timing.request(selector, range_ms, grid, run.shape.columns(node))]
    if series.tier is not None:
        return tier_selector(run, node, series.labels, series.tier, grid)
    return RangeValue(
        labels=series.labels,
        samples=fresh(series.samples),
        grid=grid,
        ends_ms=run.timing.ends_ms(selector, grid),
        range_ms=range_ms,
        lookback_ms=run.timing.lookback_ms,
        anchored=selector.anchored,
        smoothed=selector.smoothed,
    )


def fresh(samples: Samples) -> Samples:
    """The samples without stale markers."""
    return without_stale(samples) if isinstance(samples, SampleBlock) else _Fresh(samples)


class _Fresh:
    """Samples that are read later, without stale markers. Implements `Samples`."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Samples) -> None:
        self._inner = inner

    @property
    def series(self) -> int:
        return self._inner.series

    @property
    def count(self) -> int:
        return self._inner.count

    @property
    def portion(self) -> int:
        return self._inner.portion

    def rows(self, low: int, high: int) -> SampleBlock:
        return without_stale(self._inner.rows(low, high))

    def whole(self) -> SampleBlock:
        return without_stale(self._inner.whole())


def without_stale(samples: SampleBlock) -> SampleBlock:
    """The samples without stale markers; the same object when there are none."""
    bits = samples.values.view(np.uint64)
    if not has_stale(bits):
        return samples
    keep = bits != np.uint64(0x7FF0000000000002)
    kept_before = np.concatenate((np.zeros(1, np.int64), np.cumsum(keep, dtype=np.int64)))
    started = samples.start_ts_ms
    return SampleBlock(
        ts_ms=samples.ts_ms[keep],
        values=samples.values[keep],
        offsets=kept_before[samples.offsets],
        start_ts_ms=None if started is None else started[keep],
    )
