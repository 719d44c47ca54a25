"""Functions of a range vector computed from rows of a rollup tier.

Where windows hold whole buckets, the results are those of the samples, up to the rounding of sums. Where they had to be widened to whole
buckets, what adds up over time is scaled back to the range that was asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from promlike.model.blocks import Bool, Float64
from promlike.model.tiers import TierBlock, TierColumn, TierRows
from promlike.promql.calls import arguments
from promlike.promql.calls.absence import absence
from promlike.promql.calls.rates import doubt_counters, range_seconds
from promlike.promql.context import CallContext, Evaluator
from promlike.promql.kernels.rollup import Extreme, Rollup, rollup, window_extremes
from promlike.promql.kernels.tiers import tier_rate
from promlike.promql.vector import TierValue, Value, VectorValue

OF_RATES = TierColumn.FIRST | TierColumn.FIRST_TIME | TierColumn.LAST | TierColumn.LAST_TIME | TierColumn.RESETS


@dataclass(frozen=True, slots=True, kw_only=True)
class OverTiers:
    """How a function is computed from rows of a tier, and which columns of them it needs. Its first argument is a TierValue."""

    columns: TierColumn
    evaluate: Evaluator


Column = Callable[[TierRows], Float64]

PARTS = 2.0**32
"""More than a window can have samples; dividing by it rounds nothing."""


def _run(context: CallContext, ranges: TierValue, kernel: Callable[[TierBlock, Float64, Bool], None]) -> tuple[Float64, Bool]:
    """Call `kernel(rows, out, present)` for portions of the series that cover all of them, spread over threads: `float64[S,T]` of values
    and `bool[S,T]`.
    """
    tier = ranges.tier
    out, present = arguments.new_block(len(ranges), context.grid.count)

    def work(low: int, high: int) -> None:
        for start in range(low, high, tier.portion):
            end = min(start + tier.portion, high)
            kernel(tier.part(start, end).filled(), out[start:end], present[start:end])

    context.map_series(work, len(ranges), work=tier.count + out.size)
    return out, present


def rated(*, is_counter: bool, is_rate: bool) -> Evaluator:
    """`rate`, `increase`, `delta`; see `calls/rates.py`."""

    def evaluate(context: CallContext, args: list[Value]) -> VectorValue:
        ranges = arguments.tier(args, 0)

        def portion(block: TierBlock, out: Float64, present: Bool) -> None:
            rows = block.rows
            tier_rate(
                rows.ends_ms,
                rows.counts,
                rows.first_ms,
                rows.firsts,
                rows.last_ms,
                rows.lasts,
                rows.resets,
                block.offsets,
                ranges.ends_ms,
                ranges.range_ms,
                range_seconds(ranges.range_ms),
                is_counter,
                is_rate,
                out,
                present,
            )

        out, present = _run(context, ranges, portion)
        result = ranges.vector(out if is_rate else _scaled(out, ranges), present)
        if is_counter:
            doubt_counters(context, result)
        return result

    return evaluate


def _rollup(context: CallContext, ranges: TierValue, column: Column, op: Rollup) -> VectorValue:
    """`Rollup` op of a column, as if it held samples at the ends of the buckets."""

    def portion(block: TierBlock, out: Float64, present: Bool) -> None:
        rollup(block.rows.ends_ms, column(block.rows), block.offsets, ranges.ends_ms, ranges.range_ms, int(op), out, present)

    return ranges.vector(*_run(context, ranges, portion))


def of_column(column: Column, op: Rollup) -> Evaluator:
    def evaluate(context: CallContext, args: list[Value]) -> VectorValue:
        return _rollup(context, arguments.tier(args, 0), column, op)

    return evaluate


def summed(column: Column) -> Evaluator:
    """The sum of a column over the range that was asked for."""

    def evaluate(context: CallContext, args: list[Value]) -> VectorValue:
        ranges = arguments.tier(args, 0)
        result = _rollup(context, ranges, column, Rollup.SUM)
        return result.with_values(_scaled(result.block.values, ranges))

    return evaluate


def _scaled(values: Float64, ranges: TierValue) -> Float64:
    return values if ranges.range_ms == ranges.asked_ms else values * (ranges.asked_ms / ranges.range_ms)


def extreme(column: Column, op: Extreme) -> Evaluator:
    def evaluate(context: CallContext, args: list[Value]) -> VectorValue:
        ranges = arguments.tier(args, 0)

        def portion(block: TierBlock, out: Float64, present: Bool) -> None:
            ends = block.rows.ends_ms
            window_extremes(ends, column(block.rows), block.offsets, ranges.ends_ms, ranges.range_ms, int(op), out, present)

        return ranges.vector(*_run(context, ranges, portion))

    return evaluate


def avg_over_time(context: CallContext, args: list[Value]) -> VectorValue:
    """Sum by count; where the sum is beyond float64, the sum of small parts of those of buckets, the same parts whatever else there is."""
    ranges = arguments.tier(args, 0)
    totals = _rollup(context, ranges, lambda rows: rows.sums, Rollup.SUM)
    counts = _rollup(context, ranges, _counts, Rollup.SUM).block.values
    means = totals.block.values / counts
    beyond = np.isinf(means)
    if beyond.any():
        shares = _rollup(context, ranges, lambda rows: rows.sums / PARTS, Rollup.SUM).block.values * (PARTS / counts)
        means = np.where(beyond, shares, means)  # infinite as well where a bucket's sum is
    return totals.with_values(means)


def absent_over_time(context: CallContext, args: list[Value]) -> VectorValue:
    ranges = arguments.tier(args, 0)
    return absence(context, _rollup(context, ranges, _counts, Rollup.PRESENT).block.present)


def _counts(rows: TierRows) -> Float64:
    return rows.counts.astype(np.float64)


def _over(evaluate: Evaluator, columns: TierColumn = TierColumn.COUNT) -> OverTiers:
    """Counts are needed always: to tell rows that have samples."""
    return OverTiers(columns=columns | TierColumn.COUNT, evaluate=evaluate)


OVER_TIERS: dict[str, OverTiers] = {
    "rate": _over(rated(is_counter=True, is_rate=True), OF_RATES),
    "increase": _over(rated(is_counter=True, is_rate=False), OF_RATES),
    "delta": _over(rated(is_counter=False, is_rate=False), OF_RATES),
    "sum_over_time": _over(summed(lambda rows: rows.sums), TierColumn.SUM),
    "count_over_time": _over(summed(_counts)),
    "avg_over_time": _over(avg_over_time, TierColumn.SUM),
    "min_over_time": _over(extreme(lambda rows: rows.mins, Extreme.MIN), TierColumn.MIN),
    "max_over_time": _over(extreme(lambda rows: rows.maxs, Extreme.MAX), TierColumn.MAX),
    "first_over_time": _over(of_column(lambda rows: rows.firsts, Rollup.FIRST), TierColumn.FIRST),
    "last_over_time": _over(of_column(lambda rows: rows.lasts, Rollup.LAST), TierColumn.LAST),
    "ts_of_first_over_time": _over(of_column(lambda rows: rows.first_ms / 1000.0, Rollup.FIRST), TierColumn.FIRST_TIME),
    "ts_of_last_over_time": _over(of_column(lambda rows: rows.last_ms / 1000.0, Rollup.LAST), TierColumn.LAST_TIME),
    "present_over_time": _over(of_column(_counts, Rollup.PRESENT)),
    "absent_over_time": _over(absent_over_time),
}
"""The functions for which a row tells enough of its samples. All others always get samples."""
